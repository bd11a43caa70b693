"""Reads the includes of the library and the frontends, and fails on a breach of the layers (ARCHITECTURE.md).

  check_layers.py ROOT [COMPILER...]

With a compiler, each public header must also compile alone.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

RANK = {"base": 0, "model": 1, "loop": 1, "store": 2, "net": 2, "logic": 3, "peer": 4}
# logic decides and is given everything else: it sees values and base only.
LOGIC_MAY = {"base", "model", "logic"}
# Which layers may name an outside header. What is not listed here is nobody's business or everybody's.
OWNERS = {
    r"sqlite3\.h": {"store"},
    r"uv\.h": {"loop"},
    r"sodium(\.h|/.*)": {"net", "base"},
    r"(kj|capnp)/.*": {"loop", "net", "peer"},
    r"(schemas/)?peer\.capnp\.h": {"peer"},
    r"zstd\.h": {"base"},
    r"utf8proc\.h": {"base"},
    r"fuse.*\.h": set(),
    r"nlohmann/.*": set(),
}
FRONTENDS_MAY = {"fuse": {"fuse"}, "daemon": {"daemon", "fuse"}, "cli": {"cli", "daemon", "fuse"}, "nfs": {"nfs"}}
FRONTEND_OUTSIDE = {r"fuse.*\.h": {"fuse"}, r"nlohmann/.*": {"daemon", "cli"}}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:<([^>]+)>|"([^"]+)")', re.MULTILINE)


def includes(path):
    text = path.read_text(encoding="utf-8", errors="replace")
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start(1) if match.group(1) else match.start(2)) + 1
        yield line, match.group(1) or match.group(2), match.group(1) is not None


def sources(folder):
    return sorted(p for p in folder.rglob("*") if p.suffix in (".h", ".cc", ".c++")) if folder.is_dir() else []


def owned(name, table):
    for pattern, owners in table.items():
        if re.fullmatch(pattern, name):
            return owners
    return None


def library_breach(layer, name):
    """Why a file of `layer` must not include `name`, or None."""
    if name.startswith("frontends/"):
        return "the library never learns of its frontends"
    if name.startswith("tests/"):
        return "the library does not include tests"
    if name.startswith("librealize/"):
        other = name.split("/")[1]
        if other == "include":
            return 'public headers are included as "realize/..."'
        if other not in RANK:
            return f"{other} is no layer"
        if layer == "logic" and other not in LOGIC_MAY:
            return "logic includes only base and model"
        if other != layer and RANK[other] >= RANK[layer]:
            return f"{layer} (rank {RANK[layer]}) includes {other} (rank {RANK[other]})"
        return None
    owners = owned(name, OWNERS)
    if owners is not None and layer not in owners:
        return f"only {' and '.join(sorted(owners)) or 'frontends'} may name <{name}>"
    return None


def frontend_breach(frontend, name):
    if name.startswith("realize/"):
        return None
    if name.startswith("librealize/"):
        return "a frontend sees <realize/...> only"
    if name.startswith("frontends/"):
        other = name.split("/")[1]
        return None if other in FRONTENDS_MAY.get(frontend, {frontend}) else f"{frontend} includes {other}"
    if name.startswith("tests/"):
        return "a frontend does not include tests"
    owners = owned(name, FRONTEND_OUTSIDE)
    if owners is None:
        owners = set() if owned(name, OWNERS) is not None else None
    if owners is not None and frontend not in owners:
        return f"{frontend} may not name <{name}>"
    return None


def check(root):
    breaches = []

    def report(path, line, name, why):
        breaches.append(f"{path.relative_to(root)}:{line}: includes {name}: {why}")

    library = root / "librealize"
    for path in sources(library):
        layer = path.relative_to(library).parts[0]
        for line, name, angled in includes(path):
            if layer == "include":
                # Public headers: the standard library and each other.
                if not name.startswith("realize/") and not (angled and re.fullmatch(r"[a-z_0-9]+", name)):
                    report(path, line, name, "a public header includes the standard library and realize/ only")
                continue
            if layer not in RANK:
                breaches.append(f"{path.relative_to(root)}: {layer} is no layer")
                break
            why = library_breach(layer, name)
            if why:
                report(path, line, name, why)
            elif not angled and not name.startswith(("librealize/", "realize/", "schemas/")) and "/" in name:
                report(path, line, name, "own headers are included by their path from the root")
    for path in sources(root / "frontends"):
        frontend = path.relative_to(root / "frontends").parts[0]
        for line, name, _ in includes(path):
            why = frontend_breach(frontend, name)
            if why:
                report(path, line, name, why)
    for path in sources(root / "examples"):
        for line, name, _ in includes(path):
            if name.startswith(("librealize/", "frontends/", "tests/")):
                report(path, line, name, "an example sees what is installed only")
    return breaches


def compile_alone(root, compiler):
    """Each public header twice in a file of its own: it needs no other and may come twice."""
    breaches = []
    public = root / "librealize" / "include"
    for path in sources(public):
        name = path.relative_to(public)
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "alone.cc"
            source.write_text(f"#include <{name}>\n#include <{name}>\n", encoding="utf-8")
            done = subprocess.run([*compiler, "-std=c++20", "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
                                   f"-I{public}", str(source)], capture_output=True, text=True)
        if done.returncode:
            breaches.append(f"{path.relative_to(root)}: does not compile alone\n{done.stderr}")
    return breaches


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    breaches = check(root)
    if len(sys.argv) > 2:
        breaches += compile_alone(root, sys.argv[2:])
    for breach in breaches:
        print(breach)
    if not sources(root / "librealize"):
        print(f"{root} has no librealize/")
        return 1
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
