#pragma once

// The operations, each as libfuse calls it (fuse_lowlevel.h says what each is given and must reply). All of them
// return without waiting for the network.

#include "frontends/fuse/fuse_api.h"

namespace realize::fuse {

// operations.cc
void opInit(void* userdata, fuse_conn_info* connection);
void opStatfs(fuse_req_t req, fuse_ino_t node);
void opGetattr(fuse_req_t req, fuse_ino_t node, fuse_file_info* file);
void opSetattr(fuse_req_t req, fuse_ino_t node, struct stat* wanted, int valid, fuse_file_info* file);

// operations_names.cc
void opLookup(fuse_req_t req, fuse_ino_t parent, const char* name);
void opForget(fuse_req_t req, fuse_ino_t node, uint64_t count);
void opForgetMulti(fuse_req_t req, size_t count, fuse_forget_data* forgets);
void opReadlink(fuse_req_t req, fuse_ino_t node);
void opMknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t device);
void opMkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode);
void opUnlink(fuse_req_t req, fuse_ino_t parent, const char* name);
void opRmdir(fuse_req_t req, fuse_ino_t parent, const char* name);
void opSymlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name);
void opRename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t newParent, const char* newName,
              unsigned int flags);
void opLink(fuse_req_t req, fuse_ino_t node, fuse_ino_t newParent, const char* newName);

// operations_files.cc
void opCreate(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* file);
void opOpen(fuse_req_t req, fuse_ino_t node, fuse_file_info* file);
void opRead(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, fuse_file_info* file);
void opWrite(fuse_req_t req, fuse_ino_t node, const char* bytes, size_t size, off_t offset, fuse_file_info* file);
void opFlush(fuse_req_t req, fuse_ino_t node, fuse_file_info* file);
void opRelease(fuse_req_t req, fuse_ino_t node, fuse_file_info* file);
void opFsync(fuse_req_t req, fuse_ino_t node, int dataOnly, fuse_file_info* file);
void opFallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length, fuse_file_info* file);

// operations_directories.cc
void opOpendir(fuse_req_t req, fuse_ino_t node, fuse_file_info* file);
void opReaddir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, fuse_file_info* file);
void opReaddirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, fuse_file_info* file);
void opReleasedir(fuse_req_t req, fuse_ino_t node, fuse_file_info* file);
void opFsyncdir(fuse_req_t req, fuse_ino_t node, int dataOnly, fuse_file_info* file);

// operations_xattrs.cc
void opGetxattr(fuse_req_t req, fuse_ino_t node, const char* name, size_t size);
void opListxattr(fuse_req_t req, fuse_ino_t node, size_t size);
void opSetxattr(fuse_req_t req, fuse_ino_t node, const char* name, const char* value, size_t size, int flags);
void opRemovexattr(fuse_req_t req, fuse_ino_t node, const char* name);

}  // namespace realize::fuse
