// `realize` and `realize-mount` on a FakePeer: a real process and a real socket, without a network, and without the
// kernel's mounts unless REALIZE_FAKE_FUSE is set.
// The name that it is called by chooses the program.

#include <cstdlib>
#include <string>

#include "frontends/cli/commands.h"
#include "frontends/daemon/fuse_mounter.h"
#include "frontends/fuse/mount.h"
#include "tests/support/fake_peer.h"

namespace {

class NoMount : public realize::daemon::MountHandle {
 public:
  realize::Result<void> unmount() override { return {}; }
};

realize::Result<std::unique_ptr<realize::daemon::MountHandle>> pretendMount(std::shared_ptr<realize::Arena>,
                                                                            const std::string&,
                                                                            const std::vector<std::string>& options,
                                                                            std::function<void()>) {
  for (auto& option : options)
    if (option == "bad") return realize::Error{realize::Code::InvalidArgument, "bad: no such mount option"};
  return std::unique_ptr<realize::daemon::MountHandle>(new NoMount);
}

}  // namespace

int main(int argc, char** argv) {
  using realize::test::FakePeer;
  realize::daemon::Library library{FakePeer::init, FakePeer::open, pretendMount, {}, "0.0-fake"};
  if (getenv("REALIZE_FAKE_FUSE")) {
    library.mount = realize::daemon::fuseMounter();
    library.clearMount = [](const std::string& point) { return realize::fuse::unmountPath(point, false); };
  }
  bool mount = std::string(argv[0]).ends_with("realize-mount-fake");
  return realize::cli::runProgram(mount ? "realize-mount" : "realize", argc, argv, library);
}
