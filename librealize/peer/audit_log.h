#pragma once

// The audit log: a text file with a line for each change and each connection, for people and for grep.

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "librealize/base/clock.h"
#include "librealize/base/posix_disk.h"
#include "librealize/peer/events.h"
#include "librealize/peer/serial_thread.h"
#include "realize/peer.h"

namespace realize::peer {

struct AuditSettings {
  bool on = true;
  std::string path;                   ///< absolute
  uint64_t rotateBytes = 8u << 20;    ///< then the file becomes PATH.1, and that PATH.2, ...
  uint64_t keep = 4;                  ///< so many of those, besides PATH itself
  uint64_t keepDays = 0;              ///< and none that was written last so many days ago; 0: whatever its age
};

/// A line is `TIME ARENA PEER WHAT PATH BEFORE -> AFTER DETAIL`, parted by single blanks: UTC with milliseconds; versions
/// as the beginning of their blob's id, ':' and the size in bytes; "-" for what there is not; DETAIL, which may be missing, to
/// the end of the line. In the others, what is a blank, a backslash, a control character or no UTF-8 stands as \xHH.
///
/// Lines wait in memory, at most kMaxWaitingBytes; those beyond, and those that the disk did not take, are counted, and a
/// line says so once there is room. Nothing waits for the disk, but stop(). Thread: any.
class AuditLog {
 public:
  /// `nameOf`: of a peer's key in hexadecimal. Called on the log's own thread.
  AuditLog(std::function<std::string(const std::string&)> nameOf, Clock& clock);
  void configure(const AuditSettings& settings);
  void note(Events events);
  void note(const Event& event) { note(eventsOf(event)); }
  struct Lost {
    uint64_t lines = 0;  ///< since the start
    std::string why;
  };
  Lost lost() const;
  /// Writes what waits, and ends.
  void stop() { thread_.stop(); }

  static std::string lineFor(const Event& event, const std::string& peerName);
  static constexpr size_t kMaxWaitingBytes = 32u << 20;

 private:
  /// Events, or settings that hold for those after them.
  struct Item {
    Events events;
    size_t count = 0;  ///< of those, from the first on
    std::shared_ptr<const AuditSettings> settings;
  };
  void add(Item item);
  void write();
  size_t append(const std::string& text);
  bool open();
  bool rotate();
  void dropOld();
  void lose(uint64_t lines, const std::string& why);

  const std::function<std::string(const std::string&)> nameOf_;
  Clock& clock_;
  std::atomic<bool> on_{false};
  mutable std::mutex mutex_;  // guards what follows
  std::deque<Item> waiting_;
  size_t waitingBytes_ = 0;
  bool posted_ = false;
  Lost lost_;
  uint64_t untold_ = 0;  // of those, of which no line tells yet
  // On the thread:
  AuditSettings settings_;
  OwnedFd file_;
  uint64_t sizeBytes_ = 0;
  int64_t lookedForOldNs_ = 0;  // Unix time of the last dropOld()
  static constexpr int64_t kLookForOldNs = 3'600'000'000'000;
  SerialThread thread_{"realize-audit"};
};

}  // namespace realize::peer
