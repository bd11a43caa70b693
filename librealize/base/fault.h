#pragma once

// Deliberate faults: each breaks one promise, to show that tests/sim finds the breach (`realize-sim --all-faults`).
// Compiled in only with -Dfaults=true; without, faulty() is false for the compiler, too.

#include <cstdint>

namespace realize {

enum class Fault : uint8_t {
  None,
  SkipFileSync,       ///< received bytes are put in place without a sync
  TellUnwritten,      ///< a version is told of while its file is not on the disk
  BelieveSync,        ///< a sync that succeeds is believed after one that failed
  SkipDurable,        ///< what others rely on is not made durable first
  ForgetUnsynced,     ///< a name that went with the power is read as the user's removal
  CompareTimes,       ///< of two versions the one with the later mtime wins
  DeleteBlind,        ///< a removal takes along versions that it has not seen
  VectorEarly,        ///< a batch counts as complete with its first page
  TrustTheRow,        ///< a file is replaced or removed as it was known, not as it is
  OverwriteUnknown,   ///< what has a name already, unknown to us, is replaced
  RemoveUnread,       ///< a folder's removal takes along what nobody has read
  TakeUnverified,     ///< bytes are believed without a look at their hash
  EvictUnlocked,      ///< a copy is let go as soon as others were asked to keep theirs
};

#ifdef REALIZE_FAULTS
/// The one that is active. Set before anything else runs.
inline Fault activeFault = Fault::None;
inline bool faulty(Fault fault) { return activeFault == fault; }
#else
constexpr bool faulty(Fault) { return false; }
#endif

}  // namespace realize
