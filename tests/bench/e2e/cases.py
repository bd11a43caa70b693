"""The benchmarks themselves. Each returns rows for the table; see run.py."""

import filecmp
import os
import random
import shutil
import subprocess
import time

from peers import Failed, Household, Measure, until

MIB = 1 << 20
GIB = 1 << 30


class Sizes:
    def __init__(self, quick):
        self.big_bytes = 16 * MIB if quick else GIB
        self.small_files = 500 if quick else 100_000
        self.per_folder = 100
        self.renamed_files = 200 if quick else 10_000
        self.edits = 5 if quick else 200
        self.huge_bytes = 64 * MIB if quick else 10 * GIB
        self.changed_pages = 20 if quick else 1000


class Row:
    """A line of the table. `runs`: what was measured each round; `control`: the same of the rival."""

    def __init__(self, what, runs, control=None, bar=None, met=None, note=""):
        self.what, self.runs, self.control = what, runs, control or []
        self.bar, self.met, self.note = bar, met, note


def median(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else None


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ratio_row(what, runs, control, note=""):
    """The bar that most rows have: no more wall time than the control."""
    met = None
    if control:
        met = median([r["wall_s"] for r in runs]) <= median([r["wall_s"] for r in control])
    return Row(what, runs, control, "no more wall time than the control" if control else None, met, note)


# --- contents ----------------------------------------------------------------------------------------------------

def fill_random(path, size_bytes):
    with open(path, "wb") as file:
        for at in range(0, size_bytes, 8 * MIB):
            file.write(os.urandom(min(8 * MIB, size_bytes - at)))


def fill_small(folder, files, per_folder):
    for first in range(0, files, per_folder):
        inside = os.path.join(folder, "tree", f"folder {first // per_folder:05}")
        os.makedirs(inside)
        for number in range(first, min(files, first + per_folder)):
            with open(os.path.join(inside, f"file {number:06}.dat"), "wb") as file:
                file.write(os.urandom(4096))


def fill_sparse(path, size_bytes):
    """Random in places, holes between them, random at the end."""
    with open(path, "wb") as file:
        file.truncate(size_bytes)
        for at in range(0, size_bytes, max(MIB, size_bytes // 160)):
            file.seek(at)
            file.write(os.urandom(64 * 1024))
        file.seek(size_bytes - MIB)
        file.write(os.urandom(MIB))


def check_same(one, other):
    """Every file of `one` is in `other` with the same bytes."""
    for folder, _, names in os.walk(one):
        if folder == one and ".realize" in _:
            _.remove(".realize")
        there = os.path.join(other, os.path.relpath(folder, one))
        for name in names:
            if not filecmp.cmp(os.path.join(folder, name), os.path.join(there, name), shallow=False):
                raise Failed(f"{os.path.join(there, name)} is not what was sent")


def read_through(path):
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(MIB)
        while file.readinto(buffer):
            pass


def timed(work):
    start = time.monotonic()
    work()
    return time.monotonic() - start


# --- with a bar --------------------------------------------------------------------------------------------------

def transfer(bench, household, rounds, from_join):
    """Rounds of a new peer taking all of `a`, each beside an rsync of the same."""
    runs, control = [], []
    for number in range(rounds):
        peer = household.invite(f"b{number}") if from_join else household.join(f"b{number}")
        measure = Measure(household.a, peer)
        if from_join:
            os.makedirs(peer.folder)
            peer.cli("arena", "join", "docs", peer.folder)
        peer.cli("mark", "real", "docs:")
        peer.wait()
        runs.append(measure.end())
        check_same(household.a.folder, peer.folder)
        household.drop(peer)
        if bench.ssh:
            target = os.path.join(household.where, "rsync")
            os.makedirs(target)
            control.append(bench.ssh.rsync(household.a.folder, target))
            shutil.rmtree(target)
    return runs, control


def one_big_file(bench):
    sizes = bench.sizes
    with Household(bench.programs, bench.folder("big"), lambda f: fill_random(os.path.join(f, "big"), sizes.big_bytes)) as house:
        runs, control = transfer(bench, house, bench.rounds, False)
    return [ratio_row(f"one incompressible file of {sizes.big_bytes // MIB} MiB, from `mark real` until `wait` is content",
                      runs, control)]


def many_small_files(bench):
    sizes = bench.sizes
    rows = []
    with Household(bench.programs, bench.folder("small"),
                   lambda f: fill_small(f, sizes.small_files, sizes.per_folder)) as house:
        count = sizes.small_files
        rows.append(Row(f"first scan and hash of {count:,} files of 4 KiB",
                        [{"wall_s": house.scan_seconds, "cpu_s": house.scan_cpu_seconds, "memory_bytes": house.a.memory_bytes()}]))
        house.a.stop()
        start = time.monotonic()
        house.a.serve()
        house.a.scanned(count)
        rows.append(Row(f"restart with nothing changed, {count:,} files",
                        [{"wall_s": time.monotonic() - start, "cpu_s": house.a.cpu_seconds(),
                          "memory_bytes": house.a.memory_bytes()}]))
        rows.append(Row("index bytes a file / daemon memory a file", [],
                        note=f"{house.a.index_bytes() / count:.0f} bytes of index, "
                             f"{house.a.memory_bytes('VmRSS') / count:.0f} bytes of memory"))
        runs, control = transfer(bench, house, bench.rounds, True)
        rows.insert(0, ratio_row(f"{count:,} files of 4 KiB in {count // sizes.per_folder:,} folders, from `arena join` until "
                                 "`wait` is content", runs, control))
        rows += many_unreal(bench, house)
    return rows


def many_unreal(bench, house):
    """find over Unreal files; its control over the same files in a plain folder."""
    peer = house.join("m", with_folder=False)
    peer.mount()
    def find(path):
        out = subprocess.run(["find", path, "-type", "f", "-printf", "%s\\n"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, check=True).stdout
        if out.count(b"\n") < house.files:
            raise Failed(f"find saw {out.count(10)} of {house.files} files")
    plain = os.path.join(house.a.folder, "tree")
    cpu = peer.cpu_seconds()
    cold = timed(lambda: find(peer.mount_point))
    cold_cpu = peer.cpu_seconds() - cpu
    warm = [timed(lambda: find(peer.mount_point)) for _ in range(3)]
    control = [{"wall_s": timed(lambda: find(plain))} for _ in range(3)]
    count = house.files
    rows = [Row(f"`find -printf %s` over {count:,} Unreal files in the mount, cold", [{"wall_s": cold, "cpu_s": cold_cpu}], control,
                note="control: the plain folder, warm"),
            Row("the same, warm", [{"wall_s": w} for w in warm], control)]
    house.drop(peer)
    return rows


def rename_of_a_folder(bench):
    count = bench.sizes.renamed_files
    def fill(folder):
        inside = os.path.join(folder, "before")
        os.makedirs(inside)
        for number in range(count):
            with open(os.path.join(inside, f"{number}"), "wb") as file:
                file.write(b"%d" % number)
    with Household(bench.programs, bench.folder("rename"), fill) as house:
        peer = house.join("b")
        peer.cli("mark", "real", "docs:")
        peer.wait()
        runs = []
        names = ["before", "after"]
        for _ in range(3 * bench.rounds):
            time.sleep(0.5)
            measure = Measure(house.a, peer)
            sent = house.a.sent_bytes()
            os.rename(os.path.join(house.a.folder, names[0]), os.path.join(house.a.folder, names[1]))
            target, old = os.path.join(peer.folder, names[1]), os.path.join(peer.folder, names[0])
            until("the rename is there", lambda: os.path.exists(target) and not os.path.exists(old), 60, 0.0005)
            run = measure.end()
            # The acknowledgement travels, too.
            time.sleep(0.3)
            run["wire_bytes"] = house.a.wire_bytes() - measure.wire
            run["sent_bytes"] = house.a.sent_bytes() - sent
            runs.append(run)
            names.reverse()
        check_same(house.a.folder, peer.folder)
    wall, wire = median([r["wall_s"] for r in runs]), median([r["wire_bytes"] for r in runs])
    return [Row(f"rename of a folder of {count:,} files until it is there on the other side", runs,
                bar="100 ms and 1 KiB on the wire", met=wall <= 0.1 and wire < 1024,
                note=f"bytes: both ways, with acknowledgements; {median([r['sent_bytes'] for r in runs])} B of them to the "
                     "other side")]


def small_edits(bench):
    with Household(bench.programs, bench.folder("edit"), lambda f: fill_random(os.path.join(f, "plan"), 4096)) as house:
        peer = house.join("b")
        peer.cli("mark", "real", "docs:")
        peer.wait()
        rest_ms = 100
        for setting in house.a.ask("config", arena="docs")["settings"]:
            if setting["name"].startswith("rest") and "max" not in setting["name"]:
                rest_ms = float(setting["value"])
        source, target = os.path.join(house.a.folder, "plan"), os.path.join(peer.folder, "plan")
        seconds = []
        cpu = house.a.cpu_seconds() + peer.cpu_seconds()
        wire = house.a.wire_bytes()
        for number in range(bench.sizes.edits):
            text = b"%08d" % number + os.urandom(4088)
            with open(source, "r+b", buffering=0) as file:
                file.write(text)
            start = time.monotonic()
            def there():
                with open(target, "rb", buffering=0) as file:
                    return file.read(8) == text[:8]
            until("the edit is there", there, 30, 0.0005)
            seconds.append(time.monotonic() - start)
            # Apart from what the one before still does, and at no fixed distance from any timer.
            time.sleep(random.uniform(0.02, 0.06))
        count = len(seconds)
        cpu = (house.a.cpu_seconds() + peer.cpu_seconds() - cpu) / count
        wire = (house.a.wire_bytes() - wire) / count
    p50 = percentile(seconds, 0.5)
    return [Row(f"4 KiB edit until it is there on the other side, p50 of {count}", [{"wall_s": p50, "cpu_s": cpu, "wire_bytes": wire}],
                bar=f"rest period ({rest_ms:.0f} ms) + 20 ms", met=p50 <= rest_ms / 1000 + 0.02,
                note=f"p99 {percentile(seconds, 0.99) * 1000:.0f} ms")]


# --- measured only -----------------------------------------------------------------------------------------------

def end_of_a_huge_file(bench):
    size = bench.sizes.huge_bytes
    with Household(bench.programs, bench.folder("huge"), lambda f: fill_sparse(os.path.join(f, "huge"), size)) as house:
        peer = house.join("b", with_folder=False)
        peer.mount()
        measure = Measure(house.a, peer)
        with open(os.path.join(peer.mount_point, "huge"), "rb", buffering=0) as file:
            got = os.pread(file.fileno(), 1, size - 1)
        run = measure.end()
        with open(os.path.join(house.a.folder, "huge"), "rb", buffering=0) as file:
            if got != os.pread(file.fileno(), 1, size - 1):
                raise Failed("another byte was read than written")
        return [Row(f"1 byte at the end of a cold file of {size / GIB:.2g} GiB through the mount", [run],
                    note="sparse, random in 160 places")]


def read_in_the_mount(bench):
    size = bench.sizes.big_bytes
    with Household(bench.programs, bench.folder("read"), lambda f: fill_random(os.path.join(f, "big"), size)) as house:
        cold, warm, control = [], [], []
        for number in range(bench.rounds):
            peer = house.join(f"b{number}", with_folder=False)
            peer.mount()
            path = os.path.join(peer.mount_point, "big")
            measure = Measure(house.a, peer)
            read_through(path)
            cold.append(measure.end())
            measure = Measure(house.a, peer)
            read_through(path)
            warm.append(measure.end())
            if not filecmp.cmp(path, os.path.join(house.a.folder, "big"), shallow=False):
                raise Failed("other bytes were read than written")
            house.drop(peer)
            if bench.ssh:
                control.append(bench.ssh.cat(os.path.join(house.a.folder, "big")))
    return [Row(f"sequential read of an Unreal file of {size // MIB} MiB through the mount, cold", cold, control,
                note="control: cat over ssh"),
            Row("the same, warm", warm)]


def pages_changed(bench):
    size, pages = bench.sizes.big_bytes, bench.sizes.changed_pages
    with Household(bench.programs, bench.folder("patch"), lambda f: fill_random(os.path.join(f, "big"), size)) as house:
        source = os.path.join(house.a.folder, "big")
        target = os.path.join(house.where, "rsync")
        os.makedirs(target)
        shutil.copy2(source, os.path.join(target, "big"))
        peer = house.join("b")
        peer.cli("mark", "real", "docs:")
        peer.wait()
        changed = os.path.join(house.where, "changed")
        chance = random.Random(1)
        with open(source, "rb") as old, open(changed, "wb") as new:
            new.write(os.urandom(10))
            shutil.copyfileobj(old, new, 8 * MIB)
            for _ in range(pages):
                new.seek(10 + 4096 * chance.randrange(size // 4096))
                new.write(os.urandom(4096))
        measure = Measure(house.a, peer)
        os.rename(changed, source)
        arrived = os.path.join(peer.folder, "big")
        until("the edit is there", lambda: os.path.getsize(arrived) == size + 10)
        run = measure.end()
        check_same(house.a.folder, peer.folder)
        control = [bench.ssh.rsync(house.a.folder, target)] if bench.ssh else []
    return [Row(f"{size // MIB} MiB with {pages:,} random pages changed and 10 bytes put in front", [run], control,
                note="from the change of the file, with rest and hashing")]


CASES = {"big": one_big_file, "small": many_small_files, "rename": rename_of_a_folder, "edit": small_edits,
         "huge": end_of_a_huge_file, "read": read_in_the_mount, "pages": pages_changed}
