"""Bad luck and bad input: kills, cuts, full disks, absent folders, strangers."""

import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess

from harness import (NOBODY, WAIT_S, Peer, Skip, check, equal, need_root, read, same_tree, tree, until, write)


def random_files(count, size_bytes):
    return {f"d{i % 5}/f{i}.bin": os.urandom(size_bytes + i) for i in range(count)}


def whole_or_absent(folder, expected):
    """Every file in `folder` is one of `expected`, whole; nothing of ours lies among them."""
    for path, description in tree(folder).items():
        if description[0] == "file":
            check(path.decode() in expected, "a stranger among the user's files:", path)
            check(expected[path.decode()] == description[1], "half-written:", path)


def kill_of_the_receiver_mid_sync(h):
    files = random_files(60, 700_000)
    a, b, folder_a, folder_b = h.pair({})
    b.run("mark", "real", "docs:")
    for path, data in files.items():
        write(folder_a / path, data)
    for share in (0.1, 0.4, 0.7):
        until(lambda: len(list(folder_b.glob("d*/*"))) >= share * len(files), f"{share} of the files are there")
        b.kill()
        whole_or_absent(folder_b, files)
        b.serve()
    h.agree(a, b)
    same_tree(folder_a, folder_b, times=True)
    equal(os.listdir(folder_b / ".realize/tmp") if (folder_b / ".realize/tmp").is_dir() else [], [])


def kill_of_the_sender_mid_sync(h):
    files = random_files(60, 700_000)
    a, b, folder_a, folder_b = h.pair({})
    b.run("mark", "real", "docs:")
    for path, data in files.items():
        write(folder_a / path, data)
    for share in (0.1, 0.5):
        until(lambda: len(list(folder_b.glob("d*/*"))) >= share * len(files), f"{share} of the files are there")
        a.kill()
        whole_or_absent(folder_b, files)
        a.serve()
    h.agree(a, b)
    same_tree(folder_a, folder_b, times=True)
    whole_or_absent(folder_a, files)


def kill_while_both_write(h):
    a, b, folder_a, folder_b = h.pair({"start": "x"})
    for peer in (a, b):
        peer.run("mark", "real", "docs:")
    expected = {"start": b"x"}
    for round in range(6):
        for i in range(20):
            for peer, folder in ((a, folder_a), (b, folder_b)):
                name = f"{peer.name}{round}/f{i}"
                expected[name] = os.urandom(3000 + i)
                write(folder / name, expected[name])
        victim = (a, b)[round % 2]
        victim.kill()
        victim.serve()
    h.agree(a, b)
    same_tree(folder_a, folder_b)
    equal({path: d[1] for path, d in tree(folder_a).items() if d[0] == "file"},
          {path.encode(): data for path, data in expected.items()})
    equal(a.arena()["conflicts"], 0)


def full_mark_real_completes_across_restarts(h):
    files = random_files(150, 60_000)
    a, b, folder_a, folder_b = h.pair(files)
    b.run("mark", "real", "docs:")
    b.stop()
    b.serve()
    until(lambda: len(list(folder_b.glob("d*/*"))) >= 10, "some are there")
    b.kill()
    b.serve()
    h.agree(a, b)
    same_tree(folder_a, folder_b, times=True)
    equal(b.arena()["missing_files"], 0)


