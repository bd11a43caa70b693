#pragma once

// A household that lives through a seed: machines, their users, the network and bad luck; and what must hold of it.

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "librealize/logic/ignore.h"
#include "tests/sim/hardship.h"
#include "tests/sim/machine.h"
#include "tests/sim/script.h"
#include "tests/support/sim_link.h"

namespace realize::test {

/// A promise was broken: the sentence says which.
struct Broken : std::runtime_error {
  explicit Broken(std::string what) : std::runtime_error((std::replace(what.begin(), what.end(), '\0', '0'), what)) {}
};

struct WorldOptions {
  uint64_t seed = 0;
  int steps = 0;        ///< of users; 0: by the seed
  size_t peers = 0;     ///< 0: by the seed
  bool faults = true;
  peer::ConflictRule conflicts = peer::ConflictRule::Keep;  ///< of two machines in three
  bool races = true;    ///< users who are quicker than the program
  bool damage = true;   ///< of chunks on their way
  Script* script = nullptr;  ///< recorded, or followed
  std::vector<Mark> marks{};  ///< of all machines, each linked with each; empty: by the seed
  bool echo = false;    ///< each line of the story to stdout as it happens
  bool wide = false;    ///< users do more: through mounts
  bool rush = false;    ///< users do most things right after another, to few names
  Hardships hard{};     ///< what befalls it beside the usual
  bool calls = false;   ///< the story tells what the programs do on their disks, too
  std::string follow{}; ///< ... and what becomes of the entries of this name
};

class World {
 public:
  explicit World(const WorldOptions& options);
  ~World();
  /// Everything, from the first file to the last check. Throws Broken.
  void run();

  const std::string& story() const { return story_; }
  const std::map<std::string, uint64_t>& counters() const { return counters_; }
  uint64_t steps() const { return queue_.steps(); }
  /// Where in the story each turn began.
  const std::vector<size_t>& turns() const { return turns_; }

 private:
  friend class Scope;  // exhaustive.cc
  // world.cc
  void addMachine(Mark mark);
  void tellMembers();
  void watchLink(SimLink& link);
  void join();
  void setUp();
  void live();
  void plan(int64_t atNs, std::function<void()> turn);
  bool comes(size_t turn);
  void heal();
  void settleDown(const char* when);
  std::string unsettled();
  void stepOnce();
  void runFor(int64_t ns);
  void startPeer(size_t number);
  void afterEvent();
  void watchAside(size_t number, const FakeCall& call);
  void letGoHere(size_t number, const std::string& path);
  void crashed(size_t number);
  void say(const std::string& line);
  void say(size_t number, const std::string& line) { say(name(number) + ": " + line); }
  void count(const std::string& what, uint64_t by = 1) { counters_[what] += by; }
  size_t first() const { return apart_ && leaver_ == 0 ? 1 : 0; }  ///< of those that are looked at now
  std::string name(size_t number) const { return std::string(1, char('A' + number)); }
  uint64_t below(uint64_t bound) { return random_.below(bound); }
  bool oneIn(uint64_t n) { return random_.oneIn(n); }

  // faults.cc
  void planFaults();
  void fault();
  void losePower(size_t number);
  bool isToldOf(size_t number, const std::set<std::string>& names, const BlobId& blob);
  std::map<uint64_t, std::string> contentsAt(Directory& root);
  void saveTornAgain(size_t number);
  void reconnectSoon(SimLink& link);
  void raceWith(size_t number, const FakeCall& call);
  void watchName(size_t number, const FakeCall& call);
  void tell(size_t number, const FakeCall& call);
  void tellEvent(size_t number, const Event& event);

  // hardship.cc
  bool suffers(Hardship hardship) const { return options_.hard.contains(hardship); }
  void planHardships();
  void failDisk(Hardship hardship);
  std::optional<Error> failureOf(size_t number, const FakeCall& call);

  // disasters.cc
  void planDisasters();
  void takeBackup(size_t number);
  void disaster();
  void endProcess(size_t number);
  void loseDisk(size_t number, const std::string& what, const std::string& counter, bool database, bool folder);
  void loseTokens(size_t number, const std::map<BlobId, std::string>& before, bool database);
  bool isLost(const BlobId& blob, const std::map<BlobId, std::string>& bytes);
  bool giveUpLost();
  void giveUp(const std::string& path);
  void countAbsences();

  // clones.cc
  struct Clone {
    size_t of = 0, copy = 0;
  };
  void planClone();
  void cloneMachine();
  Machine& machineOf(const SimPeer& peer);
  uint64_t lifeOf(const SimPeer& peer);
  void connect(SimLink& link);
  bool meets(SimLink& link, int side);
  void tellOfTwin(Machine& machine, const SimPeer& by);
  void separateClone();

