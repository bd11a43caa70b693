// Programs that people use, inside a mount. The scripts stand in programs/.

#include <cstdlib>
#include <thread>

#include "mounted.h"

namespace realize::test {

namespace {

// Runs a script with the mount as its working folder and a folder outside of it as $1. Exit 77 means that a program
// it needs is not installed.
void run(const std::string& script, bool descriptors) {
  CAPTURE(script);
  CAPTURE(descriptors);
  Mounted m({}, descriptors);
  TemporaryFolder outside;
  std::string path = std::string(REALIZE_PROGRAMS) + "/" + script;

  int status = std::system(("cd '" + m.folder.path() + "' && sh '" + path + "' '" + outside.path() + "' >'" +
                            outside.path() + "/log' 2>&1").c_str());

  int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (code == 77) {
    MESSAGE("skipped: " << script << ": " << readFile(outside.path() + "/log"));
    return;
  }
  if (code != 0) FAIL_CHECK(script << " failed: " << readFile(outside.path() + "/log"));
  CHECK(m.mount->unmount().ok());
  CHECK(m.fs.openHandles() == 0);
}

}  // namespace

TEST_CASE("git clones, commits, checks and branches inside the mount") {
  for (bool descriptors : {false, true}) run("git.sh", descriptors);
}

TEST_CASE("sqlite3 works inside the mount in WAL and delete modes") {
  for (bool descriptors : {false, true}) run("sqlite.sh", descriptors);
}

TEST_CASE("make builds C++ inside the mount") { run("build.sh", true); }

TEST_CASE("editors' ways of saving work inside the mount") {
  for (bool descriptors : {false, true}) run("save.sh", descriptors);
}

TEST_CASE("tar, cp, mv, rm and find agree about what is in the mount") { run("coreutils.sh", false); }

}  // namespace realize::test
