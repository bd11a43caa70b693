"""Conflicts: where their versions are seen, and what becomes of them."""

import errno
import os
import subprocess

from harness import check, equal, need_fuse, read, tree, until, write


def in_conflict(household, path="sub/plan.txt", b_real=True):
    """Two peers whose versions of one file differ; b is mounted from the beginning."""
    a, b, folder_a, folder_b = household.pair({path: "draft", "other.txt": "x"})
    if b_real:
        b.run("mark", "real", "docs:")
    household.agree(a, b)
    mount = b.mount()
    equal(sorted(os.listdir(mount)), sorted({path.split("/")[0], "other.txt"}))
    check(not (mount / "conflicts").exists(), "nothing is in conflict yet")
    a.stop()
    until(lambda: not b.connection(a)["connected"], "b notices")
    write(folder_a / path, "by a")
    write(mount / path, "by b, longer")
    a.serve()
    until(lambda: a.arena()["conflicts"] == 1 and b.arena()["conflicts"] == 1, "the conflict is known")
    household.agree(a, b)
    return a, b, folder_a, folder_b, mount


def refused(number, action, *words):
    try:
        action()
    except OSError as error:
        equal(error.errno, number, *words)
    else:
        raise AssertionError(f"was not refused: {words}")


def renamed(version, entry):
    try:
        os.rename(version, entry)
    except OSError as error:
        equal(error.errno, errno.EBUSY)
        return False
    return True


def conflicts_in_the_mount(h):
    need_fuse()
    a, b, folder_a, folder_b, mount = in_conflict(h)
    place = mount / "conflicts"
    until(place.is_dir, "the kernel hears of it")
    equal(sorted(os.listdir(mount)), ["conflicts", "other.txt", "sub"])
    equal(os.listdir(place), ["sub"])
    equal(os.listdir(place / "sub"), ["plan.txt"])

    versions = {read(place / "sub/plan.txt" / name): place / "sub/plan.txt" / name
                for name in os.listdir(place / "sub/plan.txt")}
    equal(sorted(versions), [b"by a", b"by b, longer"])
    of_a, of_b = versions[b"by a"], versions[b"by b, longer"]
    check("_a_" in of_a.name and "_b_" in of_b.name and of_a.name.endswith(".txt"), of_a.name, of_b.name)
    heads = {head["peer"]: head for head in b.entry("sub/plan.txt")["heads"]}
    for peer, version in (("a", of_a), ("b", of_b)):
        equal(os.getxattr(version, "user.realize.label").decode(), heads[peer]["label"])
        equal(os.getxattr(version, "user.realize.peer").decode(), peer)
        check(os.getxattr(version, "user.realize.blob").decode()[:8] in version.name, version.name)
        equal(os.stat(version).st_size, heads[peer]["size_bytes"])
    equal(os.getxattr(of_b, "user.realize.status"), b"here, shown")
    listing = subprocess.run(["ls", "-laR", place], capture_output=True, text=True, timeout=60)
    equal((listing.returncode, listing.stderr), (0, ""))

    # Nothing in it can be changed.
    refused(errno.EROFS, lambda: os.unlink(of_a), "rm")
    refused(errno.EROFS, lambda: os.rename(of_a, mount / "elsewhere"), "mv to another name")
    refused(errno.EROFS, lambda: os.rename(place, mount / "mine"), "mv of the folder")
    refused(errno.EROFS, lambda: os.rename(mount / "other.txt", place / "sub/plan.txt/new"), "mv into it")
    refused(errno.EROFS, lambda: write(place / "sub/plan.txt/new", "x"), "a new file")
    refused(errno.EROFS, lambda: (place / "sub/plan.txt/new").mkdir(), "a new folder")
    refused(errno.EROFS, lambda: os.chmod(of_a, 0o600), "chmod")
    refused(errno.EROFS, lambda: os.rmdir(place), "rmdir")
    equal(len(os.listdir(place / "sub/plan.txt")), 2)
    subprocess.run(["cp", of_a, h.root / "copy"], check=True, timeout=60)
    equal(read(h.root / "copy"), b"by a")

    # Nobody takes it for content.
    check(b"conflicts" not in tree(folder_b) and b"conflicts" not in tree(folder_a))
    b.fails(4, "stat", "docs:conflicts")
    equal(b.arena()["files"], 2)

    # The numbers are the same after a restart.
    numbers = {path.name: os.stat(path).st_ino for path in (of_a, of_b)}
    b.unmount()
    b.stop()
    b.serve()
    equal(b.mount(), mount)
    equal({path.name: os.stat(path).st_ino for path in (of_a, of_b)}, numbers)

    # The user's own entry of that name comes first, on whatever peer it was made.
    write(folder_a / "conflicts/mine", "the user's")
    h.agree(a, b)
    until(lambda: (mount / "conflicts/mine").exists() and (mount / "conflicts.1").is_dir(), "the name is the user's")
    equal(read(mount / "conflicts/mine"), b"the user's")
    of_a = mount / "conflicts.1/sub/plan.txt" / of_a.name
    equal(os.stat(of_a).st_ino, numbers[of_a.name])

    # To rename a version over its entry is to choose it.
    held = os.open(of_a, os.O_RDONLY)
    subprocess.run(["mv", of_a, mount / "sub/plan.txt"], check=True, timeout=60)
    until(lambda: read(mount / "sub/plan.txt") == b"by a", "the version is in the folder")
    h.agree(a, b)
    until(lambda: not (mount / "conflicts.1").exists(), "there is no conflict any more")
    until(lambda: os.stat(mount / "sub/plan.txt").st_ino == b.entry("sub/plan.txt")["node"], "the name is the entry's")
    equal(sorted(os.listdir(mount)), ["conflicts", "other.txt", "sub"])
    equal(os.pread(held, 100, 0), b"by a")
    os.close(held)
    until(lambda: read(folder_b / "sub/plan.txt") == b"by a", "it is in b's folder")
    equal(read(folder_a / "sub/plan.txt"), b"by a")
    equal((a.arena()["conflicts"], b.arena()["conflicts"]), (0, 0))