  // exposed.cc
  struct Knowledge {
    VersionVector seen;
    std::map<Dot, BlobId> heads;  ///< of what is alive
    std::set<Dot> lastResorts;  ///< of these, what was let go all the same
    std::set<BlobId> files;       ///< that it knows in its folder
    std::set<BlobId> durable;     ///< those of which it says so
    std::set<BlobId> replaced;  ///< by another version of the same entry, lately
    bool letGo(const Dot& dot) const;
  };
  Knowledge knowledgeOf(size_t number);
  void exposeDisk(size_t number);
  void expose(size_t number, const Knowledge& lost, bool database);
  std::set<BlobId> currentBut(size_t number);
  std::string loseUnsynced(size_t number, const std::map<uint64_t, std::string>& before);
  void loseNames(size_t number, const Knowledge& lost, const std::map<BlobId, std::string>& before);

  // user.cc: what users do to their folder
  using Steps = std::vector<std::function<void()>>;
  void userStep();
  void act(size_t number, Steps steps);
  void doing(size_t number, const std::function<void(Directory&)>& work);
  std::vector<std::pair<std::string, FileStat>> walk(Directory& root, const std::string& below = "");
  std::string pick(size_t number, FileStat::Type type);
  std::string pickFolder(size_t number);
  std::string newPath(size_t number);
  std::string newContent(size_t bytes);
  size_t someSize();
  std::string contentOf(Directory& root, const std::string& path);
  std::string contentOf(DiskFile& file);
  std::set<Token> tokensAt(Directory& root, const std::string& path);
  void letGo(size_t number, const std::set<Token>& tokens);
  void wrote(size_t number, Directory& root, const std::string& path);
  void wrote(size_t number, const std::set<Token>& tokens, const std::string& path);
  bool fill(size_t number, Directory& root, const std::string& path, const std::string& content);
  bool put(size_t number, Directory& root, const std::string& path, const std::string& content);
  void move(size_t number, Directory& root, const std::string& from, const std::string& to);
  void syncFile(size_t number, Directory& root, const std::string& path);
  void removeAll(size_t number, Directory& root, const std::string& path);
  void editSomething(size_t number);
  void moveSomething(size_t number);
  void removeSomething(size_t number);
  void markSomething(size_t number);
  void readSomething(size_t number);
  bool resolveSomething(size_t number);
  /// In one of nineteen the clocks run at rates of their own.
  bool drifting() const { return options_.seed % 19 == 12; }
  /// One in eleven households has guards that hold a few changes back.
  bool guarded() const { return options_.seed % 11 == 5; }
  void answerGuards(size_t number, bool keep);
  void takeVersion(size_t number, const EntryId& id, const Dot& dot, bool brought);

  /// Of each content the tokens are known, also when nobody has it any more.
  bool keepsContents() const { return disasters_ || options_.wide || guarded(); }

  // mount_steps.cc: what they do through a mount
  void mounted(size_t number, const std::function<void(FileSystem&)>& work);
  bool looked(size_t number, const std::function<void(peer::Core&)>& look);
  void actMounted(size_t number, Steps steps);
  std::string pickMounted(size_t number, std::optional<EntryKind> kind);
  std::string newMountedPath(size_t number);
  Result<NodeId> nodeAt(FileSystem& fs, const std::string& path);
  std::optional<std::set<Token>> tokensMounted(size_t number, const std::string& path);
  void wroteMounted(size_t number, Token token, const std::string& path);
  void syncMounted(size_t number, FileSystem& fs, FileHandle handle, const std::string& path, const std::set<Token>& tokens);
  void tellMounted(size_t number, const Result<void>& done, const std::string& counter);
  void mustBe(size_t number, FileSystem& fs, const std::string& path, NodeId node);
  bool onDiskAt(size_t number, NodeId node);
  std::string readWhole(FileSystem& fs, FileHandle handle, uint64_t size);
  std::set<Token> tokensOver(const std::string& was, const std::string& content);
  void mountStep(size_t number);
  Steps createSteps(size_t number, const std::string& path, bool exclusive, bool sync);
  enum class Writing { Emptied, Over, Behind };
  void writeMounted(size_t number);
  void writeMounted(size_t number, const std::string& path, Writing how, const std::string& content, int64_t pause, bool sync);
  void syncMounted(size_t number, const std::string& path);
  void makeMounted(size_t number, const std::string& path, const std::string& target);
  void changeMounted(size_t number);
  void exposeShown(size_t number, const std::string& path);
  void removeMounted(size_t number, const std::string& path);
  void renameMounted(size_t number);
  void renameMounted(size_t number, const std::string& from, const std::string& to, RenameFlag flag);
  void readMounted(size_t number);

