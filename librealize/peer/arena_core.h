#pragma once

#include <memory>
#include <string>

#include "librealize/peer/core.h"
#include "librealize/peer/events.h"

namespace realize::peer {

class ArenaFileSystem;

/// One arena of one peer, without threads or sockets of its own: the peer runs it on real threads and connections, the
/// simulator on fake ones. Thread: core lock held for every call, unless noted.
class ArenaCore final : public ArenaService {
 public:
  struct Hooks {
    std::function<void(Events)> emit;  ///< called under the core lock; must only queue
    std::function<void()> watchChanged{};  ///< likewise: Folder::watchDescriptor() is another one now
    std::function<std::string(const PeerKey&)> nameOf{};  ///< likewise must not wait; empty: keys instead of names
  };
  /// Opens or makes the database and the folder. `fresh`: the arena was just created or joined here.
  /// Errors: as of the database (WrongVersion, Corrupt); an absent folder is not an error but suspends.
  static Result<std::unique_ptr<ArenaCore>> open(Environment env, ArenaOptions options, ArenaSettings settings,
                                                 Hooks hooks, bool fresh, const std::string& sqliteVfs = "");
  ~ArenaCore() override;

  /// Starts scanning and watching. `rootMark` is set on a fresh arena's root. `joining`: the arena was joined once, see
  /// Folder::Beginning.
  void start(Mark rootMark, bool joining);
  void stop();

  Core& core();
  ArenaFileSystem& fileSystem();
  /// The same for frontends, with the versions of conflicts (conflict_folder.h): a failing database is an error there, and
  /// suspends the arena. Thread: any.
  FileSystem& guardedFileSystem();
  void setSettings(const ArenaSettings& settings);
  /// Another process may be using a copy of this database: what is changed from now on is told apart from what it changed.
  void beginLife();

  /// Folder::drainWatch(), of which a failing database suspends the arena.
  void drainWatch();

  // ArenaService
  void onAnnounce(const PeerKey& from, const ArenaState& state) override;
  void serveState(const PeerKey& from, bool barrier, std::function<void(Result<ArenaState>)> done) override;
  Result<PullPage> servePull(const PeerKey& from, const PullRequest& request) override;
  Result<logic::WholePage> serveCompare(const PeerKey& from, const logic::WholeRequest& request) override;
  void serveChunkList(const PeerKey& from, const BlobId& blob, uint8_t hops,
                      std::function<void(Result<ChunkList>)> done) override;
  void serveGet(const PeerKey& from, const GetRequest& request, ChunkSink sink,
                std::function<void(Result<std::vector<WantStatus>>)> done) override;
  void servePromise(const PeerKey& from, const std::vector<EntryContent>& asked,
                    std::function<void(Result<KeepAnswers>)> done) override;
  void onRelease(const PeerKey& from, const std::vector<EntryContent>& promised) override;
  Result<std::vector<bool>> serveHolds(const PeerKey& from, const std::vector<EntryContent>& asked) override;
  void serveLacking(const PeerKey& from, const LackRequest& request, std::function<void(Result<std::set<PeerKey>>)> done) override;
  void connected(RemoteArena& remote) override;
  void disconnected(const PeerKey& key) override;

  // What the public API shows (arena_api.cc)
  Result<EntryInfo> stat(const std::string& path);
  Result<std::vector<EntryInfo>> list(const std::string& path);
  Result<std::vector<EntryInfo>> conflicts();
  /// Errors: NotFound (no such entry, conflict or version), Busy (changed here and not read yet), Unreachable (the bytes
  /// of that version are not here; `missing` says which).
  Result<void> resolve(const std::string& path, const std::string& label, std::optional<HeadInfo>* missing = nullptr);
  Result<std::vector<HistoryItem>> history(const std::string& path, size_t limit);
  Result<WhyReport> why(const std::string& path);
  ArenaStatus status();

 private:
  ArenaCore();
  struct State;
  std::unique_ptr<State> s_;
};

}  // namespace realize::peer
