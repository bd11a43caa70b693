#include <cerrno>
#include <string>
#include <string_view>

#include "frontends/fuse/errors.h"
#include "frontends/fuse/operations.h"
#include "frontends/fuse/session.h"

namespace realize::fuse {

namespace {

// Access lists among them: cp and tar would take one that is stored for one that is obeyed, and leave out chmod.
bool isKernels(std::string_view name) { return name.starts_with("system."); }

// The kernel asks for it before each write. The mount is nosuid, so it means nothing here.
bool isCapability(std::string_view name) { return name == "security.capability"; }

// As getxattr(2): size 0 asks how long the value is.
void replyValue(fuse_req_t req, const std::string& value, size_t size) {
  if (size == 0)
    fuse_reply_xattr(req, value.size());
  else if (value.size() > size)
    fuse_reply_err(req, ERANGE);
  else
    fuse_reply_buf(req, value.data(), value.size());
}

}  // namespace

void opGetxattr(fuse_req_t req, fuse_ino_t node, const char* name, size_t size) {
  if (isKernels(name)) return replyCode(req, Code::Unsupported);
  if (isCapability(name)) {
    fuse_reply_err(req, ENODATA);
    return;
  }
  auto value = sessionOf(req).fileSystem.getXattr(node, name);
  if (!value.ok()) {
    fuse_reply_err(req, toXattrErrno(value.code()));
    return;
  }
  replyValue(req, *value, size);
}

void opListxattr(fuse_req_t req, fuse_ino_t node, size_t size) {
  auto names = sessionOf(req).fileSystem.listXattrs(node);
  if (!names.ok()) return replyCode(req, names.code());
  std::string list;
  for (const std::string& name : *names)
    if (!isKernels(name) && !isCapability(name)) list.append(name).push_back('\0');
  replyValue(req, list, size);
}

void opSetxattr(fuse_req_t req, fuse_ino_t node, const char* name, const char* value, size_t size, int flags) {
  if (isKernels(name)) return replyCode(req, Code::Unsupported);
  Session& s = sessionOf(req);
  auto result = s.fileSystem.setXattr(node, name, std::string(value, size), flags);
  s.nodes.bumpOwn();
  fuse_reply_err(req, result.ok() ? 0 : toXattrErrno(result.code()));
}

void opRemovexattr(fuse_req_t req, fuse_ino_t node, const char* name) {
  if (isKernels(name)) return replyCode(req, Code::Unsupported);
  Session& s = sessionOf(req);
  auto result = s.fileSystem.removeXattr(node, name);
  s.nodes.bumpOwn();
  fuse_reply_err(req, result.ok() ? 0 : toXattrErrno(result.code()));
}

}  // namespace realize::fuse
