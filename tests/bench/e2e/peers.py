"""Real peers for the benchmarks: the programs `realize` and `realize-mount`, as a script would drive them."""

import json
import os
import shutil
import socket
import subprocess
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A program said no, or something did not come about in time."""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(what, condition, timeout_seconds=600, every_seconds=0.02):
    """Waits for `condition`; returns the seconds it took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout_seconds:
            raise Failed(f"not within {timeout_seconds} s: {what}")
        time.sleep(every_seconds)
    return time.monotonic() - start


class Peer:
    """One daemon with its state folder. It ends with stop()."""

    def __init__(self, programs, where, name):
        self.programs, self.name = programs, name
        self.state = os.path.join(where, "state-" + name)
        self.folder = os.path.join(where, name)
        self.mount_point = os.path.join(where, "mount-" + name)
        self.pid = None
        self.mounted = False
        self.socket = None
        self.cli("init", "--name", name, "--listen", f"127.0.0.1:{free_port()}")
        try:
            self.serve()
        except BaseException:
            self.cli("stop", check=False)
            raise

    def cli(self, *words, check=True):
        done = subprocess.run([os.path.join(self.programs, "realize"), "--state", self.state, *words],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if check and done.returncode != 0:
            raise Failed(f"realize {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def serve(self):
        with open(self.state + ".log", "ab") as log:
            done = subprocess.run([os.path.join(self.programs, "realize"), "--state", self.state, "serve", "--detach"],
                                  stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if done.returncode != 0:
            raise Failed("realize serve: see " + self.state + ".log")
        self.pid = self.ask("status")["pid"]

    def stop(self):
        if self.pid is None:
            return
        self.unmount()
        self.cli("stop", check=False)
        pid, self.pid = self.pid, None
        if self.socket:
            self.socket.close()
            self.socket = None
        until("the daemon ends", lambda: not os.path.exists(f"/proc/{pid}"), 30)

    def remove(self):
        self.stop()
        for path in (self.state, self.folder, self.mount_point):
            shutil.rmtree(path, ignore_errors=True)

    def ask(self, verb, **arguments):
        """Through the control socket: a poll that starts a program each time would measure that."""
        if not self.socket:
            one = socket.socket(socket.AF_UNIX)
            one.connect(os.path.join(self.state, "socket"))
            self.socket = one.makefile("rwb")
            one.close()
        self.socket.write(json.dumps({"id": 1, "verb": verb, "args": arguments}).encode() + b"\n")
        self.socket.flush()
        while True:
            answer = json.loads(self.socket.readline())
            if "ok" in answer:
                if not answer["ok"]:
                    raise Failed(f"{verb}: {answer['error']['message']}")
                return answer.get("result", {})

    def arena(self, name="docs"):
        for arena in self.ask("status", arena=name)["arenas"]:
            if arena["name"] == name:
                return arena
        raise Failed("no arena " + name)

    def scanned(self, files):
        def there():
            arena = self.arena()
            return arena["files"] >= files and not arena["scanning"] and not arena["settling"]
        return until(f"{files} files scanned", there)

    def wait(self, timeout_seconds=900):
        self.cli("wait", "docs", "--timeout", str(timeout_seconds))

    def wire_bytes(self):
        """Both ways, of all connections of this daemon, past ones not counted."""
        return self.sent_bytes() + sum(p.get("received_bytes", 0) for p in self.ask("status")["peers"])

    def sent_bytes(self):
        return sum(p.get("sent_bytes", 0) for p in self.ask("status")["peers"])

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def memory_bytes(self, what="VmHWM"):
        with open(f"/proc/{self.pid}/status") as file:
            for line in file:
                if line.startswith(what + ":"):
                    return int(line.split()[1]) * 1024
        return 0

    def forget_peak(self):
        with open(f"/proc/{self.pid}/clear_refs", "w") as file:
            file.write("5")

    def index_bytes(self):
        total = 0
        for folder, _, names in os.walk(os.path.join(self.state, "arenas")):
            if "/files" in folder:
                continue
            total += sum(os.path.getsize(os.path.join(folder, n)) for n in names if n.startswith("index.db"))
        return total

    def mount(self):
        os.makedirs(self.mount_point, exist_ok=True)
        done = subprocess.run([os.path.join(self.programs, "realize-mount"), "--state", self.state, "docs", self.mount_point],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise Failed("realize-mount: " + done.stdout.strip())
        self.mounted = True

    def unmount(self):
        if self.mounted:
            subprocess.run([os.path.join(self.programs, "realize-mount"), "--state", self.state, "-u", self.mount_point],
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.mounted = False


class Household:
    """Peer `a` with the arena `docs` over a folder that `fill` made, and more peers as they are asked for."""

    def __init__(self, programs, where, fill):
        self.programs, self.where = programs, where
        os.makedirs(where)
        self.peers = []
        try:
            self.begin(fill)
        except BaseException:
            self.__exit__()
            raise

    def begin(self, fill):
        self.a = self.add("a")
        os.makedirs(self.a.folder)
        fill(self.a.folder)
        self.files = sum(len(names) for _, _, names in os.walk(self.a.folder))
        cpu, start = self.a.cpu_seconds(), time.monotonic()
        self.a.cli("arena", "create", "docs", self.a.folder)
        self.a.scanned(self.files)
        self.scan_seconds = time.monotonic() - start
        self.scan_cpu_seconds = self.a.cpu_seconds() - cpu

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for peer in self.peers:
            peer.stop()
        shutil.rmtree(self.where, ignore_errors=True)

    def add(self, name):
        peer = Peer(self.programs, self.where, name)
        self.peers.append(peer)
        return peer

    def invite(self, name):
        """A peer of the household that has not joined the arena yet."""
        peer = self.add(name)
        peer.cli("join", self.a.cli("invite"))
        until("the arena is offered", lambda: peer.ask("status").get("offered_arenas"), 30)
        return peer

    def join(self, name, with_folder=True):
        """A peer that knows the tree and has no bytes."""
        peer = self.invite(name)
        if with_folder:
            os.makedirs(peer.folder)
        peer.cli("arena", "join", "docs", *([peer.folder] if with_folder else []))
        until("the tree is there", lambda: peer.arena()["files"] >= self.files)
        peer.wait(120)
        return peer

    def drop(self, peer):
        peer.remove()
        self.a.cli("peer", "remove", peer.name, check=False)
        self.peers.remove(peer)


class Measure:
    """Wall and CPU seconds of some daemons, bytes on the wire as `peers[0]` counts them, their peak memory."""

    def __init__(self, *peers):
        self.peers = peers
        for peer in peers:
            peer.forget_peak()
        self.cpu = sum(p.cpu_seconds() for p in peers)
        self.wire = peers[0].wire_bytes()
        self.start = time.monotonic()

    def end(self):
        wall = time.monotonic() - self.start
        return {"wall_s": wall, "cpu_s": sum(p.cpu_seconds() for p in self.peers) - self.cpu,
                "wire_bytes": self.peers[0].wire_bytes() - self.wire,
                "memory_bytes": max(p.memory_bytes() for p in self.peers)}
