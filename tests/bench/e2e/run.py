#!/usr/bin/env python3
"""Benchmarks of real peers on loopback, each beside its control in the same run.

    tests/bench/e2e/run.py --write        the whole table into tests/bench/RESULTS.md
    tests/bench/e2e/run.py --write --dir D   the same in D, on a disk, into tests/bench/RESULTS-disk.md: there `sync` has work to do
    tests/bench/e2e/run.py --quick        small sizes; says only whether everything works

Needs the built programs (--programs DIR, default build/frontends/cli), and for the controls rsync, ssh and sshd: without
them there are none. The files lie in a tmpfs if /dev/shm has the room, else under $TMPDIR, in a fresh ext4 image on
a loop device (--ext4, as root), or where --dir says.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

import cases
import controls

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
ROOM_BYTES = 8 * cases.GIB


class Bench:
    def __init__(self, options, where, ssh):
        self.programs, self.where, self.ssh = options.programs, where, ssh
        self.rounds = 1 if options.quick else options.rounds
        self.sizes = cases.Sizes(options.quick)

    def folder(self, name):
        return os.path.join(self.where, name)


class Place:
    """A folder to work in, gone at the end."""

    def __init__(self, ext4, folder, quick):
        base = folder or os.environ.get("TMPDIR", "/tmp")
        room = 0 if quick else ROOM_BYTES
        if not ext4 and not folder and os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free >= max(room, cases.GIB):
            base = "/dev/shm"
        self.path = tempfile.mkdtemp(prefix="realize-bench-", dir=base)
        self.kind = subprocess.run(["stat", "-f", "-c", "%T", self.path], stdout=subprocess.PIPE, text=True).stdout.strip()
        self.mounted = None
        if ext4:
            image = os.path.join(self.path, "image")
            self.mounted = os.path.join(self.path, "ext4")
            os.makedirs(self.mounted)
            with open(image, "wb") as file:
                file.truncate(ROOM_BYTES)
            subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
            subprocess.run(["mount", "-o", "loop", image, self.mounted], check=True)
            self.kind = "ext4 on a loop device"

    def __enter__(self):
        return self.mounted or self.path

    def __exit__(self, *_):
        if self.mounted:
            subprocess.run(["umount", "-l", self.mounted])
        shutil.rmtree(self.path, ignore_errors=True)


# --- the table ---------------------------------------------------------------------------------------------------

def seconds(value):
    if value is None:
        return ""
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"


def in_bytes(value):
    if value is None:
        return ""
    for unit, size in (("GiB", cases.GIB), ("MiB", cases.MIB), ("KiB", 1024)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


def middle(runs, key):
    return cases.median([r[key] for r in runs if key in r])


def line(row):
    wall, rival = middle(row.runs, "wall_s"), middle(row.control, "wall_s")
    ratio = f"{wall / rival:.2f}" if wall and rival else ""
    verdict = "" if row.met is None else "met" if row.met else "**missed**"
    cells = [row.what, seconds(wall), seconds(middle(row.runs, "cpu_s")), in_bytes(middle(row.runs, "wire_bytes")),
             in_bytes(middle(row.runs, "memory_bytes")), seconds(rival), seconds(middle(row.control, "cpu_s")),
             in_bytes(middle(row.control, "wire_bytes")), ratio, f"{row.bar}: {verdict}" if row.bar else "", row.note]
    return "| " + " | ".join(cells) + " |"


HEAD = ("| what | wall | CPU | on the wire | peak memory | control: wall | CPU | on the wire | wall ratio | bar | notes |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|")


def machine(kind, load):
    model = "unknown CPU"
    with open("/proc/cpuinfo") as file:
        for text in file:
            if text.startswith("model name"):
                model = text.split(":", 1)[1].strip()
                break
    return (f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, files on {kind}, "
            f"load average {load[0]:.1f} at the start and {os.getloadavg()[0]:.1f} at the end")


def document(rows, options, kind, load):
    where = " --dir D" if options.dir else ""
    return (f"# Benchmarks\n\nMade by `tests/bench/e2e/run.py --write{where}` on {time.strftime('%Y-%m-%d', time.gmtime())}: two real "
            f"peers on loopback, encrypted, verified and synced, beside `rsync -a -e \"ssh -c {controls.CIPHER}\"` and `sync` "
            f"in the same run (rounds interleaved: {options.rounds}; medians). CPU is that of both sides, peak memory that "
            f"of the larger daemon, bytes are counted both ways.\n\nMachine: {machine(kind, load)}.\n\n{HEAD}\n"
            + "\n".join(line(row) for row in rows) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", default=os.path.join(ROOT, "build", "frontends", "cli"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true", help="the table into tests/bench/RESULTS.md, with --dir RESULTS-disk.md")
    parser.add_argument("--ext4", action="store_true", help="work in a fresh ext4 image on a loop device")
    parser.add_argument("--dir", help="work in a fresh folder in this one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(cases.CASES), help="only these")
    parser.add_argument("--keep-going", action="store_true", help="report a case that fails and go on")
    options = parser.parse_args()
    options.programs = os.path.abspath(options.programs)
    if not os.path.exists(os.path.join(options.programs, "realize")):
        sys.exit(f"no realize in {options.programs}: build first, or say --programs DIR")
    load, rows, failed = os.getloadavg(), [], 0
    place = Place(options.ext4, options.dir, options.quick)
    with place as where:
        ssh = None
        try:
            ssh = controls.SshServer(where) if controls.have_ssh() else None
            bench = Bench(options, where, ssh)
            print(HEAD, flush=True)
            for name in options.only or cases.CASES:
                if name in ("huge", "read") and not os.path.exists("/dev/fuse"):
                    continue
                try:
                    made = cases.CASES[name](bench)
                except Exception:
                    failed += 1
                    traceback.print_exc()
                    if not options.keep_going:
                        break
                    continue
                rows += made
                print("\n".join(line(row) for row in made), flush=True)
        finally:
            if ssh:
                ssh.__exit__()
    text = document(rows, options, place.kind, load)
    if options.write and not failed:
        with open(os.path.join(ROOT, "tests", "bench", "RESULTS-disk.md" if options.dir else "RESULTS.md"), "w") as file:
            file.write(text)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
