"""Trees that follow each other: edits, joins, renames, conflicts, names, attributes, removals."""

import json
import os
import pathlib
import socket
import subprocess

from harness import PROGRAMS, check, equal, read, same_tree, tree, until, write

MANY = {f"folder{i % 7}/file{i}.txt": f"content of {i}\n" for i in range(120)}


def two_peers_sync_both_ways(h):
    a, b, folder_a, folder_b = h.pair(MANY)
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    same_tree(folder_a, folder_b, times=True, modes=True)

    write(folder_a / "folder1/new-of-a.txt", "a")
    write(folder_b / "folder2/new-of-b.txt", "b")
    write(folder_a / "folder0/file0.txt", "edited by a")
    write(folder_b / "folder1/file1.txt", "edited by b")
    (folder_b / "folder3/file3.txt").unlink()
    h.agree(a, b)

    equal(read(folder_b / "folder1/new-of-a.txt"), b"a")
    equal(read(folder_a / "folder2/new-of-b.txt"), b"b")
    equal(read(folder_b / "folder0/file0.txt"), b"edited by a")
    equal(read(folder_a / "folder1/file1.txt"), b"edited by b")
    check(not (folder_a / "folder3/file3.txt").exists(), "the removal did not arrive")
    same_tree(folder_a, folder_b, times=True)
    equal(a.arena()["conflicts"], 0)


def empty_arena_then_files(h):
    a, b, folder_a, folder_b = h.pair({})
    b.run("mark", "real", "docs:")
    write(folder_b / "first.txt", "from b")
    h.agree(a, b)
    a.run("mark", "real", "docs:")
    h.agree(a, b)
    equal(read(folder_a / "first.txt"), b"from b")


def new_remote_files_come_unreal_without_a_mark(h):
    a, b, folder_a, folder_b = h.pair(MANY)
    equal(tree(folder_b).keys() & {b"folder0/file0.txt"}, set(), "bytes came that nobody wanted")
    equal(b.entry("folder0/file0.txt")["real"], False)
    equal(b.run("cat", "docs:folder0/file0.txt"), b"content of 0\n")


def join_with_folder_that_has_the_files(h):
    files = {f"d{i % 5}/f{i}": os.urandom(20_000) for i in range(60)}
    a = h.peer("a")
    b = h.peer("b", listen=False)
    folder_a, folder_b = a.folder(), b.folder()
    for path, data in files.items():
        write(folder_a / path, data)
        # Copied by hand; one folder was renamed since, one file edited, one is only here.
        write(folder_b / path.replace("d3/", "renamed/"), data)
    write(folder_b / "d0/f0", "another content")
    write(folder_b / "only-b.txt", "b")
    a.run("arena", "create", "docs", folder_a)
    h.introduce(a, b)
    b.run("arena", "join", "docs", folder_b)
    h.agree(a, b)

    sent = b.connection(a)["received_bytes"]
    check(sent < 400_000, "bytes came that were here already:", sent)
    equal(b.entry("d1/f1")["real"], True)
    equal(len(b.entry("d0/f0")["heads"]), 2, "different content of one name is one entry with two heads")
    equal(read(folder_b / "d0/f0"), b"another content", "each goes on showing its own")
    equal(read(folder_a / "d0/f0"), files["d0/f0"])
    equal(b.entry("only-b.txt")["real"], True)
    until(lambda: a.entry("only-b.txt")["kind"] == "file", "a knows of only-b.txt")
    for name in ("renamed/f3", "d1/f1"):
        equal(len(b.entry(name)["heads"]), 1, name)