  // wide_steps.cc: what they do more rarely
  void wideStep(size_t number);
  void changeLink(size_t number);
  void moveIntoEachOther(size_t number);
  void patch(size_t number, Directory& root, const std::string& path, const std::string& content);

  // saves.cc
  void saveLikeAProgram(size_t number);
  void saveMounted(size_t number);
  bool tookAway(size_t number, Directory& root, const std::string& path, uint64_t inode);

  // hard_links.cc: who gives a file a second name
  bool linking() const { return options_.seed % 13 == 4; }
  void linkStep(size_t number);
  std::map<uint64_t, size_t> namesOf(Directory& root);
  std::string pickLinked(size_t number);
  void makeLink(size_t number);
  std::set<Token> tokensGoing(size_t number, Directory& root, const std::string& path);
  void noteChanged(size_t number, Directory& root, const std::string& path);

  // ignoring.cc: who has files that are nobody else's
  bool ignoring() const { return options_.seed % 17 == 9 && !disasters_; }
  logic::IgnoreTree patternsAt(Directory& root);
  std::set<Token> tokensIgnored();
  void ignoreStep(size_t number);
  void writePatterns(size_t number);
  void clearWay(size_t number);
  bool mayStay(size_t number, Directory& root, const std::string& path);

  // removals.cc: who is removed from the household, goes on by himself, and is added again
  bool leaving() const { return options_.seed % 13 == 12 && !disasters_; }
  void planRemoval();
  void removePeer();
  void addAgain();
  void hears(size_t number, int news);
  void tellEachOther();
  bool refuses(const SimLink& link);
  bool allKnow() const;
  void noteParting();
  void agreeWithout();
  std::map<BlobId, std::string> bytesAtLeaver();
  bool isLeaver(const SimPeer& peer) const { return leaver_ && machines_[*leaver_].peer.get() == &peer; }
  /// It is no part of what is looked at now.
  bool isApart(const SimPeer& peer) const { return apart_ && isLeaver(peer); }
  bool isApart(const SimLink& link) const { return isApart(link.end(0)) || isApart(link.end(1)); }

  // checks.cc
  void checkConsensus();
  void checkTrees();
  std::string unreadAt(size_t number);
  void checkFolders();
  void checkTokens();
  void checkReading();
  void checkCaches();
  void checkQuiet();
  std::string treeOf(size_t number);
  void follow(size_t number);
  std::string rowsOf(size_t number);
  void treeBelow(size_t number, const EntryId& directory, const std::string& path, std::string& out);
  void addContent(Directory& root, const std::string& path, std::map<BlobId, std::string>& out);
  void addFolder(Directory& root, std::map<BlobId, std::string>& out);
  void addBytesOn(size_t number, bool known, std::map<BlobId, std::string>& out);
  std::map<BlobId, std::string> bytesEverywhere(bool known = false);

  WorldOptions options_;
  FakeRandom random_;
  FakeRandom answers_;  ///< of its own, so that a household with guards lives through what another would
  SimQueue queue_;
  std::vector<Machine> machines_;
  std::vector<std::unique_ptr<SimLink>> links_;
  std::map<std::string, uint64_t> counters_;
  std::string story_;
  std::vector<size_t> turns_;
  size_t planned_ = 0;
  bool healing_ = false;
  bool disasters_ = false;
  bool racing_ = false;
  int stepsLeft_ = 0;
  Token lastToken_ = 0;
  std::map<Token, std::string> written_;  ///< where and by whom
  /// Names of a file that had another one that went, and on which machine.
  std::map<Token, std::map<std::string, size_t>> linkGone_;
  std::map<Token, std::string> excused_;  ///< let go or lost, and why
  std::map<BlobId, std::set<Token>> contents_;  ///< of all that was ever written, where disks are lost
  std::set<BlobId> exposed_;  ///< were on a disk when that or its database was lost: all that may go without its user's doing
  std::map<BlobId, std::set<size_t>> forgotBy_;  ///< the machines whose databases named it and were lost
  int givenUp_ = 0;
  std::optional<Clone> clone_;
  std::optional<size_t> leaver_;  ///< was removed from the household, and may have been added again
  bool apart_ = false;            ///< it is out for now, and all the others have heard
  std::set<Token> stayed_;        ///< what the others had in their folders when the last of them heard
};

std::set<Token> tokensIn(const std::string& content);
BlobId blobOf(const std::string& content);

}  // namespace realize::test
