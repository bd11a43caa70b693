"""The cache's limit, and what was removed or replaced and is kept for a while."""

import os
import random

from harness import check, equal, read, until, write

CHUNK = 256 << 10


def noise(size, seed):
    return random.Random(seed).randbytes(size)


def used(peer, arena="docs"):
    """Bytes that the cache takes on the disk, as the kernel says."""
    folder = next(peer.state.glob("arenas/*/files/.realize"), None)
    return sum(entry.stat().st_blocks * 512 for name in ("cache", "tmp") for entry in os.scandir(folder / name))


def cache(peer, arena="docs"):
    return next(item for item in peer.json("cache", "show", arena)["arenas"] if item["name"] == arena)


def cache_keeps_to_its_limit(h):
    film = noise(5_000_000, 1)
    files = {f"f{i}": noise(200_000, 10 + i) for i in range(6)}
    a, b, folder_a, _ = h.pair({**files, "film": film}, b_folder=False)
    equal(cache(b)["limit_bytes"], 0)
    b.run("cache", "limit", "docs", "600000")
    equal(cache(b)["limit_bytes"], 600_000)
    for name, content in files.items():
        equal(b.run("cat", f"docs:{name}"), content)
        check(used(b) <= 600_000 + CHUNK, used(b))
    equal(b.run("cat", "docs:film"), film)
    check(used(b) <= 600_000 + CHUNK, used(b))
    until(lambda: cache(b)["cached_bytes"] <= 600_000, "the cache keeps to its limit")
    b.fails(None, "fetch", "docs:film")
    # Real files win; the limit outlives a restart.
    b.run("mark", "real", "docs:film")
    h.agree(a, b)
    check(b.entry("film")["real"])
    until(lambda: cache(b)["cached_bytes"] == 0, "nothing is left for the cache")
    check("Real files" in cache(b)["why"], cache(b))
    b.stop()
    b.serve()
    equal(cache(b)["limit_bytes"], 600_000)
    equal(cache(b)["allowed_bytes"], 0)
    h.agree(a, b)
    equal(b.run("cat", "docs:f1"), files["f1"])
    until(lambda: cache(b)["cached_bytes"] == 0, "what passed through is gone")
    b.run("cache", "limit", "docs", "none")
    equal(b.run("cat", "docs:f1"), files["f1"])
    until(lambda: cache(b)["cached_bytes"] == 200_000, "kept without a limit")
    b.run("cache", "clear")
    until(lambda: (b.run("cache", "clear"), cache(b)["cached_bytes"] == 0)[1], "cleared")


def arenas_share_a_limit(h):
    a, b, _, _ = h.pair({f"f{i}": noise(200_000, i) for i in range(3)}, b_folder=False)
    other = a.folder("other")
    for i in range(3):
        write(other / f"g{i}", noise(200_000, 50 + i))
    a.run("arena", "create", "more", other)
    a.run("arena", "admit", "more", "b")
    b.run("arena", "join", "more")
    h.agree(a, b, arena="more")
    b.run("cache", "limit", "600000")
    for i in range(3):
        b.run("cat", f"docs:f{i}")

    def sums():
        shown = [cache(b, name) for name in ("docs", "more")]
        return [item["cached_bytes"] for item in shown], shown

    for i in range(3):
        equal(b.run("cat", f"more:g{i}"), noise(200_000, 50 + i))
    until(lambda: sum(sums()[0]) <= 600_000, sums)
    # What was read lately is here, in whichever arena.
    for i in range(3):
        b.run("cat", f"more:g{i}")
    until(lambda: sums()[0][1] > 0 and sum(sums()[0]) <= 600_000, sums)
    check(all(item["limit_shared"] for item in sums()[1]), sums())
    # An arena with a limit of its own takes nothing from the others.
    b.run("cache", "limit", "more", "200000")
    until(lambda: not cache(b, "more")["limit_shared"] and cache(b, "more")["cached_bytes"] <= 200_000, sums)


def removed_and_replaced_files_come_back(h):
    files = {f"d/f{i}": noise(3000, 100 + i) for i in range(20)}
    a, b, folder_a, folder_b = h.pair({**files, "plan.txt": "first", "other": "stays"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    for i in range(20):
        os.unlink(folder_a / f"d/f{i}")
    os.rmdir(folder_a / "d")
    write(folder_a / "plan.txt", "second")
    a.wait("docs")
    h.agree(a, b)
    equal(read(folder_b / "plan.txt"), b"second")
    check(not (folder_b / "d").exists())
    check(cache(b)["unlinked_bytes"] == 20 * 3000 + len("first"), cache(b))
    listed = b.json("undo")["items"]
    equal({item["path"] for item in listed}, {*files, "d", "plan.txt"})
    equal({item["peer"] for item in listed}, {"a"})
    # The one who removed them has not the bytes: they come from b.
    would = a.json("undo", "docs:d", "--dry-run")
    equal((would["restored"], would["left"]), (21, 0))
    check(not (folder_a / "d").exists())
    done = a.json("undo", "docs:d")
    equal((done["restored"], done["left"]), (21, 0), done)
    b.run("undo", "docs:plan.txt")
    h.agree(a, b)
    for folder in (folder_a, folder_b):
        for name, content in files.items():
            equal(read(folder / name), content)
        equal(read(folder / "plan.txt"), b"first")
    b.fails(None, "undo", "docs:")
    b.fails(4, "undo", "docs:", "--since", "1h")  # All is as it was.
    b.fails(4, "undo", "docs:nothing-here")


def copies_are_kept_and_holders_told(h):
    a, b, folder_a, folder_b = h.pair({"x": "one", "y": "two"}, listen_b=True)
    c = h.peer("c", listen=False)
    h.introduce(a, c)
    c.run("arena", "join", "docs", c.folder())
    for peer in (b, c):
        peer.run("mark", "real", "docs:")
    until(lambda: c.connection(b)["connected"], "c and b are connected")
    h.agree(a, b, c)
    equal(sorted(c.entry("x")["holders"]), ["a", "b", "c"])
    equal(c.entry("x")["holders_unknown"], [])
    check("real on" in c.text("stat", "docs:x"), c.text("stat", "docs:x"))

    c.run("config", "docs:", "copies", "2")
    until(lambda: c.arena()["copies_counted"], "counted")
    equal(c.arena()["files_below_copies"], 0)
    check("copies: every file has 2" in c.text("status", "docs"), c.text("status", "docs"))
    b.stop()
    until(lambda: not c.connection(b)["connected"], "b is away")
    equal(c.entry("x")["holders_unknown"], ["b"])
    c.run("mark", "unreal", "docs:x")
    stays = until(lambda: [s for s in c.arena()["stays_real"] if s["detail"].startswith("only 1 of the 2")], "it stays, and is said why")
    check("a keeps it" in stays[0]["detail"], stays)
    check(c.entry("x")["real"])
    equal(c.fails(None, "arena", "leave", "docs").count("only 1 of the 2 other peers that are to keep it do: a keeps it"), 1)
    b.serve()
    until(lambda: not c.entry("x")["real"], "two keep it: it goes here")
    equal(sorted(c.entry("x")["holders"]), ["a", "b"])

    b.stop()
    until(lambda: c.arena()["files_below_copies"] == 1, "only a is known to have x; y is here, too")
    equal(c.arena()["first_below_copies"], ["x"])
    check("copies: 1 file has fewer than 2" in c.text("status", "docs"), c.text("status", "docs"))
