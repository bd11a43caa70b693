#include "frontends/daemon/fuse_mounter.h"

#include <charconv>

#include "frontends/fuse/mount.h"

namespace realize::daemon {

namespace {

class FuseHandle : public MountHandle {
 public:
  explicit FuseHandle(std::unique_ptr<fuse::Mount> mount) : mount_(std::move(mount)) {}
  Result<void> unmount() override { return mount_->unmount(); }

 private:
  std::unique_ptr<fuse::Mount> mount_;
};

Result<void> apply(const std::string& option, fuse::MountOptions& options) {
  constexpr std::string_view kThreads = "threads=";
  if (option == "allow_other") {
    options.allowOther = true;
  } else if (option == "no_allow_other") {
    options.allowOther = false;
  } else if (option.starts_with(kThreads)) {
    const char* begin = option.data() + kThreads.size();
    const char* end = option.data() + option.size();
    auto [stop, failed] = std::from_chars(begin, end, options.threads);
    constexpr unsigned kMostThreads = 64;
    if (failed != std::errc() || stop != end || options.threads < 1 || options.threads > kMostThreads)
      return Error{Code::InvalidArgument, option + ": between 1 and 64 threads are possible"};
  } else {
    return Error{Code::InvalidArgument,
                 option + ": no such mount option; there are allow_other, no_allow_other, threads=N"};
  }
  return {};
}

}  // namespace

MountBackend fuseMounter() {
  return [](std::shared_ptr<Arena> arena, const std::string& mountPoint, const std::vector<std::string>& words,
                    std::function<void()> ended) -> Result<std::unique_ptr<MountHandle>> {
    fuse::MountOptions options;
    options.arenaName = arena->name();
    options.onEnd = [ended](const fuse::MountEnd&) { ended(); };
    for (auto& word : words) REALIZE_TRY(apply(word, options));
    REALIZE_ASSIGN(auto mount, fuse::Mount::start(std::move(arena), mountPoint, std::move(options)));
    return std::unique_ptr<MountHandle>(new FuseHandle(std::move(mount)));
  };
}

}  // namespace realize::daemon