def conflicts_settled_by_policy(h):
    a, b, folder_a, folder_b = h.pair({"plan.txt": "draft"})
    b.run("mark", "real", "docs:")
    h.agree(a, b)
    settings = {item["name"]: item["value"] for item in a.json("config", "docs:")["settings"]}
    equal(settings["conflicts"], "keep")
    a.fails(2, "config", "docs:", "conflicts", "oldest")
    for policy in ("copies", "newest"):
        for peer in (a, b):
            peer.run("config", "docs:", "conflicts", policy)
        b.stop()
        write(folder_a / "plan.txt", policy + " by a")
        write(folder_b / "plan.txt", policy + " by b, longer")
        b.serve()
        until(lambda: a.arena()["conflicts"] == 0 and b.arena()["conflicts"] == 0 and
              read(folder_a / "plan.txt") == read(folder_b / "plan.txt"), "the conflict is settled")
        h.agree(a, b)
        until(lambda: tree(folder_a) == tree(folder_b), "both have the same")
        texts = sorted(read(path).decode() for path in folder_a.iterdir() if path.is_file())
        copies = [path.name for path in folder_a.iterdir() if path.name.startswith("plan~") and path.name.endswith(".txt")]
        equal(len(copies), 1, copies)
        check({"copies by a", "copies by b, longer"} <= set(texts) or policy == "newest", texts)
    # What the policy replaced can be brought back where it was.
    newest = read(folder_a / "plan.txt")
    check(newest in (b"newest by a", b"newest by b, longer"), newest)
    loser = a if newest == b"newest by b, longer" else b
    loser.run("undo", "docs:plan.txt")
    h.agree(a, b)
    until(lambda: {read(folder_a / "plan.txt"), newest} == {b"newest by a", b"newest by b, longer"}, "undone")


def both_versions(place):
    """{peer: path}; None while one comes, goes or changes, and its name with it."""
    try:
        found = {os.getxattr(place / name, "user.realize.peer"): place / name for name in os.listdir(place)}
    except OSError:
        return None
    return found if set(found) == {b"a", b"b"} else None


def versions_are_fetched_when_read(h):
    need_fuse()
    a, b, folder_a, _ = h.pair({"plan.txt": "draft"}, b_folder=False)
    mount = b.mount()
    a.stop()
    until(lambda: not b.connection(a)["connected"], "b notices")
    equal(b.arena()["conflicts"], 0)
    write(folder_a / "plan.txt", "by a")
    os.unlink(mount / "plan.txt")
    write(mount / "plan.txt", "by b, longer")
    a.serve()
    until(lambda: b.arena()["conflicts"] == 1, "the conflict is known")
    until((mount / "conflicts").is_dir, "the kernel hears of it")
    place = mount / "conflicts/plan.txt"
    versions = until(lambda: both_versions(place), "both versions are there")
    equal(os.getxattr(versions[b"a"], "user.realize.status"), b"elsewhere")
    refused(errno.EBUSY, lambda: os.rename(versions[b"a"], mount / "plan.txt"), "its bytes are not here")
    equal(read(versions[b"a"]), b"by a")
    until(lambda: renamed(versions[b"a"], mount / "plan.txt"), "its bytes are here")
    until(lambda: read(mount / "plan.txt") == b"by a", "the version is the entry's")  # Each time something is found.
    h.agree(a, b)
    until(lambda: not (mount / "conflicts").exists(), "there is no conflict any more")
    equal(read(folder_a / "plan.txt"), b"by a")


