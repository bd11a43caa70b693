#pragma once

// Two peers in one thread: A on a fake disk in memory, B on the system's disk. A fork takes A along as it is, so that
// each life of B meets the same A.

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/support/sim_link.h"
#include "tests/support/sim_peer.h"
#include "tests/support/temp_dir.h"

namespace realize::test {

inline const std::string kNone = "<none>";

class KillHousehold {
 public:
  KillHousehold(const std::string& where, Mark markOfB);
  ~KillHousehold();

  /// A file of A's, with these bytes; made if need be.
  void writeAtA(const std::string& path, const std::string& content);
  void inFolderOfA(const std::function<void(Directory&)>& work);
  /// Lets time pass.
  void runFor(int64_t ms);
  /// B starts and meets A; what they have to do is done. Empty, or why it does not end.
  std::string meet(const std::function<void(peer::Core&)>& act = {});
  /// All that is under way is done. Empty, or why it does not end.
  std::string rest();
  void part();

  /// Everything below a folder of B's but our own, with what files hold; "" as content of what is no file.
  std::vector<std::pair<std::string, std::string>> filesOfB() const;
  std::string contentAtB(const std::string& path) const;
  std::vector<std::string> temporariesOfB() const;
  bool cachedAtB(const std::string& content) const;  ///< a file of its cache holds this
  /// Contents that count as a version of the path, in the tree that A shows.
  bool isHead(const std::string& path, const std::string& content);

  SimPeer& a() { return *a_; }
  SimPeer& b() { return *b_; }

 private:
  std::string unsettled();
  SimQueue queue_;
  std::unique_ptr<SimPeer> a_, b_;
  std::unique_ptr<SimLink> link_;
};

}  // namespace realize::test
