"""Peers as real processes with real folders, mounts and sockets on loopback, driven by the contract for scripts.

A scenario gets a Household and ends by returning (passed), raising AssertionError (failed) or raising Skip. Whatever
happens, the household's processes are ended by their process id, its mounts taken away and its folder removed.
"""

import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time

PROGRAMS = pathlib.Path(__file__).resolve().parents[3] / "build" / "frontends" / "cli"
WAIT_S = 60
COMMAND_S = 120
NOBODY = 65534


class Skip(Exception):
    """The machine has not what the scenario needs."""


def check(condition, *words):
    if not condition:
        raise AssertionError(" ".join(str(word) for word in words) or "check")


def equal(found, expected, *words):
    check(found == expected, *words, "\n  found:   ", repr(found), "\n  expected:", repr(expected))


def until(condition, what, timeout_s=WAIT_S):
    """Waits until `condition()` is true (and returns what it returned), at most `timeout_s`. For what no command of the
    contract waits for."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < deadline, "not within", timeout_s, "s:", what)
        select.select([], [], [], 0.02)


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root")


def need_fuse():
    if not os.path.exists("/dev/fuse") or not shutil.which("fusermount3"):
        raise Skip("needs /dev/fuse and fusermount3")


def write(path, data, mode=None):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    if mode is not None:
        path.chmod(mode)


def read(path):
    return pathlib.Path(path).read_bytes()


def tree(folder, times=False, modes=False):
    """What is in a folder, .realize apart: {path as bytes: description}."""
    root = os.fsencode(folder)
    found = {}
    for base, directories, names in os.walk(root):
        if base == root and b".realize" in directories:
            directories.remove(b".realize")
        for name in directories + names:
            path = os.path.join(base, name)
            stat = os.lstat(path)
            relative = os.path.relpath(path, root)
            if os.path.islink(path):
                found[relative] = ("symlink", os.readlink(path))
            elif os.path.isdir(path):
                found[relative] = ("directory",) + ((stat.st_mode & 0o777,) if modes else ())
            else:
                with open(path, "rb") as file:
                    content = file.read()
                found[relative] = ("file", content) + ((stat.st_mtime_ns,) if times else ()) \
                    + ((stat.st_mode & 0o777,) if modes else ())
    return found


def describe(description):
    return tuple(f"{len(part)} bytes {part[:30]!r}" if isinstance(part, bytes) else part for part in description)


def same_tree(first, second, **options):
    a, b = tree(first, **options), tree(second, **options)
    if a == b:
        return
    lines = [f"{first} and {second} differ:"]
    for path in sorted(a.keys() | b.keys()):
        if a.get(path) != b.get(path):
            lines.append(f"  {path!r}: {describe(a[path]) if path in a else 'absent'} / "
                         f"{describe(b[path]) if path in b else 'absent'}")
    raise AssertionError("\n".join(lines[:40]))


class Failed(Exception):
    """A command ended with an exit code that was not asked for."""

    def __init__(self, arguments, done):
        self.code = done.returncode
        self.stderr = done.stderr.decode(errors="replace")
        super().__init__(f"{' '.join(map(str, arguments))}: exit {done.returncode}\n{self.stderr}"
                         f"{done.stdout.decode(errors='replace')[-2000:]}")


class Peer:
    def __init__(self, household, name, uid=None):
        self.household = household
        self.name = name
        self.uid = uid
        self.prefix = []  # of each command: to run it somewhere else
        self.base = household.root / name
        self.state = self.base / "state"
        self.mounts = []
        self.base.mkdir()
        if uid is not None:
            os.chown(self.base, uid, uid)

    # --- commands

    def run(self, *arguments, program="realize", code=0, timeout_s=COMMAND_S, input=None):
        """stdout of a command; `code` is the exit code it must have (None: any)."""
        programs = PROGRAMS if self.uid is None else self.household.programs_for_all()
        command = [*self.prefix, str(programs / program), "--state", str(self.state), *map(os.fsdecode, arguments)]
        identity = {"user": self.uid, "group": self.uid, "extra_groups": []} if self.uid is not None else {}
        done = subprocess.run(command, input=input or b"", capture_output=True, timeout=timeout_s,
                              env=self.household.environment, **identity)
        if code is not None and done.returncode != code:
            raise Failed([self.name + "$", program, *arguments], done)
        return done.stdout

    def fails(self, code, *arguments, **options):
        """stderr of a command that must end with this exit code."""
        try:
            self.run(*arguments, code=0, **options)
        except Failed as failed:
            check(code is None or failed.code == code, failed, "\nexpected exit", code)
            return failed.stderr
        raise AssertionError(f"{self.name}: {arguments} succeeded, expected exit {code}")

    def text(self, *arguments, **options):
        return self.run(*arguments, **options).decode().strip()

    def json(self, *arguments, **options):
        return json.loads(self.run("--json", *arguments, **options))

    # --- its life

    def init(self, listen=True):
        self.run("init", "--name", self.name, *(["--listen", "127.0.0.1:0"] if listen else []))
        return self

    def serve(self):
        self.run("serve", "--detach")
        self.pid = self.status()["pid"]
        return self

    def stop(self):
        self.unmount()
        self.run("stop")

    def kill(self):
        """kill -9, and returns when the process is gone."""
        os.kill(self.pid, signal.SIGKILL)
        until(lambda: not alive(self.pid), f"{self.name} is dead")

    def status(self):
        return self.json("status")

    def arena(self, name="docs"):
        return next(arena for arena in self.status()["arenas"] if arena["name"] == name)

    def problems(self, name="docs"):
        return {problem["path"]: problem["kind"] for problem in self.arena(name)["problems"]}

    def connection(self, other):
        return next(peer for peer in self.status()["peers"] if peer["name"] == other.name)

    def entry(self, path, arena="docs"):
        return self.json("stat", f"{arena}:{path}")

    def wait(self, arena="docs", timeout_s=WAIT_S):
        self.run("wait", arena, "--timeout", str(timeout_s), timeout_s=timeout_s + 30)

    # --- its files

    def folder(self, name="files"):
        path = self.base / name
        path.mkdir(exist_ok=True)
        if self.uid is not None:
            os.chown(path, self.uid, self.uid)
        return path

    def mount(self, arena="docs"):
        need_fuse()
        point = self.base / f"mount-{arena}"
        point.mkdir(exist_ok=True)
        self.run(arena, str(point), program="realize-mount")
        self.mounts.append(point)
        return point

    def unmount(self):
        for point in self.mounts:
            self.run("-u", str(point), program="realize-mount", code=None)
        self.mounts = []


def alive(pid):
    """Whether any thread of it still runs: a killed process holds its locks until the last one is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return not select.select([descriptor], [], [], 0)[0]
    finally:
        os.close(descriptor)


