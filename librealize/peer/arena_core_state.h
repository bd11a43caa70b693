#pragma once

// What the parts of an arena's core share (arena_core.h): its opening, its failures and what peers ask of it are in
// arena_core.cc, its transactions and what they tell the parts in arena_transact.cc.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "librealize/peer/alike_names.h"
#include "librealize/peer/arena_core.h"
#include "librealize/peer/arena_file_system.h"
#include "librealize/peer/authors.h"
#include "librealize/peer/catching_remote.h"
#include "librealize/peer/conflict_folder.h"
#include "librealize/peer/conflict_policy.h"
#include "librealize/peer/copies.h"
#include "librealize/peer/exchange.h"
#include "librealize/peer/folder.h"
#include "librealize/peer/guarded_file_system.h"
#include "librealize/peer/invalidations.h"
#include "librealize/peer/lacking.h"
#include "librealize/peer/marks.h"
#include "librealize/peer/transfers.h"
#include "librealize/peer/trimmer.h"
#include "librealize/peer/unwritten.h"

namespace realize::peer {

/// What an arena's parts post runs with a failing database caught: it ends the arena's work, not the process.
class CatchingScheduler final : public Scheduler {
 public:
  explicit CatchingScheduler(Scheduler& inner) : inner_(inner) {}
  void onCore(std::function<void()> job) override { inner_.onCore(caught(std::move(job))); }
  void onCoreAfter(int64_t delayMs, std::function<void()> job) override { inner_.onCoreAfter(delayMs, caught(std::move(job))); }
  void onPool(bool interactive, std::function<void()> job) override { inner_.onPool(interactive, std::move(job)); }
  FairMutex& coreLock() override { return inner_.coreLock(); }

  std::function<void(const Error&)> failed;
  std::shared_ptr<bool> alive;

 private:
  std::function<void()> caught(std::function<void()> job) {
    return [this, alive = alive, job = std::move(job)] {
      auto outcome = store::catching(job);
      if (!outcome.ok() && *alive && failed) failed(outcome.error());
    };
  }
  Scheduler& inner_;
};

struct ArenaCore::State {
  State(Environment environment, ArenaOptions options, ArenaSettings settings, std::unique_ptr<store::ArenaStore> opened)
      : catching(environment.scheduler),
        env{environment.clock, environment.random, environment.disk, catching, std::move(environment.watch),
            std::move(environment.bootId)},
        store(std::move(opened)), tree(*store, env.clock, env.random, options.self),
        authors(*store, tree, options.self), core{env, std::move(options), settings, *store, tree} {
    core.authors = &authors;
    core.unwritten = &unwritten;
    core.syncAll = std::make_shared<SyncAll>();
  }

  CatchingScheduler catching;
  Environment env;
  std::unique_ptr<store::ArenaStore> store;
  logic::Tree tree;
  Authors authors;
  Core core;
  Unwritten unwritten{core};
  Invalidations invalidations;
  std::unique_ptr<Folder> folder;
  std::unique_ptr<Transfers> transfers;
  std::unique_ptr<Marks> marks;
  std::unique_ptr<Exchange> exchange;
  std::unique_ptr<Lacking> lacking;
  std::unique_ptr<Trimmer> trimmer;
  std::unique_ptr<Copies> copies;
  std::unique_ptr<ConflictPolicy> conflictPolicy;
  std::unique_ptr<AlikeNames> alikeNames;
  std::unique_ptr<ArenaFileSystem> fileSystem;
  std::unique_ptr<ConflictFolder> conflictFolder;
  std::unique_ptr<GuardedFileSystem> guardedFileSystem;
  Hooks hooks;
  int depth = 0;
  std::map<PeerKey, std::shared_ptr<CatchingRemote>> remotes;
  std::vector<Event> told;  ///< by the transaction that is open
  std::deque<Events> untold;  ///< by those that are committed later, in their order
  uint64_t realBytes = 0;         ///< when last looked at
  bool databaseFailed = false;
  int64_t reviveMs = 0;   ///< until the next try
  int64_t revivedNs = 0;  ///< monotonic
  uint64_t applyRound = 0;
  bool fresh = false;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  bool transact(const std::function<void()>& work, bool rested);
  bool transactLater(const std::function<void()>& work, std::function<void()> committed);
  void tellTo(const Events& last);
  bool transacted(bool rested, const std::function<void()>& transaction);
  bool workAndDistribute(const std::function<void()>& work, bool rested);
  void distribute(const std::vector<logic::Effect>& effects, bool rested);
  struct Paths;
  void note(const logic::Effect& effect, Paths& paths);
  void invalidate(const logic::Effect& effect, NodeId node);
  void suspend(const std::string& why);
  bool makeDurable();
  void databaseFails(const Error& error);
  bool guarded(const std::function<void()>& work);
  void reviveLater(const Error& error);
  void revive();
  void goOn();
  Folder::Beginning noteIdentity();
  void applyAll(uint64_t round, NodeId after);
  void allApplied();
};

}  // namespace realize::peer
