"""What becomes of bytes on disks: holes, open files, space, versions that are kept, who keeps what."""

import concurrent.futures
import os
import time

from harness import check, equal, read, same_tree, until, write

MIB = 1 << 20


def make_sparse(path, size, places):
    with open(path, "wb") as file:
        file.truncate(size)
        for place in places:
            file.seek(place)
            file.write(os.urandom(MIB))


def used(path):
    return os.stat(path).st_blocks * 512


def same_sparse(first, second, places):
    """The same bytes at these places and around them, and the same size."""
    equal(os.stat(second).st_size, os.stat(first).st_size)
    with open(first, "rb") as a, open(second, "rb") as b:
        for place in [0, *places, os.stat(first).st_size - MIB]:
            start = max(0, place - MIB)
            a.seek(start)
            b.seek(start)
            check(a.read(3 * MIB) == b.read(3 * MIB), "other bytes about", place)


def sparse_files_stay_sparse(h):
    """2 GiB of which 4 MiB are data: to a folder, to the cache, back, and read on demand."""
    a, b, folder_a, folder_b = h.pair({"small": "x"})
    places = [0, 700 * MIB + 4096, 1500 * MIB, 2047 * MIB]
    make_sparse(folder_a / "sparse", 2048 * MIB, places)
    data = used(folder_a / "sparse")
    check(data <= 5 * MIB, "this file system has no holes")
    started = time.monotonic()
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    print(f"  2 GiB sparse, {data >> 10} KiB used: {used(folder_b / 'sparse') >> 10} KiB at the receiver after "
          f"{time.monotonic() - started:.1f} s")
    same_sparse(folder_a / "sparse", folder_b / "sparse", places)
    check(used(folder_b / "sparse") <= data + 2 * MIB, "it takes", used(folder_b / "sparse"), "bytes, not", data)

    b.run("mark", "unreal", "docs:")
    until(lambda: not (folder_b / "sparse").exists(), "it is in the cache")
    cached = sum(used(file) for file in (folder_b / ".realize/cache").iterdir())
    check(cached <= data + 2 * MIB, "the cache takes", cached)
    equal(b.json("verify", "docs")["whole"], True)
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    same_sparse(folder_a / "sparse", folder_b / "sparse", places)
    check(used(folder_b / "sparse") <= data + 2 * MIB, "back from the cache it takes", used(folder_b / "sparse"))
    equal(b.json("verify", "docs")["whole"], True)
    equal(a.json("verify", "docs")["whole"], True)


def unreal_at_once_keeps_and_says_so(h):
    """Promises that cross: both let go at the same moment, so that both keep it, until one of them means to."""
    a, b, folder_a, folder_b = h.pair({"x": "content", "d/y": "more"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda peer: peer.run("mark", "unreal", "docs:"), (a, b)))
    here = lambda path: [folder for folder in (folder_a, folder_b) if (folder / path).exists()]
    for _ in range(3):
        h.agree(a, b)
        check(here("x") and here("d/y"), "a file is nowhere any more")
    for path in ("x", "d/y"):
        keeper = a if (folder_a / path).exists() else b
        until(lambda: "promise" in keeper.entry(path).get("stays_real", ""), "stat says why")
        check(path in [file["path"] for file in keeper.arena()["stays_real"]], "status says which")
        check(f"docs:{path}: " in keeper.text("status"), "and says it to people")
        check(f"docs:{path} stays real for now: " in keeper.text("mark", "unreal", f"docs:{path}"), "mark says it")
    a.run("mark", "real", "docs:x", "docs:d/y")
    h.agree(a, b)
    until(lambda: not (folder_b / "x").exists() and not (folder_b / "d/y").exists(), "b lets go")
    equal((read(folder_a / "x"), read(folder_a / "d/y")), (b"content", b"more"))
    equal(b.arena()["stays_real"], [])