def clashes_look_the_same_on_all_three(h):
    need_fuse()
    a, b, c = h.peer("a"), h.peer("b", listen=False), h.peer("c", listen=False)
    folders = {peer: peer.folder() for peer in (a, b, c)}
    for path in ("first", "second", "third", "was-file", "keep/x"):
        write(folders[a] / path, f"content of {path}")
    (folders[a] / "was-folder").mkdir()
    a.run("arena", "create", "docs", folders[a])
    for peer in (b, c):
        h.introduce(a, peer)
        peer.run("arena", "join", "docs", folders[peer])
        peer.run("mark", "real", "docs:")
    h.agree(a, b, c)
    for peer in (c, b, a):
        peer.stop()

    # Each by itself: a file, a folder and a symlink of one name; three files; three folders; renames to one name; what one
    # removed or replaced by another kind, others went on with.
    write(folders[a] / "kinds", "a file")
    write(folders[b] / "kinds/inside", "in a folder")
    (folders[c] / "kinds").symlink_to("elsewhere")
    for peer in (a, b, c):
        write(folders[peer] / "same-name", f"by {peer.name}")
        write(folders[peer] / "same-content", "equal")
        write(folders[peer] / "folder" / peer.name, f"of {peer.name}")
        write(folders[peer] / "folder/each", f"each of {peer.name}")
    for peer, path in ((a, "first"), (b, "second"), (c, "third")):
        (folders[peer] / path).rename(folders[peer] / "target")
    (folders[a] / "was-file").unlink()
    write(folders[a] / "was-file/now", "a folder now")
    write(folders[b] / "was-file", "an edit meanwhile")
    (folders[a] / "was-folder").rmdir()
    write(folders[a] / "was-folder", "a file now")
    write(folders[c] / "was-folder/new", "put there meanwhile")
    for peer in (a, b, c):
        peer.serve()
    until(lambda: all(peer.connection(a)["connected"] for peer in (b, c)), "they are back")
    h.agree(a, b, c)

    def shown(folder):
        return {path: "file" if what[0] == "file" else what for path, what in tree(folder).items()}

    names = shown(folders[a])
    until(lambda: shown(folders[b]) == names and shown(folders[c]) == names, "the same names and kinds in each folder")
    for peer in (a, b, c):
        equal(sorted(conflict["path"] for conflict in peer.json("conflicts", "docs")["conflicts"]),
              ["folder/each", "same-name"], peer.name)
    conflicted = {b"same-name", b"folder/each"}
    settled = {path: what for path, what in tree(folders[a]).items() if path not in conflicted}
    for peer in (b, c):
        equal({path: what for path, what in tree(folders[peer]).items() if path not in conflicted}, settled, peer.name)
        # Each goes on showing its own.
        check(read(folders[peer] / "same-name").startswith(b"by " + peer.name.encode()), peer.name)

    # Nothing is lost: every content is under some name.
    contents = {what[1] for what in settled.values() if what[0] == "file"}
    for content in ("a file", "in a folder", "content of first", "content of second", "content of third", "equal",
                    "a folder now", "an edit meanwhile", "a file now", "put there meanwhile"):
        check(content.encode() in contents, content, "is under no name")
    def named(name):
        return sorted(what[0] for path, what in settled.items() if path.split(b"~")[0] == name and b"/" not in path)

    equal(named(b"kinds"), ["directory", "file", "symlink"])
    equal(named(b"target"), ["file", "file", "file"])

    # A mount shows what the folder has, and the versions of conflicts.
    for peer in (a, c):
        mount = peer.mount()
        here = {path: what for path, what in shown(mount).items()
                if path != b"conflicts" and not path.startswith(b"conflicts/")}
        equal(here, names, "in the mount of", peer.name)
        equal(len(os.listdir(mount / "conflicts/same-name")), 3)