def unrealize_only_when_another_keeps_it(h):
    a, b, folder_a, folder_b = h.pair({"x": "content"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    a.stop()
    until(lambda: not b.connection(a)["connected"], "b notices")
    b.run("mark", "unreal", "docs:")
    # Nobody is there to promise: it must still be here when the other returns, and go only then.
    b.run("wait", "docs", "--timeout", "1", code=1)
    equal(read(folder_b / "x"), b"content")
    a.serve()
    h.agree(a, b)
    until(lambda: not (folder_b / "x").exists(), "a keeps it, b lets go")
    equal(b.run("cat", "docs:x"), b"content")
    # Both unreal would be nobody's: one of them has to keep it.
    a.run("mark", "unreal", "docs:")
    a.run("wait", "docs", "--timeout", "5", code=None)
    equal(read(folder_a / "x"), b"content")


def chain_of_three_with_unreal_middle(h):
    a = h.peer("a", listen=False)
    b = h.peer("b")
    c = h.peer("c", listen=False)
    folder_a, folder_c = a.folder(), c.folder()
    files = random_files(20, 200_000)
    for path, data in files.items():
        write(folder_a / path, data)
    a.run("arena", "create", "docs", folder_a)
    h.introduce(b, a)
    a.run("arena", "admit", "docs", "b")
    b.run("arena", "join", "docs")
    h.introduce(b, c)
    c.run("arena", "join", "docs", folder_c)
    h.agree(a, b, c)
    check(not c.connection(a)["connected"], "a and c never meet")

    equal(c.run("cat", "docs:d0/f0.bin"), files["d0/f0.bin"])
    c.run("mark", "real", "docs:")
    h.agree(a, b, c)
    same_tree(folder_a, folder_c, times=True)
    write(folder_c / "from-c.txt", "c")
    a.run("mark", "real", "docs:")
    h.agree(a, b, c)
    until(lambda: (folder_a / "from-c.txt").exists(), "c's file goes through b to a")
    equal(read(folder_a / "from-c.txt"), b"c")
    equal(b.entry("d0/f0.bin")["real"], False)


def deaf_inviter(h):
    a = h.peer("a", listen=False)
    b = h.peer("b")
    folder_a = a.folder()
    write(folder_a / "x", "1")
    a.run("arena", "create", "docs", folder_a)
    # By keys, as an invite of a deaf peer has no address: the deaf one dials.
    a.run("peer", "add", "b", b.text("key"), b.status()["listen"])
    b.run("peer", "add", "a", a.text("key"))
    a.run("arena", "admit", "docs", "b")
    until(lambda: b.connection(a)["connected"], "a dialled")
    b.run("arena", "join", "docs")
    h.agree(a, b)
    equal(b.run("cat", "docs:x"), b"1")


def admission_narrows_an_invite(h):
    a, b = h.peer("a"), h.peer("b", listen=False)
    folder_a = a.folder()
    write(folder_a / "x", "secret")
    a.run("arena", "create", "docs", folder_a)
    h.introduce(a, b, "--no-arenas")
    until(lambda: b.connection(a)["connected"], "connected")
    b.fails(4, "arena", "join", "docs")
    a.run("arena", "admit", "docs", "b")
    b.run("arena", "join", "docs")
    h.agree(a, b)
    equal(b.run("cat", "docs:x"), b"secret")


def a_withdrawn_admission_cuts(h):
    a, b = h.peer("a"), h.peer("b", listen=False)
    c = h.peer("c", listen=False)
    folder_a, folder_b = a.folder(), b.folder()
    write(folder_a / "x", "before")
    write(folder_a / "large", os.urandom(20_000_000))
    a.run("arena", "create", "docs", folder_a)
    h.introduce(a, b)
    h.introduce(a, c)
    b.run("arena", "join", "docs", folder_b)
    c.run("arena", "join", "docs")
    h.agree(a, b, c)
    a.fails(None, "arena", "withdraw", "docs", "a")  # Itself: that is leaving.
    b.run("cat", "docs:x")
    a.run("arena", "withdraw", "docs", "b")
    b.fails(None, "cat", "docs:large")  # Cut when the command has returned.
    write(folder_a / "y", "after")
    h.agree(a, c)
    equal(c.run("cat", "docs:y"), b"after")
    check(a.connection(b)["connected"], "still of the household")
    until(lambda: b.problems().get("") == "not-admitted", "b says so")
    equal(b.arena()["consensus"], False)
    check("y" not in b.text("ls", "docs:"))
    equal([member["name"] for member in a.arena()["members"] if member["name"] == "b"], [], "no member any more")
    a.fails(4, "arena", "withdraw", "docs", "b")
    c.stop(), c.serve()
    until(lambda: c.connection(a)["connected"], "back")
    a.run("arena", "admit", "docs", "b")
    h.agree(a, b)
    equal(b.run("cat", "docs:y"), b"after")
    equal(b.problems(), {})


def an_invite_works_once(h):
    a, b, c = h.peer("a"), h.peer("b", listen=False), h.peer("c", listen=False)
    code = a.text("invite")
    b.run("join", code)
    try:
        c.run("join", code)
    except Exception:
        pass
    else:
        raise AssertionError("an invite was taken twice")
    check(all(peer["name"] != "c" for peer in a.status()["peers"]), "c is in the roster")
    b.fails(2, "join", "not a code")


def peer_remove_cuts(h):
    a, b, folder_a, folder_b = h.pair({"x": "1"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    a.run("peer", "remove", "b")
    until(lambda: not b.connection(a)["connected"], "cut")
    write(folder_a / "after", "2")
    a.run("arena", "rescan", "docs")
    b.run("wait", "docs", "--timeout", "2", code=1)
    check(not (folder_b / "after").exists())
    equal(read(folder_b / "x"), b"1", "what it had, it keeps")
    check(all(peer["name"] != "b" for peer in a.status()["peers"]))


def unreadable_is_not_gone(h):
    """As an ordinary user, whom permissions bind."""
    uid = NOBODY if os.geteuid() == 0 else None
    a, b = h.peer("a", uid=uid), h.peer("b", listen=False, uid=uid)
    folder_a, folder_b = a.folder(), b.folder()
    for path in ("f.txt", "d/g.txt", "d/h.txt", "other.txt"):
        write(folder_a / path, "content of " + path)
    subprocess.run(["chown", "-R", str(uid or os.getuid()), folder_a], check=True)
    a.run("arena", "create", "docs", folder_a)
    h.introduce(a, b)
    b.run("arena", "join", "docs", folder_b)
    b.run("mark", "real", "docs:")
    h.agree(a, b)

    (folder_a / "f.txt").chmod(0)
    (folder_a / "d").chmod(0)
    a.run("arena", "rescan", "docs")
    until(lambda: {"d", "f.txt"} <= a.problems().keys(), "status tells of both")
    h.agree(a, b)
    check({"d", "f.txt"} <= a.problems().keys(), "and goes on telling")
    equal((folder_a / "d").stat().st_mode & 0o777, 0, "what the user forbids stays forbidden")
    a.stop()
    a.serve()
    a.run("arena", "rescan", "docs")
    until(lambda: {"d", "f.txt"} <= a.problems().keys(), "also after a restart")
    write(folder_a / "other.txt", "edited")
    os.chown(folder_a / "other.txt", uid or os.getuid(), -1)
    until(lambda: read(folder_b / "other.txt") == b"edited", "others go on")
    for path in ("f.txt", "d/g.txt", "d/h.txt"):
        check(os.path.exists(folder_b / path), path, "was removed elsewhere because it could not be read here")
    (folder_a / "d").chmod(0o755)
    (folder_a / "f.txt").chmod(0o644)
    a.run("arena", "rescan", "docs")
    until(lambda: not a.problems(), "nothing is wrong any more")
    h.agree(a, b)
    same_tree(folder_a, folder_b)


def vanished_folder_suspends(h):
    a, b, folder_a, folder_b = h.pair({f"f{i}": f"{i}" for i in range(150)})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    away = a.base / "away"
    folder_a.rename(away)
    until(lambda: a.arena()["suspended"], "a says so")
    check(a.arena()["suspended_why"])
    folder_a.mkdir()  # As an unmounted disk leaves: an empty mount point without our marker.
    a.stop()
    a.serve()
    check(a.arena()["suspended"], "an empty folder is not the arena")
    write(folder_b / "of-b", "b")
    equal(len(tree(folder_b)), 151, "nothing was removed elsewhere")
    equal(tree(folder_a), {})
    folder_a.rmdir()
    away.rename(folder_a)
    until(lambda: not a.arena()["suspended"], "a goes on by itself")
    h.agree(a, b)
    write(folder_a / "later", "the folder that came back is watched")
    until(lambda: "later" in b.text("ls", "docs:"), "b hears of it", 10)
    a.run("mark", "real", "docs:")
    h.agree(a, b)
    same_tree(folder_a, folder_b)


def own_folder_removed_suspends_and_joining_again_heals(h):
    a, b, folder_a, folder_b = h.pair({f"f{i}": f"{i}" for i in range(10)})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    shutil.rmtree(folder_a / ".realize")
    until(lambda: a.arena()["suspended"], "a says so, though no file was touched", 10)
    check("arena leave docs" in a.arena()["suspended_why"], "and how to go on:", a.arena()["suspended_why"])
    write(folder_a / "meanwhile", "in a")
    write(folder_a / "f1", "edited in a")
    write(folder_b / "f2", "edited in b")
    equal(len(tree(folder_b)), 10, "nothing was removed elsewhere")
    a.run("arena", "leave", "docs")
    equal(len(tree(folder_a)), 11, "leaving keeps the files")
    a.run("arena", "join", "docs", folder_a)
    a.run("mark", "real", "docs:")
    until(lambda: (folder_b / "meanwhile").exists(), "what was made meanwhile arrives")
    h.agree(a, b)
    contents = sorted(head["size_bytes"] for conflict in b.json("conflicts", "docs")["conflicts"]
                      for head in conflict["heads"])
    equal(contents, [1, 11], "of f1 both versions are kept")
    equal(read(folder_a / "f1"), b"edited in a")
    equal(read(folder_a / "f2"), b"edited in b", "what a had of f2 is known to be old")


def several_let_go_at_once(h):
    names = [f"f{i}" for i in range(60)]
    a, b, folder_a, folder_b = h.pair({name: "content of " + name for name in names}, listen_b=True)
    c = h.peer("c")
    h.introduce(b, c)
    folder_c = c.folder()
    c.run("arena", "join", "docs", folder_c)
    peers, folders = (a, b, c), (folder_a, folder_b, folder_c)
    for peer in peers:
        peer.run("mark", "real", "docs:")
    h.agree(*peers)
    for folder in folders:
        equal(len(tree(folder)), len(names))

    with concurrent.futures.ThreadPoolExecutor(len(peers)) as together:
        list(together.map(lambda peer: peer.run("mark", "unreal", "docs:"), peers))

    def real_in(folder):
        return set(os.listdir(folder)) - {".realize"}

    def only_c_has_all():
        there = [real_in(folder) for folder in folders]
        equal(sorted(set.union(*there)), sorted(names), "a file is real nowhere")
        return [len(names) for names in there] == [0, 0, len(names)]

    # Who lets go relies on one who wants to keep it, and nobody may any more: none is let go by all.
    for peer in peers:
        only_c_has_all()
        equal(peer.run("cat", *(f"docs:{name}" for name in names)), "".join("content of " + n for n in names).encode())
    c.run("mark", "real", "docs:")
    until(only_c_has_all, "the others let go now that one keeps all")
    h.agree(*peers)
    for peer in peers:
        equal(peer.run("cat", *(f"docs:{name}" for name in names)), "".join("content of " + n for n in names).encode())


def disk_full(h):
    need_root()
    a, b = h.peer("a"), h.peer("b", listen=False)
    folder_a, folder_b = a.folder(), b.folder()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder_b], check=True)
    write(folder_a / "small.txt", "small")
    a.run("arena", "create", "docs", folder_a)
    h.introduce(a, b)
    b.run("arena", "join", "docs", folder_b)
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    write(folder_a / "large.bin", os.urandom(10_000_000))
    until(lambda: b.problems().get("large.bin") == "no-space" or "no-space" in str(b.arena()["problems"]),
          "status tells that there is no space")
    equal(read(folder_b / "small.txt"), b"small")
    check(not (folder_b / "large.bin").exists())
    subprocess.run(["mount", "-o", "remount,size=60m", folder_b], check=True)
    h.agree(a, b)
    same_tree(folder_a, folder_b)


def database_disk_full(h):
    """The disk of the state folder, not that of the user's files."""
    need_root()
    a, b = h.peer("a"), h.peer("b", listen=False)
    folder_a, folder_b = a.folder(), b.folder()
    h.introduce(a, b)
    b.stop()
    kept = b.base / "kept"
    shutil.copytree(b.state, kept, symlinks=True, ignore=lambda _, names: [n for n in names if n == "socket"])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", b.state], check=True)
    shutil.copytree(kept, b.state, dirs_exist_ok=True)
    b.serve()
    a.run("arena", "create", "docs", folder_a)
    a.run("arena", "admit", "docs", "b")
    b.run("arena", "join", "docs", folder_b)
    h.agree(a, b)
    b.run("mark", "real", "docs:")
    for i in range(20_000):
        write(folder_a / str(i % 100) / f"a long name for file number {i}", f"{i}")
    status = until(lambda: b.arena()["suspended"] and b.arena(), "b says that its database has no space")
    check("full" in status["suspended_why"], status["suspended_why"])
    equal(status["consensus"], False)
    write(folder_b / "of-b", "written meanwhile")
    with open(b.state / "filler", "wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"." * 4096)
    b.fails(None, "arena", "create", "other", b.folder("other"))  # Nor is there space for this; it says so.
    for i in range(50):  # Until what was set aside for the log is used up.
        b.run("peer", "add", f"p{i}", f"{i + 1:064x}", code=None)

    def kinds():
        return [problem["kind"] for problem in b.status()["problems"]]

    until(lambda: "no-space" in kinds(), "the peer's own database is said to have no space")
    equal(set(kinds()) - {"no-space", "audit"}, set())
    a.run("arena", "create", "more", a.folder("more"))
    a.run("arena", "admit", "more", "b")
    equal(b.json("arena", "list").get("offered", []), [], "there is no space for this news")
    subprocess.run(["mount", "-o", "remount,size=400m", b.state], check=True)
    until(lambda: not b.arena()["suspended"], "b goes on by itself")
    until(lambda: "no-space" not in kinds(), "so does the household")
    b.run("arena", "join", "more", b.folder("more"))
    h.agree(a, b)
    a.run("mark", "real", "docs:")
    h.agree(a, b)
    same_tree(folder_a, folder_b)
    b.run("arena", "create", "other", b.folder("other"))


def files_that_keep_changing(h):
    a, b, folder_a, folder_b = h.pair({})
    b.run("mark", "real", "docs:")
    with open(folder_a / "log", "wb", buffering=0) as file:
        for i in range(3000):
            file.write(b"line %06d\n" % i)
            if i % 500 == 0:
                b.run("wait", "docs", "--timeout", "1", code=None)
                if (folder_b / "log").exists():
                    seen = read(folder_b / "log")
                    whole = b"".join(b"line %06d\n" % line for line in range(len(seen) // 12 + 1))
                    check(whole.startswith(seen), "mixed content")
    h.agree(a, b)
    same_tree(folder_a, folder_b, times=True)


def strangers_on_the_port(h):
    a, b, folder_a, folder_b = h.pair({"x": "1"})
    host, port = a.status()["listen"].rsplit(":", 1)
    stalled = []
    for garbage in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 8, os.urandom(3000), b"\xff" * 100_000):
        connection = socket.create_connection((host, int(port)), timeout=WAIT_S)
        try:
            connection.sendall(garbage)
        except OSError:
            pass
        stalled.append(connection)
    for _ in range(50):
        stalled.append(socket.create_connection((host, int(port)), timeout=WAIT_S))
    b.run("mark", "real", "docs:")
    write(folder_a / "y", "2")
    h.agree(a, b)
    equal(read(folder_b / "y"), b"2", "others are unaffected")
    b.stop()
    b.serve()
    h.agree(a, b)
    for connection in stalled:
        connection.close()


def one_process_a_state(h):
    a = h.peer("a")
    a.run("serve", code=13)
    equal(a.status()["pid"], a.pid)
    a.fails(5, "init", "--name", "again")
    equal(a.state.stat().st_mode & 0o777, 0o700)
    status = a.status()
    for key in ("pid", "listen", "peers", "arenas"):
        check(key in status, key)
    a.stop()
    a.fails(3, "status")
    check(json.loads(a.run("--json", "status", code=3))["error"]["code"] == "not-running")


def wait_says_what_is_missing(h):
    a = h.peer("a")
    a.run("arena", "create", "docs", a.folder())
    said = a.fails(1, "wait", "docs", "--timeout", "1")
    check(said.strip(), "nothing on stderr")


def damaged_database_is_said_so(h):
    a, b, folder_a, folder_b = h.pair({"x": "1"})
    a.stop()
    database = next((a.state / "arenas").glob("*/index.db"))
    data = bytearray(database.read_bytes())
    data[:4096] = os.urandom(4096)
    database.write_bytes(bytes(data))
    a.run("serve", "--detach", code=None)
    said = a.run("status", "--json", code=None).decode() + a.household.logs()
    check("damage" in said or "corrupt" in said or "not a database" in said, said)
    equal(read(folder_a / "x"), b"1")


def lost_indices_begin_anew(h):
    a, b, folder_a, folder_b = h.pair({"x": "1", "sub/y": "2"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    b.stop()
    shutil.rmtree(b.state / "arenas")
    (folder_a / "x").write_text("newer")
    b.serve()
    h.agree(a, b)
    same_tree(folder_a, folder_b)
    equal(a.arena()["conflicts"], 0)


def newer_state_is_refused(h):
    a = h.peer("a")
    a.stop()
    subprocess.run(["sqlite3", a.state / "peer.db", "PRAGMA user_version = 9999"], check=True, capture_output=True)
    said = a.fails(12, "serve")
    check(said.strip())


def restart_moves_only_what_is_lacking(h):
    files = random_files(40, 100_000)
    a, b, folder_a, folder_b = h.pair(files)
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    for peer in (b, a):
        peer.stop()
        peer.serve()
    h.agree(a, b)
    received = b.connection(a)["received_bytes"]
    check(received < 200_000, "after a restart with nothing new,", received, "bytes came")
    write(folder_a / "one-more", "x")
    h.agree(a, b)
    check(b.connection(a)["received_bytes"] < 250_000)
    same_tree(folder_a, folder_b)


def rotten_files_are_found_and_repaired(h):
    a, b, folder_a, folder_b = h.pair({"d/plan.txt": "the right bytes", "d/edited.txt": "before"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    whole = b.json("verify", "docs")
    equal((whole["whole"], whole["arenas"][0]["files"], whole["arenas"][0]["damaged_count"]), (True, 2, 0))

    # As a failing disk does: other bytes under the times that are known.
    b.stop()
    write(folder_b / "d/plan.txt", "the WRONG bytes")
    stat = (folder_b / "d/plan.txt").stat()
    index = next(b.state.glob("arenas/*/index.db"))
    with contextlib.closing(sqlite3.connect(index)) as database, database:
        changed = database.execute("UPDATE disk SET mtime_ns = ?, ctime_ns = ?, inode = ? WHERE name = CAST('plan.txt' AS BLOB)",
                                   (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)).rowcount
    equal(changed, 1)
    write(folder_b / "d/edited.txt", "edited while nobody looked")
    b.serve()
    h.agree(a, b)
    equal(read(folder_b / "d/plan.txt"), b"the WRONG bytes")

    found = b.json("verify")

    equal(found["whole"], True)
    equal([(d["path"], d["state"]) for d in found["arenas"][0]["damaged"]], [("d/plan.txt", "repaired")])
    equal(read(folder_b / "d/plan.txt"), b"the right bytes")
    equal(read(folder_b / found["arenas"][0]["damaged"][0]["kept_as"]), b"the WRONG bytes")
    h.agree(a, b)
    equal(read(folder_a / "d/plan.txt"), b"the right bytes")
    equal(read(folder_a / "d/edited.txt"), b"edited while nobody looked")
    check("2 files" in b.text("verify", "docs"), "nothing is said for people")


def two_clones_of_one_peer_both_stop(h):
    a, b, folder_a, folder_b = h.pair({"one.txt": "1"}, listen_b=True)
    a.stop()
    clone = Peer(h, "clone")
    shutil.copytree(a.state, clone.state)
    shutil.copytree(folder_a, clone.base / "files")
    # On another machine the folder would have the same path.
    with contextlib.closing(sqlite3.connect(clone.state / "peer.db")) as database, database:
        database.execute("UPDATE arena SET folder = ?", (str(clone.base / "files"),))

    def twins(peer):
        return [problem for problem in peer.status()["problems"] if problem["kind"] == "twin"]

    a.serve()
    h.agree(a, b)
    h.peers.append(clone.serve())
    for peer in (a, clone, b):
        found = until(lambda: twins(peer), f"{peer.name} says that there are two")
        check("realize init" in found[0]["detail"], "it says what to do:", found)
    for peer in (a, clone):
        check(not peer.connection(b)["connected"], peer.name, "has stopped")
        check("twin" in peer.text("status"), "for people, too")
    write(folder_a / "two.txt", "written at a")
    until(lambda: a.text("ls", "docs:").count("two.txt"), "a reads its own folder all the same")
    check(not (folder_b / "two.txt").exists(), "nothing is sent")

    # Told sooner than it would find out by itself, by b's being started anew.
    clone.stop()
    b.stop()
    b.serve()
    until(lambda: not twins(a), "a goes on alone", 120)
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    equal(read(folder_b / "one.txt"), b"1")
    equal(read(folder_b / "two.txt"), b"written at a")
    equal(sorted(peer["name"] for peer in b.status()["peers"]), ["a"], "the household is as it was")
    same_tree(folder_a, folder_b)


def a_removed_peer_knows_it(h):
    a, b, folder_a, folder_b = h.pair({"one.txt": "1"})
    c = h.peer("c")
    h.introduce(a, c)
    c.run("arena", "join", "docs")
    h.agree(a, b, c)
    # B and C, who cannot meet before both know of each other, hear of each other's consent through A.
    until(lambda: all(peer.arena()["consensus"] for peer in (a, b, c)), "all agree")

    a.run("peer", "remove", "b")
    until(lambda: [p["kind"] for p in b.status()["problems"]] == ["removed"], "b knows that it was removed")
    check(not b.arena()["consensus"] and "removed" in b.arena()["consensus_why"], b.arena())
    until(lambda: a.arena()["consensus"], "nobody is waited for")

    # Nobody can tell one that was away; it is refused.
    c.stop()
    a.run("peer", "remove", "c")
    c.serve()
    until(lambda: "refuses" in c.arena()["consensus_why"], "c says that it is refused")
    check(not c.arena()["consensus"])


def a_conflict_counts_as_shown(h):
    a, b, folder_a, folder_b = h.pair({"x": "12345"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    b.stop()
    write(folder_a / "x", "1234567890")
    write(folder_b / "x", "1")
    b.serve()
    until(lambda: a.arena()["conflicts"] == 1 and b.arena()["conflicts"] == 1, "the conflict is known")
    equal((a.arena()["bytes"], b.arena()["bytes"]), (10, 1))


def network(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def a_machine_that_moves_is_found_again(h):
    need_root()
    if not shutil.which("ip"):
        raise Skip("needs ip(8)")
    names = [f"realize-{os.getpid()}-{end}" for end in "ab"]
    try:
        for name in names:
            try:
                network("netns", "add", name)
            except subprocess.CalledProcessError as failed:
                raise Skip("needs network namespaces") from failed
        network("link", "add", "inside", "netns", names[0], "type", "veth", "peer", "name", "inside", "netns", names[1])
        for name, address in zip(names, ("10.77.0.1/24", "10.77.0.2/24")):
            network("-n", name, "link", "set", "lo", "up")
            network("-n", name, "link", "set", "inside", "up")
            network("-n", name, "address", "add", address, "dev", "inside")
        peers = []
        for name, peer in zip(names, (Peer(h, "a"), Peer(h, "b"))):
            h.peers.append(peer)
            peer.prefix = ["ip", "netns", "exec", name]
            peer.run("init", "--name", peer.name, "--listen", "0.0.0.0:0")
            peers.append(peer.serve())
        a, b = peers
        a.run("arena", "create", "docs", a.folder())
        h.introduce(a, b)
        b.run("arena", "join", "docs", b.folder())
        h.agree(a, b)
        address = next(peer["address"] for peer in b.status()["peers"])
        check(address.startswith("10.77.0.1:"), address)

        network("-n", names[0], "address", "del", "10.77.0.1/24", "dev", "inside")
        until(lambda: not a.connection(b)["connected"], "a notices that its address is gone", 15)
        network("-n", names[0], "address", "add", "10.77.0.3/24", "dev", "inside")

        moved = address.replace("10.77.0.1:", "10.77.0.3:")
        until(lambda: a.connection(b)["connected"], "a dials again at once", 15)
        until(lambda: [peer["address"] for peer in b.status()["peers"]] == [moved], "b learns where a is now", 15)
        h.agree(a, b)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def the_audit_log_tells_all(h):
    a, b, folder_a, folder_b = h.pair({"x y.txt": "1"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    write(folder_b / "x y.txt", "two")
    h.agree(a, b)
    (folder_b / "x y.txt").unlink()
    h.agree(a, b)
    b.stop()
    until(lambda: "disconnected" in read(a.state / "audit.log").decode(), "the end of the connection is there")

    lines = [line.split(" ") for line in read(a.state / "audit.log").decode().splitlines()]
    told = [(arena, peer, what, path) for _, arena, peer, what, path, *_ in lines]
    path = "x\\x20y.txt"
    for line in (("-", "a", "started", "-"), ("docs", "a", "create", path), ("-", "b", "connected", "-"),
                 ("docs", "b", "edit", path), ("docs", "b", "remove", path), ("-", "b", "disconnected", "-")):
        check(line in told, line, "is not in", told)
    edit = next(line for line in lines if line[3] == "edit")
    equal([edit[5].split(":")[1], edit[6], edit[7].split(":")[1]], ["1", "->", "3"], edit)
    equal(os.stat(a.state / "audit.log").st_mode & 0o777, 0o600)

    a.fails(2, "config", "audit", "perhaps")
    a.fails(2, "config", "audit_rotate_bytes", "1")
    a.fails(None, "config", "audit_path", str(folder_a / "audit.log"))
    a.run("config", "audit_path", str(a.base / "elsewhere.log"))
    write(folder_a / "later", "1")
    until(lambda: (a.base / "elsewhere.log").exists() and b" later " in read(a.base / "elsewhere.log"), "it goes on elsewhere")
    a.run("config", "audit", "off")
    equal({s["name"]: s["value"] for s in a.json("config")["settings"]}["audit"], "off")
    a.stop()
    check(b"stopped" not in read(a.base / "elsewhere.log"), "off is off")


def a_full_disk_harms_only_the_audit_log(h):
    need_root()
    a, b, folder_a, folder_b = h.pair({"x": "1"})
    b.run("mark", "real", "docs:")
    disk = a.base / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], check=False).returncode != 0:
        raise Skip("needs mount")
    a.run("config", "audit_path", str(disk / "audit.log"))
    for i in range(400):
        write(folder_a / f"file with quite a long name so that its line is long {i:03}", "1")
    h.agree(a, b)
    same_tree(folder_a, folder_b)
    found = until(lambda: [p for p in a.status()["problems"] if p["kind"] == "audit"], "the lost lines are counted")
    check("space" in found[0]["detail"], found)
    check(read(disk / "audit.log").endswith(b"\n"), "no half lines")


def too_few_watches_are_said_and_heal(h):
    need_root()
    limit = "/proc/sys/user/max_inotify_watches"
    a = Peer(h, "a")
    # The limit is one of each user namespace: nobody else's is touched.
    a.prefix = ["unshare", "-U", "-r", "sh", "-c", f'echo 20 > {limit} && exec "$0" "$@"']
    if subprocess.run([*a.prefix, "true"], capture_output=True, check=False).returncode != 0:
        raise Skip("needs user namespaces")
    h.peers.append(a)
    a.init().serve()
    folder = a.folder()
    for i in range(10):
        write(folder / f"d{i}/x", "1")
    a.run("arena", "create", "docs", folder)
    until(lambda: not a.arena()["settling"], "it is read")
    equal(a.problems(), {})
    for i in range(10, 30):
        (folder / f"d{i}").mkdir()

    found = until(lambda: [p for p in a.arena()["problems"] if p["kind"] == "stale"], "it says that it does not see all")
    check("max_user_watches" in found[0]["detail"], found)
    write(folder / "d29/unseen", "1")
    a.run("arena", "rescan", "docs")
    until(lambda: "unseen" in a.text("ls", "docs:d29"), "a scan sees it")
    until(lambda: a.problems() == {"": "stale"}, "and still says so")

    subprocess.run(["nsenter", "-U", "-t", str(a.pid), "sh", "-c", f"echo 1000 > {limit}"], check=True)
    a.run("arena", "rescan", "docs")
    until(lambda: a.problems() == {}, "with more watches nothing is wrong")
    write(folder / "d29/seen", "1")
    until(lambda: "seen" in a.text("ls", "docs:d29").split(), "and all is watched", 20)


def a_watch_that_overflows_heals(h):
    a, b, folder_a, folder_b = h.pair({"x": "1"})
    limit = int(read("/proc/sys/fs/inotify/max_queued_events"))
    if limit > 200_000:
        raise Skip("the kernel's queue is too long here")
    os.kill(a.pid, signal.SIGSTOP)
    try:
        for i in range(limit // 2 + 100):  # Each is made and closed: two events, and more.
            os.close(os.open(folder_a / f"f{i}", os.O_CREAT | os.O_WRONLY))
        write(folder_a / "last/deep/file", "found")
    finally:
        os.kill(a.pid, signal.SIGCONT)
    until(lambda: a.arena()["files"] == limit // 2 + 102, "all are found", 120)
    until(lambda: a.problems() == {} and not a.arena()["settling"], "and nothing is stale any more", 120)
    h.agree(a, b)
    check("deep" in b.text("ls", "docs:last"))


def an_unmounted_folder_suspends(h):
    need_root()
    a = h.peer("a")
    b = h.peer("b")
    folder = a.folder()
    mount = ["mount", "-t", "tmpfs", "realize-test", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        raise Skip("needs mount")
    write(folder / "one", "1")
    a.run("arena", "create", "docs", folder)
    h.introduce(a, b)
    b.run("arena", "join", "docs", b.folder())
    b.run("mark", "real", "docs:")
    h.agree(a, b)

    subprocess.run(["umount", "-l", str(folder)], check=True)
    until(lambda: a.arena()["suspended"], "it is suspended")
    check(not a.arena()["consensus"] and "suspended" in a.text("status").lower())
    until(lambda: b.arena()["consensus"] is False, "who hears of it does not call that consensus")
    equal(read(b.folder() / "one"), b"1", "nothing is removed")

    # An empty disk there is not the arena either.
    subprocess.run(mount, check=True)
    b.run("wait", "docs", "--timeout", "2", code=1)
    check(a.arena()["suspended"], a.arena())
    equal(read(b.folder() / "one"), b"1")


def a_disk_in_the_folder_is_followed_and_its_absence_removes_nothing(h):
    need_root()
    a, b, folder_a, folder_b = h.pair({"x": "1", "above/y": "2"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    store, point = a.base / "store", folder_a / "above/disk"
    for path in (store, point):
        path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "realize-test", str(store)], capture_output=True, check=False).returncode != 0:
        raise Skip("needs mount")
    write(store / "deep/er/file", "on the disk")
    write(store / "at its root", "on the disk")
    h.agree(a, b)

    def attach():
        subprocess.run(["mount", "--bind", str(store), str(point)], check=True)

    def detach():
        subprocess.run(["umount", "-l", str(point)], check=True)

    def arrives(path, text, where=folder_b):
        until(lambda: (where / path).exists() and read(where / path) == text.encode(), f"{path} arrives")

    attach()
    arrives("above/disk/deep/er/file", "on the disk")
    write(point / "deep/er/file", "edited")
    arrives("above/disk/deep/er/file", "edited")

    a.stop()
    write(point / "deep/er/while-stopped", "found by the scan")
    a.serve()
    arrives("above/disk/deep/er/while-stopped", "found by the scan")
    h.agree(a, b)
    write(point / "deep/er/file", "after a restart")
    arrives("above/disk/deep/er/file", "after a restart")
    h.agree(a, b)

    detach()
    write(folder_b / "above/disk/at its root", "edited before anybody noticed")
    until(lambda: a.problems().get("above/disk") == "absent", "it is said")
    a.stop()
    a.serve()
    until(lambda: a.problems().get("above/disk") == "absent", "it is still said after a restart")
    write(folder_a / "x", "other")
    arrives("x", "other")
    equal(read(folder_b / "above/disk/deep/er/file"), b"after a restart", "nothing is removed")
    write(folder_b / "above/disk/deep/er/file", "edited meanwhile")
    (folder_b / "above/disk/deep/er/while-stopped").unlink()
    write(folder_b / "x", "told after that")
    arrives("x", "told after that", folder_a)
    equal(list(point.iterdir()), [], "nothing is put where the disk is not")

    write(store / "deep/er/new", "written elsewhere")
    attach()
    arrives("above/disk/deep/er/new", "written elsewhere")
    until(lambda: "above/disk" not in a.problems(), "it is there again")
    # A rename from our own folder does not reach another disk.
    until(lambda: a.problems() == {"above/disk/deep/er/file": "not-placed", "above/disk/at its root": "not-placed",
                                   "above/disk/deep/er/while-stopped": "not-removed"}, "what cannot be done there is said")
    equal(read(point / "deep/er/file"), b"after a restart")
