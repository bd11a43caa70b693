"""The mount on the second peer."""

import errno
import os
import pathlib
import subprocess
import time

from harness import check, equal, need_fuse, need_root, read, same_tree, tree, until, write

LARGE = bytes(i * 7 % 251 for i in range(1_000_003)) * 3


def folderless_join_reads_and_writes(h):
    need_fuse()
    a, b, folder_a, _ = h.pair({"text.txt": "hello", "sub/deep/large.bin": LARGE}, b_folder=False)
    mount = b.mount()
    equal(sorted(os.listdir(mount)), ["sub", "text.txt"])
    equal(os.stat(mount / "sub/deep/large.bin").st_size, len(LARGE))
    check(os.stat(mount / "sub/deep/large.bin").st_blocks > 0, "tools treat zero blocks as empty")
    equal(b.entry("sub/deep/large.bin")["cached_bytes"], 0, "nothing is fetched before it is read")
    with open(mount / "sub/deep/large.bin", "rb") as file:
        file.seek(2_000_000)
        equal(file.read(100), LARGE[2_000_000:2_000_100])
    part = b.entry("sub/deep/large.bin")["cached_bytes"]
    check(0 < part <= len(LARGE), part)
    equal(read(mount / "sub/deep/large.bin"), LARGE)

    write(mount / "from-b.txt", "made in the mount")
    write(mount / "sub/edited.txt", "x")
    with open(mount / "text.txt", "ab") as file:
        file.write(b", appended")
    h.agree(a, b)
    equal(read(folder_a / "text.txt"), b"hello, appended")
    equal(a.run("cat", "docs:from-b.txt"), b"made in the mount")
    same_tree(folder_a, mount)


def remote_changes_show_without_remount(h):
    need_fuse()
    a, b, folder_a, _ = h.pair({"x.txt": "one", "d/y.txt": "y"}, b_folder=False)
    mount = b.mount()
    equal(read(mount / "x.txt"), b"one")
    check(not (mount / "new.txt").exists())
    held = os.open(mount / "x.txt", os.O_RDONLY)

    write(folder_a / "x.txt", "two, longer")
    write(folder_a / "new.txt", "new")
    (folder_a / "d").rename(folder_a / "e")
    h.agree(a, b)

    equal(read(mount / "x.txt"), b"two, longer")
    equal(os.stat(mount / "x.txt").st_size, 11)
    equal(read(mount / "new.txt"), b"new")
    equal(read(mount / "e/y.txt"), b"y")
    check(not (mount / "d").exists())
    os.close(held)
    (folder_a / "new.txt").unlink()
    h.agree(a, b)
    check(not (mount / "new.txt").exists())