class Household:
    def __init__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="realize-contract-", dir=os.environ.get("TMPDIR", "/tmp")))
        self.root.chmod(0o755)
        self.peers = []
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("REALIZE_")}

    def peer(self, name, listen=True, uid=None):
        peer = Peer(self, name, uid)
        self.peers.append(peer)
        return peer.init(listen).serve()

    def programs_for_all(self):
        """The programs in a folder that every user may enter, which a build folder need not be."""
        folder = self.root / "programs"
        if not folder.exists():
            folder.mkdir()
            for program in ("realize", "realize-mount"):
                shutil.copyfile(PROGRAMS / program, folder / program)
                (folder / program).chmod(0o755)
        return folder

    def introduce(self, inviter, joiner, *options):
        code = inviter.text("invite", *options)
        joiner.run("join", code)

    def pair(self, files=None, b_folder=True, b_files=None, listen_b=False):
        """Two peers with the arena docs: `a` with a folder, `b` with one or without. Returns a, b and their folders."""
        a = self.peer("a")
        b = self.peer("b", listen=listen_b)
        folder_a = a.folder()
        for path, data in (files or {}).items():
            write(folder_a / path, data)
        a.run("arena", "create", "docs", folder_a)
        self.introduce(a, b)
        folder_b = None
        if b_folder:
            folder_b = b.folder()
            for path, data in (b_files or {}).items():
                write(folder_b / path, data)
            b.run("arena", "join", "docs", folder_b)
        else:
            b.run("arena", "join", "docs")
        self.agree(a, b)
        return a, b, folder_a, folder_b

    def agree(self, *peers, arena="docs"):
        """Every one says that it agrees with all it is connected to, twice: what one learns from another while it was
        asked, the next has to learn again."""
        for peer in peers + peers[:-1]:
            peer.wait(arena)

    def mounted_below(self):
        found = []
        with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                point = line.split(" ")[1].encode("utf-8", "surrogateescape").decode("unicode_escape")
                if point.startswith(f"{self.root}/"):
                    found.append(point)
        return sorted(found, reverse=True)

    def logs(self, lines=25):
        text = []
        for peer in self.peers:
            log = peer.state / "log"
            if log.exists():
                tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
                text += [f"-- log of {peer.name}:", *tail]
        return "\n".join(text)

    def close(self):
        for peer in self.peers:
            pid = getattr(peer, "pid", None)
            with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError, Failed):
                pid = peer.json("status", timeout_s=10).get("pid", pid)
            if pid and alive(pid) and self.is_ours(pid, peer):
                with contextlib.suppress(OSError, subprocess.SubprocessError, Failed):
                    peer.run("stop", code=None, timeout_s=20)
                if alive(pid):
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                    with contextlib.suppress(AssertionError):
                        until(lambda: not alive(pid), "dead", 10)
        for point in self.mounted_below():
            for command in (["umount", "-l", point], ["fusermount3", "-u", "-z", point]):
                if subprocess.run(command, capture_output=True).returncode == 0:
                    break
        # A mount that would not go must not be walked into.
        if not self.mounted_below():
            for base, directories, _ in os.walk(self.root):
                for name in directories:
                    path = os.path.join(base, name)
                    with contextlib.suppress(OSError):
                        if not os.path.islink(path):
                            os.chmod(path, 0o700)
            shutil.rmtree(self.root, ignore_errors=True)

    @staticmethod
    def is_ours(pid, peer):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as line:
                return os.fsencode(peer.state) in line.read()
        except OSError:
            return False