def conflict_and_resolve(h):
    a, b, folder_a, folder_b = h.pair({"plan.txt": "draft"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    b.stop()
    write(folder_a / "plan.txt", "by a")
    write(folder_b / "plan.txt", "by b, longer")
    b.serve()
    h.agree(a, b)

    equal(read(folder_a / "plan.txt"), b"by a", "nothing is overwritten unseen")
    equal(read(folder_b / "plan.txt"), b"by b, longer")
    for peer in (a, b):
        listed = peer.json("conflicts", "docs")
        check("plan.txt" in str(listed), "not listed", listed)
        equal(len(peer.entry("plan.txt")["heads"]), 2)
        equal(peer.arena()["conflicts"], 1)
    chosen = next(head for head in a.entry("plan.txt")["heads"] if head["peer"] == "b")
    a.run("resolve", "docs:plan.txt", chosen["label"])
    h.agree(a, b)
    until(lambda: read(folder_a / "plan.txt") == b"by b, longer", "the chosen version is in a's folder")
    equal(read(folder_b / "plan.txt"), b"by b, longer")
    for peer in (a, b):
        equal(len(peer.entry("plan.txt")["heads"]), 1)
        equal(peer.arena()["conflicts"], 0)


def edit_survives_concurrent_removal(h):
    a, b, folder_a, folder_b = h.pair({"sub/plan.txt": "draft", "sub/other.txt": "x"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    b.stop()
    for name in ("plan.txt", "other.txt"):
        (folder_a / "sub" / name).unlink()
    (folder_a / "sub").rmdir()
    write(folder_b / "sub/plan.txt", "edited")
    b.serve()
    h.agree(a, b)
    equal(read(folder_b / "sub/plan.txt"), b"edited")
    equal(a.run("cat", "docs:sub/plan.txt"), b"edited")
    check(not (folder_b / "sub/other.txt").exists(), "only what was edited comes back")


def offline_edits(h):
    a, b, folder_a, folder_b = h.pair(MANY)
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    b.stop()
    write(folder_a / "folder1/while-away.txt", "a")
    write(folder_b / "folder1/own.txt", "b")
    (folder_b / "folder2").rename(folder_b / "moved")
    (folder_b / "folder3/file3.txt").unlink()
    write(folder_b / "folder4/file4.txt", "edited while stopped")
    b.serve()
    h.agree(a, b)
    equal(read(folder_b / "folder1/while-away.txt"), b"a")
    equal(read(folder_a / "folder1/own.txt"), b"b")
    equal(read(folder_a / "folder4/file4.txt"), b"edited while stopped")
    check((folder_a / "moved").is_dir() and not (folder_a / "folder2").exists(), "the rename did not arrive")
    check(not (folder_a / "folder3/file3.txt").exists())
    same_tree(folder_a, folder_b, times=True)


def rename_of_a_folder_is_one_rename(h):
    files = {f"big/sub{i % 10}/f{i}": f"{i}" for i in range(1000)}
    a, b, folder_a, folder_b = h.pair(files)
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    inode = (folder_b / "big/sub1/f1").stat().st_ino
    entry = b.entry("big/sub1/f1")["id"]
    received = b.connection(a)["received_bytes"]
    (folder_a / "big").rename(folder_a / "renamed")
    h.agree(a, b)
    equal((folder_b / "renamed/sub1/f1").stat().st_ino, inode, "the same file, moved by rename(2)")
    equal(b.entry("renamed/sub1/f1")["id"], entry)
    check(not (folder_b / "big").exists())
    moved = b.connection(a)["received_bytes"] - received
    check(moved < 20_000, "a rename of 1,000 files took", moved, "bytes")
    same_tree(folder_a, folder_b)


def longest_names_that_clash(h):
    a, b, folder_a, folder_b = h.pair({"x": "of x", "y": "of y"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    b.stop()
    a.stop()
    longest = "n" * 255
    (folder_a / "x").rename(folder_a / longest)
    (folder_b / "y").rename(folder_b / longest)
    a.serve()
    b.serve()
    h.agree(a, b)
    same_tree(folder_a, folder_b)
    equal(sorted(content for _, content in tree(folder_a).values()), [b"of x", b"of y"])
    check(os.fsencode(longest) in tree(folder_a), "one of them keeps the name")
    check(all(len(name) <= 255 for name in tree(folder_a)))


def editors_saves_are_edits(h):
    a, b, folder_a, folder_b = h.pair({"text.txt": "one"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    entry = a.entry("text.txt")["id"]
    # As vim saves with backups, and as those that write a temporary file and rename it over the name.
    (folder_a / "text.txt").rename(folder_a / "text.txt~")
    write(folder_a / "text.txt", "two")
    (folder_a / "text.txt~").unlink()
    h.agree(a, b)
    equal(read(folder_b / "text.txt"), b"two")
    write(folder_a / ".text.txt.swp", "three")
    (folder_a / ".text.txt.swp").rename(folder_a / "text.txt")
    h.agree(a, b)
    equal(read(folder_b / "text.txt"), b"three")
    equal(a.entry("text.txt")["id"], entry, "still the same entry")
    equal(tree(folder_b).keys(), {b"text.txt"})


def odd_names(h):
    a, b, folder_a, folder_b = h.pair({"plain": "x"})
    b.run("mark", "real", "docs:")
    root = os.fsencode(folder_a)
    names = [b"with space", b"new\nline", b"\xff\xfe not utf-8", "ümläut ☃".encode(), b"-dash", b"a:b", b"back\\slash",
             b"quote'\"", b"*?[x]", b"x" * 255, b"\x01control", b"...", b".hidden", b" leading", b"trailing ", b"CON",
             b"Case", b"case", b"~tilde", b"%41", b"tab\t"]
    for name in names:
        with open(os.path.join(root, name), "wb") as file:
            file.write(b"content of " + name)
    os.mkdir(os.path.join(root, b"dir \xe9\n"))
    with open(os.path.join(root, b"dir \xe9\n", b"inner \xe9"), "wb") as file:
        file.write(b"inner")
    h.agree(a, b)
    same_tree(folder_a, folder_b, times=True)
    check(len(tree(folder_b)) >= len(names) + 3)
    for peer in (a, b):
        until(lambda: peer.arena()["alike_names"] == [["Case", "case"]], "names that other systems take for one are told")
        check("docs:Case  docs:case" in peer.text("status"))


def symlinks_empty_sparse_modes_and_times(h):
    a, b, folder_a, folder_b = h.pair({"target.txt": "x"})
    b.run("mark", "real", "docs:")
    (folder_a / "link").symlink_to("target.txt")
    (folder_a / "dangling").symlink_to("../outside/nowhere")
    (folder_a / "absolute").symlink_to("/etc/hostname")
    (folder_a / "to-folder").symlink_to("empty-folder")
    (folder_a / "empty-folder").mkdir()
    write(folder_a / "empty-file", "")
    write(folder_a / "program", "#!/bin/sh\n", 0o755)
    write(folder_a / "private", "p", 0o600)
    write(folder_a / "read-only", "r", 0o444)
    with open(folder_a / "sparse", "wb") as file:
        file.truncate(50_000_000)
        file.seek(20_000_000)
        file.write(b"in the middle")
    write(folder_a / "old", "o")
    os.utime(folder_a / "old", ns=(1, 981173106_123456789))
    write(folder_a / "future", "f")
    os.utime(folder_a / "future", ns=(1, 4102444800_000000001))
    h.agree(a, b)
    same_tree(folder_a, folder_b, times=True, modes=True)
    equal((folder_b / "old").stat().st_mtime_ns, 981173106_123456789)
    equal(os.readlink(folder_b / "dangling"), "../outside/nowhere")

    (folder_a / "program").chmod(0o644)
    os.utime(folder_a / "old", ns=(1, 981173107_000000001))
    h.agree(a, b)
    until(lambda: (folder_b / "program").stat().st_mode & 0o777 == 0o644, "chmod arrived")
    until(lambda: (folder_b / "old").stat().st_mtime_ns == 981173107_000000001, "the time arrived")


def special_files_are_skipped_and_listed(h):
    a, b, folder_a, folder_b = h.pair({"plain": "x"})
    b.run("mark", "real", "docs:")
    os.mkfifo(folder_a / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        directory = os.open(folder_a, os.O_RDONLY)
        unix.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
    write(folder_a / "beside", "y")
    h.agree(a, b)
    until(lambda: {"fifo", "socket"} <= a.problems().keys(), "status lists them")
    equal(tree(folder_b).keys(), {b"plain", b"beside"})


def files_become_folders_and_back(h):
    a, b, folder_a, folder_b = h.pair({"x": "file", "y/inner": "folder", "z": "to link"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    (folder_a / "x").unlink()
    write(folder_a / "x/inside", "now a folder")
    (folder_a / "y/inner").unlink()
    (folder_a / "y").rmdir()
    write(folder_a / "y", "now a file")
    (folder_a / "z").unlink()
    (folder_a / "z").symlink_to("y")
    h.agree(a, b)
    same_tree(folder_a, folder_b)


def removal_guard_and_confirm(h):
    files = {f"d{i % 4}/f{i}": f"{i}" for i in range(400)}
    a, b, folder_a, folder_b = h.pair(files)
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    # A slow machine must not read one removal in pieces: each could be too small to be held.
    a.run("config", "docs:", "rest_ms", "1000")
    # Renames are not removals.
    for i in range(4):
        (folder_a / f"d{i}").rename(folder_a / f"e{i}")
    h.agree(a, b)
    equal(a.arena()["held_removals"], 0)
    check((folder_b / "e0").is_dir())

    for path in sorted(folder_a.glob("e[012]/*")):
        path.unlink()
    until(lambda: a.arena()["held_removals"] >= 200, "the removal is held back")
    equal(len(list(folder_b.glob("e*/*"))), 400, "held back means that nobody else loses them")
    said = a.fails(1, "wait", "docs", "--timeout", "1")
    check("is held back: `realize confirm docs`" in said, said)
    a.run("confirm", "docs", "--keep")
    until(lambda: len(list(folder_a.glob("e*/*"))) == 400, "--keep brings them back")
    h.agree(a, b)
    same_tree(folder_a, folder_b)

    for path in sorted(folder_a.glob("e[012]/*")):
        path.unlink()
    until(lambda: a.arena()["held_removals"], "the removal is held back again")
    a.run("confirm", "docs")
    h.agree(a, b)
    equal(len(list(folder_b.glob("e*/*"))), 100)
    equal(a.arena()["held_removals"], 0)


def a_slow_removal_is_counted_as_one(h):
    a, b, folder_a, folder_b = h.pair({f"d{i % 4}/f{i}": f"{i}" for i in range(400)})
    check("docs: nothing is held back" in a.fails(4, "confirm", "docs"))
    (folder_a / "link").symlink_to("d0")
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    status = a.arena()
    equal((status["files"], status["real_files"], status["symlinks"]), (400, 400, 1), "a link is no file that could be real")
    for path in list(folder_a.glob("d0/*"))[:60]:
        path.unlink()
    h.agree(a, b)
    equal(len(list(folder_b.glob("d*/*"))), 340, "that alone is nothing to hold")
    # In one reading, however slow the machine is: a quarter, but with what went before it more than a third.
    a.run("config", "docs:", "rest_ms", "1000")
    for path in folder_a.glob("d1/*"):
        path.unlink()
    until(lambda: a.arena()["held_removals"] == 100, "what remains is held back")
    said = next(p["detail"] for p in a.arena()["problems"] if p["kind"] == "held-removal")
    check("60 more were removed before it was noticed: `realize undo docs: --since 2m`" in said, said)

    a.run("confirm", "docs", "--keep")
    a.run("undo", "docs:", "--since", "2m")
    h.agree(a, b)
    until(lambda: len(list(folder_a.glob("d*/*"))) == 400, "all of it is there again")


def overwriting_guard_confirm_and_undo(h):
    files = {f"d{i % 4}/f{i}": f"old {i}" for i in range(400)}
    a, b, folder_a, folder_b = h.pair(files)
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    # A third is the share: a build that rewrites less than that is nobody's business.
    for i in range(100):
        write(folder_b / f"d{i % 4}/f{i}", f"built {i}")
    h.agree(a, b)
    equal(b.arena()["held_overwrites"], 0)
    equal(read(folder_a / "d3/f99"), b"built 99")
    # All in one reading, however slow the machine is: the folder is not there until all are rewritten.
    b.stop()
    for i in range(400):
        write(folder_b / f"d{i % 4}/f{i}", f"encrypted {i}")
    b.serve()
    until(lambda: b.arena()["held_overwrites"] == 400, "the new contents are held back")
    until(lambda: a.connection(b)["connected"], "connected")
    equal(len([p for p in folder_a.glob("d*/*") if b"encrypted" in read(p)]), 0, "nobody hears of them")
    check("held back: the new contents of 400 files" in b.text("status", "docs"), b.text("status", "docs"))
    equal(b.problems()[""], "held-overwrite")

    b.run("confirm", "docs", "--keep")
    until(lambda: not any(b"encrypted" in read(p) for p in folder_b.glob("d*/*")), "--keep brings the old contents back")
    h.agree(a, b)
    equal(read(folder_b / "d3/f99"), b"built 99")
    same_tree(folder_a, folder_b)

    b.run("config", "docs:", "rest_ms", "1000")
    watch = subprocess.Popen([str(PROGRAMS / "realize"), "--state", str(b.state), "--json", "watch", "docs"],
                             stdout=subprocess.PIPE, env=h.environment)
    try:
        equal(json.loads(watch.stdout.readline())["type"], "watching")
        for i in range(400):
            write(folder_b / f"d{i % 4}/f{i}", f"once more {i}")
        event = next(line for line in map(json.loads, watch.stdout) if line["type"] == "held-overwrite")
        check(int(event["detail"]) > 0, event)
    finally:
        watch.terminate()
        watch.wait()
        watch.stdout.close()
    until(lambda: b.arena()["held_overwrites"] >= 200, "the new contents are held back again")
    b.run("confirm", "docs")
    h.agree(a, b)
    equal(read(folder_a / "d3/f399"), b"once more 399")
    equal(b.arena()["held_overwrites"], 0)
    # Whoever received it has lost nothing.
    equal(b.json("undo", "docs:d3/f399")["restored"], 1)
    for i in range(4):
        a.run("undo", f"docs:d{i}", "--since", "1h", code=None)
    h.agree(a, b)
    equal(read(folder_b / "d3/f399"), b"old 399")
    equal(read(folder_b / "d3/f99"), b"old 99")
    same_tree(folder_a, folder_b)


def ignored_files_survive_a_remote_rmdir(h):
    a, b, folder_a, folder_b = h.pair({".realizeignore": "*.o\nbuild/\n", "src/a.c": "a", "src/deep/b.c": "b"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    write(folder_b / "src/deep/b.o", "object")
    write(folder_b / "src/build/out", "output")
    write(folder_a / "src/a.o", "object of a")
    h.agree(a, b)
    check(not (folder_a / "src/deep/b.o").exists(), "ignored means not sent")
    check(not (folder_b / "src/a.o").exists(), "ignored means not sent")
    for path in ("src/a.c", "src/deep/b.c", "src/a.o"):
        (folder_a / path).unlink()
    (folder_a / "src/deep").rmdir()
    (folder_a / "src").rmdir()
    h.agree(a, b)
    equal(read(folder_b / "src/deep/b.o"), b"object")
    equal(read(folder_b / "src/build/out"), b"output")
    check(not (folder_b / "src/a.c").exists() and not (folder_b / "src/deep/b.c").exists())


def history_tells_who(h):
    a, b, folder_a, folder_b = h.pair({"x.txt": "1"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    write(folder_b / "x.txt", "2")
    h.agree(a, b)
    (folder_b / "x.txt").rename(folder_b / "y.txt")
    h.agree(a, b)
    a.stop()
    a.serve()
    h.agree(a, b)
    items = str(a.json("history", "docs:"))
    for word in ("x.txt", "y.txt", "'b'"):
        check(word in items, word, "is not in", items)
    check("edit" in str(a.json("history", "docs:x.txt")), "what is gone has its history")
    check("docs:never" in a.fails(4, "history", "docs:never"), "what was never there has none")
    check("never: nothing was removed" in a.fails(4, "undo", "docs:never"), "the path is told")


def joined_and_not_told_is_no_consensus(h):
    a, b, _, _ = h.pair({"x.txt": "1"})
    a.run("arena", "create", "late", a.folder("late"))
    write(a.folder("late") / "y.txt", "2")
    a.run("arena", "admit", "late", "b")
    until(lambda: "late" in b.text("arena", "list"), "b hears of it")
    a.run("arena", "leave", "late")
    b.run("arena", "join", "late")

    said = b.arena("late")
    check(not said["consensus"] and "no member has said" in said["consensus_why"], said)
    a.run("arena", "join", "late", a.folder("late"))
    until(lambda: b.arena("late")["consensus"] and b.arena("late")["files"] == 1, "it is told")


def several_arenas(h):
    a, b, folder_a, folder_b = h.pair({"x": "docs"})
    other = a.folder("other")
    write(other / "y", "other")
    a.run("arena", "create", "photos", other)
    b.fails(4, "arena", "join", "photos")
    a.run("arena", "admit", "photos", "b")
    b.run("arena", "join", "photos")
    h.agree(a, b, arena="photos")
    equal(b.run("cat", "photos:y"), b"other")
    equal(b.run("cat", "docs:x"), b"docs")
    b.run("arena", "leave", "photos")
    b.fails(4, "ls", "photos:")
    equal(b.run("cat", "docs:x"), b"docs")


def paths_name_entries(h):
    a, b, folder_a, folder_b = h.pair({"sub/x": "1"})
    equal(a.run("cat", folder_a / "sub/x"), b"1")
    equal(a.run("cat", "docs:sub/x"), b"1")
    a.fails(4, "cat", "docs:absent")
    a.fails(4, "ls", "absent:")
    check("sub" in a.text("ls", "docs:"))
    equal(a.json("stat", str(folder_a / "sub/x"))["path"], "sub/x")
    check(pathlib.Path(folder_a).is_dir())


def why_a_file_is_as_it_is(h):
    a, b, folder_a, folder_b = h.pair({"plan.txt": "first"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    write(folder_b / "plan.txt", "second, by b")
    h.agree(a, b)
    (folder_a / "plan.txt").rename(folder_a / "agreed.txt")
    h.agree(a, b)

    why = a.json("why", "docs:agreed.txt")

    equal([(c["what"], c["path"]) for c in why["changes"]], [("move", "agreed.txt"), ("edit", "plan.txt"), ("create", "plan.txt")])
    equal([c["peer"] for c in why["changes"]][1], "b")
    equal([c.get("before", "").split(":")[-1] for c in why["changes"]], ["", "5", ""], "the edit says what it replaced")
    check(why["replaced"][0].startswith(why["changes"][1]["before"].split(":")[0]))
    check("replaced " + why["replaced"][0][:16] in a.text("why", "docs:agreed.txt"))
    equal(len(why["versions"]), 1)
    equal(why["versions"][0]["peer"], "b")
    equal(len(why["replaced"]), 1)
    equal([(p["peer"], p["acknowledged"]) for p in why["peers"]], [("b", True)])
    equal(a.json("why", "docs:plan.txt")["path"], "agreed.txt", "an earlier name is not found")
    check("known to" in a.text("why", "docs:agreed.txt"), "nothing is said for people")

    b.stop()
    write(folder_a / "agreed.txt", "third")
    until(lambda: len(a.json("why", "docs:agreed.txt")["changes"]) == 4, "the edit is known")
    equal([(p["peer"], p["acknowledged"]) for p in a.json("why", "docs:agreed.txt")["peers"]], [("b", False)])
    b.serve()
    h.agree(a, b)
    (folder_b / "agreed.txt").unlink()
    h.agree(a, b)
    gone = a.json("why", "docs:agreed.txt")
    equal((gone["shown"], gone["changes"][0]["what"]), (False, "remove"))
    a.fails(4, "why", "docs:never-was")