def real_files_show_what_came_while_they_were_read(h):
    need_fuse()
    a, b, folder_a, folder_b = h.pair({"f": "draft"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    mount = b.mount()
    for i in range(8):
        data = b"%d" % i * (3000 + 1000 * (i % 2))
        write(folder_a / "f", data)
        until(lambda: len(read(mount / "f")) > 0 and read(folder_b / "f") == data, "it is in b's folder")
        until(lambda: read(mount / "f") == data, "the mount shows it")


def ordinary_operations(h):
    need_fuse()
    a, b, folder_a, _ = h.pair({"x.txt": "one"}, b_folder=False)
    mount = b.mount()
    (mount / "d1/d2").mkdir(parents=True)
    write(mount / "d1/f", "content")
    (mount / "d1/f").rename(mount / "d1/d2/g")
    (mount / "link").symlink_to("d1/d2/g")
    os.chmod(mount / "d1/d2/g", 0o750)
    os.utime(mount / "d1/d2/g", ns=(1, 1234567890_123456789))
    os.truncate(mount / "x.txt", 2)
    h.agree(a, b)
    a.run("mark", "real", "docs:")
    h.agree(a, b)
    same_tree(folder_a, mount, times=True)
    equal((folder_a / "d1/d2/g").stat().st_mode & 0o777, 0o750)
    equal(read(folder_a / "x.txt"), b"on")

    file = os.open(mount / "d1/d2/g", os.O_RDWR)
    os.unlink(mount / "d1/d2/g")
    equal(os.read(file, 100), b"content", "unlinked while open")
    os.close(file)
    space = os.statvfs(mount)
    check(space.f_blocks > 0 and space.f_bavail > 0)
    h.agree(a, b)
    check(not (folder_a / "d1/d2/g").exists())


def extended_attributes(h):
    need_fuse()
    a, b, folder_a, folder_b = h.pair({"x.txt": "one", "y.txt": "two"})
    mount = b.mount()
    check(os.getxattr(mount / "x.txt", "user.realize.status"))
    os.setxattr(mount / "x.txt", "user.realize.mark", b"real")
    h.agree(a, b)
    equal(os.getxattr(mount / "x.txt", "user.realize.mark"), b"real")
    equal(b.entry("x.txt")["mark"], "real")
    until(lambda: b.entry("x.txt")["real"], "x.txt is real")
    equal(read(folder_b / "x.txt"), b"one")


def unreachable_bytes_and_back(h):
    need_fuse()
    a, b, folder_a, _ = h.pair({"x.txt": "one", "read-before.txt": "cached"}, b_folder=False)
    mount = b.mount()
    equal(read(mount / "read-before.txt"), b"cached")
    a.stop()
    until(lambda: not b.connection(a)["connected"], "b notices")
    started = time.monotonic()
    try:
        read(mount / "x.txt")
        raise AssertionError("there is nobody to read it from")
    except OSError as error:
        equal(error.errno, errno.EHOSTUNREACH)
    check(time.monotonic() - started < 5, "quickly")
    equal(read(mount / "read-before.txt"), b"cached")
    for words in (("cat", "docs:x.txt"), ("fetch", "docs:")):
        said = b.fails(7, *words)
        check("docs:x.txt: no connected peer has these bytes" in said, said)
    said = b.fails(7, "arena", "join", "photos")
    check("no other peer is connected" in said, said)
    a.serve()
    h.agree(b)
    equal(read(mount / "x.txt"), b"one")


def mount_written_while_alone_is_kept_until_confirmed(h):
    need_fuse()
    a, b, folder_a, _ = h.pair({"x.txt": "one"}, b_folder=False)
    mount = b.mount()
    a.stop()
    until(lambda: not b.connection(a)["connected"], "b notices")
    write(mount / "mine.bin", LARGE)
    until(lambda: b.arena()["unconfirmed_files"] == 1, "noted as unconfirmed")
    b.run("cache", "shrink", "docs", "0")
    b.fails(6, "arena", "leave", "docs")
    check(os.path.ismount(mount), "what was refused takes no mount away")
    equal(read(mount / "mine.bin"), LARGE)
    b.unmount()
    equal(b.run("cat", "docs:mine.bin"), LARGE)
    b.kill()
    b.serve()
    equal(b.run("cat", "docs:mine.bin"), LARGE)
    a.serve()
    a.run("mark", "real", "docs:")
    h.agree(a, b)
    equal(read(folder_a / "mine.bin"), LARGE)
    until(lambda: b.arena()["unconfirmed_files"] == 0, "a holds it now")


def overlapping_mounts_are_refused(h):
    need_fuse()
    a, b, folder_a, folder_b = h.pair({"x.txt": "one"})
    (folder_b / "inside").mkdir()
    b.fails(6, "docs", folder_b / "inside", program="realize-mount")
    b.fails(6, "docs", b.state, program="realize-mount")
    b.fails(4, "docs", b.base / "absent", program="realize-mount")
    full = b.folder("full")
    write(full / "x", "x")
    b.run("docs", full, program="realize-mount", code=None)
    equal(read(full / "x"), b"x", "what is there stays visible")


def mount_starts_the_daemon_and_stop_unmounts(h):
    need_fuse()
    a, b, folder_a, _ = h.pair({"x.txt": "one"}, b_folder=False)
    b.stop()
    mount = b.mount()
    h.agree(a, b)
    equal(read(mount / "x.txt"), b"one")
    check(mount.is_mount())
    b.mounts = []
    b.run("stop")
    check(not mount.is_mount(), "the daemon's end unmounts")
    mount = b.mount()
    subprocess.run(["fusermount3", "-u", mount], check=True)
    check(not mount.is_mount())
    b.mounts = []
    h.agree(a, b)


def a_mount_comes_back_after_a_kill(h):
    need_fuse()
    a, b, folder_a, _ = h.pair({"sub/x.txt": "one"}, b_folder=False)
    mount = b.mount()
    equal(read(mount / "sub/x.txt"), b"one")
    inside = subprocess.Popen(["sleep", "1000"], cwd=mount)
    try:
        b.kill()
        try:
            os.listdir(mount)
            check(False, "nobody serves it")
        except OSError as error:
            equal(error.errno, errno.ENOTCONN)
        b.serve()
        until(lambda: b.connection(a)["connected"], "the bytes can be fetched")
        b.wait()
        equal(read(mount / "sub/x.txt"), b"one", "it is there again, though somebody worked in the old one")
        equal(b.arena()["mounts"], [str(mount)])
        equal(b.status()["problems"], [])
    finally:
        inside.kill()
        inside.wait()
    b.unmount()
    b.kill()
    b.serve()
    check(not mount.is_mount(), "what was unmounted before stays so")


def real_and_unreal_in_one_tree(h):
    need_fuse()
    a, b, folder_a, folder_b = h.pair({"r/x.txt": "real", "u/y.txt": "unreal"})
    b.run("mark", "real", "docs:r")
    b.run("mark", "unreal", "docs:u")
    h.agree(a, b)
    mount = b.mount()
    same_tree(folder_a, mount)
    equal(tree(folder_b).get(b"u/y.txt"), None)
    equal(read(folder_b / "r/x.txt"), b"real")
    write(mount / "r/new", "in a real folder")
    write(mount / "u/new", "in an unreal folder")
    (mount / "u/y.txt").rename(mount / "r/y.txt")
    h.agree(a, b)
    a.run("mark", "real", "docs:")
    h.agree(a, b)
    same_tree(folder_a, mount)
    until(lambda: tree(folder_b).get(b"r/y.txt") == ("file", b"unreal"), "moved into a real folder, it becomes real")


def git_in_the_mount(h):
    need_fuse()
    a, b, folder_a, _ = h.pair({"x.txt": "one"}, b_folder=False)
    mount = b.mount()
    origin = h.root / "origin"
    environment = {**h.environment, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
                   "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_COMMITTER_NAME": "t",
                   "GIT_COMMITTER_EMAIL": "t@example.org"}

    def git(*arguments, where):
        done = subprocess.run(["git", *arguments], cwd=where, env=environment, capture_output=True, timeout=120)
        equal(done.returncode, 0, "git", arguments, done.stderr.decode())
        return done.stdout.decode()

    origin.mkdir()
    git("init", "-q", "-b", "main", ".", where=origin)
    for i in range(60):
        write(origin / f"d{i % 6}/f{i}.txt", f"line {i}\n" * 20)
    git("add", ".", where=origin)
    git("commit", "-q", "-m", "one", where=origin)
    git("clone", "-q", str(origin), "clone", where=mount)
    equal(git("status", "--porcelain", where=mount / "clone"), "")
    write(mount / "clone/d0/f0.txt", "changed\n")
    git("commit", "-q", "-a", "-m", "two", where=mount / "clone")
    git("fsck", where=mount / "clone")
    a.run("mark", "real", "docs:")
    h.agree(a, b)
    equal(git("status", "--porcelain", where=folder_a / "clone"), "")
    git("fsck", where=folder_a / "clone")
    check(pathlib.Path(folder_a / "clone/.git").is_dir())


def a_full_disk_refuses_a_large_file_opened_for_writing(h):
    need_fuse()
    need_root()
    a, b = h.peer("a"), h.peer("b", listen=False)
    folder_a, folder_b = a.folder(), b.folder()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder_b], check=True)
    large = os.urandom(10_000_000)
    write(folder_a / "large.bin", large)
    write(folder_a / "small.txt", "small")
    a.run("arena", "create", "docs", folder_a)
    h.introduce(a, b)
    b.run("arena", "join", "docs", folder_b)
    h.agree(a, b)
    mount = b.mount()
    equal(read(mount / "small.txt"), b"small")

    try:
        os.close(os.open(mount / "large.bin", os.O_RDWR))
        check(False, "there is no space for it")
    except OSError as error:
        equal(error.errno, errno.ENOSPC)

    # Nothing is harmed: the file is as it was, here and there, others can be written, and it can be read.
    equal(a.status()["arenas"][0]["conflicts"], 0)
    equal(read(folder_a / "large.bin"), large)

    def written():
        try:
            write(mount / "small.txt", "smaller")
            return True
        except OSError as error:
            equal(error.errno, errno.ENOSPC)

    until(written, "what came of the large file makes room again")
    h.agree(a, b)
    equal(read(folder_a / "small.txt"), b"smaller")
    equal(sorted(p.name for p in mount.iterdir()), ["large.bin", "small.txt"])
    equal(os.stat(mount / "large.bin").st_size, len(large))

    subprocess.run(["mount", "-o", "remount,size=60m", folder_b], check=True)

    def opened():
        try:
            return os.open(mount / "large.bin", os.O_RDWR)
        except OSError as error:
            equal(error.errno, errno.ENOSPC)
            return None

    file = until(opened, "it can be opened once there is space")
    os.pwrite(file, b"edited", 5_000_000)
    os.close(file)
    h.agree(a, b)
    equal(read(folder_a / "large.bin"), large[:5_000_000] + b"edited" + large[5_000_006:])
