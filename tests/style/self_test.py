"""Proves that each check can fail: small trees, each with one thing wrong, and one with nothing wrong."""

import pathlib
import sys
import tempfile

import check_layers
import check_style

GOOD = {
    "librealize/include/realize/peer.h": "#pragma once\n#include <string>\n#include \"realize/result.h\"\n",
    "librealize/include/realize/result.h": "#pragma once\n#include <optional>\n",
    "librealize/base/disk.cc": "#include \"librealize/base/disk.h\"\n#include <sodium.h>\n",
    "librealize/base/disk.h": "#pragma once\n#include \"realize/result.h\"\n",
    "librealize/logic/tree.cc": "#include \"librealize/model/tree.h\"\n#include \"librealize/base/disk.h\"\n",
    "librealize/store/db.cc": "#include <sqlite3.h>\n#include \"librealize/model/tree.h\"\n",
    "frontends/fuse/mount.cc": "#include \"frontends/fuse/mount.h\"\n#include <realize/peer.h>\n#include <fuse_lowlevel.h>\n",
    "frontends/cli/main.cc": "#include \"frontends/daemon/daemon.h\"\n#include <nlohmann/json.hpp>\n",
    "examples/embed.cc": "#include <realize/peer.h>\n",
    "tests/base/test_disk.cc": "#include \"librealize/base/disk.h\"\n",
}

# (what, file, its text, a piece of the message)
BAD_LAYERS = [
    ("base knows model", "librealize/base/a.cc", "#include \"librealize/model/tree.h\"\n", "rank"),
    ("two of one rank", "librealize/store/a.cc", "#include \"librealize/net/noise.h\"\n", "rank"),
    ("net knows peer", "librealize/net/a.cc", "#include \"librealize/peer/core.h\"\n", "rank"),
    ("logic knows store", "librealize/logic/a.cc", "#include \"librealize/store/db.h\"\n", "logic"),
    ("logic knows loop", "librealize/logic/a.h", "#pragma once\n#include \"librealize/loop/loop.h\"\n", "logic"),
    ("a layer nobody knows", "librealize/util/a.cc", "#include <string>\n", "no layer"),
    ("sqlite outside store", "librealize/peer/a.cc", "#include <sqlite3.h>\n", "only store"),
    ("libuv outside loop", "librealize/net/a.cc", "#include <uv.h>\n", "only loop"),
    ("sodium outside net and base", "librealize/peer/a.cc", "#include <sodium.h>\n", "only base and net"),
    ("sodium by folder", "librealize/logic/a.cc", "#include <sodium/core.h>\n", "only base and net"),
    ("KJ in logic", "librealize/logic/a.cc", "#  include <kj/async.h>\n", "only"),
    ("FUSE in the library", "librealize/peer/a.cc", "#include <fuse3/fuse.h>\n", "frontends"),
    ("the library knows a frontend", "librealize/peer/a.cc", "#include \"frontends/fuse/mount.h\"\n", "never"),
    ("a frontend knows the inside", "frontends/cli/a.cc", "#include \"librealize/base/disk.h\"\n", "sees"),
    ("fuse knows the CLI", "frontends/fuse/a.cc", "#include \"frontends/cli/output.h\"\n", "includes cli"),
    ("SQLite in a frontend", "frontends/daemon/a.cc", "#include <sqlite3.h>\n", "may not"),
    ("JSON in the mount", "frontends/fuse/a.cc", "#include <nlohmann/json.hpp>\n", "may not"),
    ("KJ in a public header", "librealize/include/realize/a.h", "#pragma once\n#include <kj/common.h>\n", "public"),
    ("POSIX in a public header", "librealize/include/realize/a.h", "#pragma once\n#include <unistd.h>\n", "public"),
    ("an example knows the inside", "examples/a.cc", "#include \"librealize/base/disk.h\"\n", "example"),
]
BAD_STYLE = [
    ("no pragma", "librealize/base/a.h", "// words\n#ifndef A\n#endif\n", "#pragma once"),
    ("spaces at the end", "librealize/base/a.cc", "int a; \n", "spaces"),
    ("no last newline", "librealize/base/a.cc", "int a;", "newline"),
    ("an algorithm without its header", "librealize/base/a.cc", "#include <vector>\nauto a = std::any_of(b);\n", "<algorithm>"),
    ("a tab", "librealize/base/a.cc", "\tint a;\n", "tab"),
    ("carriage return", "librealize/base/a.cc", "int a;\r\n", "carriage"),
    ("a registry", "tests/a.sh", "curl https://pypi." + "org/simple\n", "registry"),
    ("not UTF-8", "librealize/base/a.cc", b"// \xff\n", "UTF-8"),
    ("a long source", "librealize/base/a.cc", "int a;\n" * 700, "lines 700"),
    ("a long header", "librealize/base/a.h", "#pragma once\n" + "int a;\n" * 349, "lines 350"),
    ("usleep in a test", "tests/base/a.cc", "void f() { usleep(1); }\n", "sleeps 1"),
    ("sleep_for in a test", "tests/base/a.cc", "std::this_thread::sleep_for(s);\n", "sleeps 1"),
    ("sleep in a script", "tests/a.sh", "sleep 1\n", "sleeps 1"),
    ("sleep in Python", "tests/a.py", "time.sleep(1)\n", "sleeps 1"),
]
BAD_ALONE = ("a header that needs another", "librealize/include/realize/a.h", "#pragma once\nstd::string a();\n")


class Tree:
    def __init__(self, changes):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)
        for name, text in {**GOOD, **changes}.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.folder.cleanup()


def style(tree, ratchet_lines=""):
    """What check_style says about this tree with this ratchet."""
    ratchet = tree.root / "ratchet"
    ratchet.write_text(ratchet_lines, encoding="utf-8")
    said = []
    real_print = check_style.__dict__.get("print")
    check_style.print = lambda text: said.append(str(text))
    try:
        check_style.main(tree.root, ratchet)
    finally:
        if real_print is None:
            del check_style.print
    return said


def main():
    failures = []

    def expect(what, condition):
        if not condition:
            failures.append(what)

    with Tree({}) as tree:
        expect("a good tree has good layers", check_layers.check(tree.root) == [])
        expect("a good tree has good style", style(tree) == [])
    for what, name, text, message in BAD_LAYERS:
        with Tree({name: text}) as tree:
            said = check_layers.check(tree.root)
            expect(f"layers: {what}: {said}", len(said) == 1 and message in said[0] and name in said[0])
    for what, name, text, message in BAD_STYLE:
        with Tree({name: text}) as tree:
            said = style(tree)
            expect(f"style: {what}: {said}", said and all(message in s or "spaces" in s for s in said))
    with Tree({"librealize/base/a.cc": "int a;\n" * 700}) as tree:
        expect("the ratchet allows what was there", style(tree, "lines librealize/base/a.cc 700\n") == [])
        expect("the ratchet stops growth", len(style(tree, "lines librealize/base/a.cc 640\n")) == 1)
    if len(sys.argv) > 1:
        compiler = sys.argv[1:]
        with Tree({}) as tree:
            expect("good headers compile alone", check_layers.compile_alone(tree.root, compiler) == [])
        with Tree({BAD_ALONE[1]: BAD_ALONE[2]}) as tree:
            expect(BAD_ALONE[0], len(check_layers.compile_alone(tree.root, compiler)) == 1)

    for failure in failures:
        print("FAILED:", failure)
    print(f"{2 + len(BAD_LAYERS) + len(BAD_STYLE) + 4 - len(failures)} checks of the checks hold")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
