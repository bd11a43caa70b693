"""What can be checked of the style without a compiler, with a ratchet: what was worse before may shrink, not grow.

  check_style.py ROOT            checks; prints each breach
  check_style.py ROOT --update   writes the ratchet anew with what is there now, if that is no worse

The ratchet (ratchet.txt beside this) has lines `RULE FILE NUMBER`: the length of a file over the limit, or how often
a file breaks a rule that all others keep.
"""

import pathlib
import re
import subprocess
import sys

# The aims are 300 and 600. A twentieth more is let through, so that a fix need not wait for the file to be parted.
HEADER_LINES = 315
SOURCE_LINES = 630
CODE = (".h", ".cc", ".c++", ".py", ".sh", ".capnp", ".sql", ".bash", ".md", ".build", ".txt", ".1")
SLEEP = re.compile(r"\b(?:u|nano)?sleep\s*\(|\bsleep_for\b|\bsleep_until\b|\btime\.sleep\s*\(|^\s*sleep\s+[0-9.]")
# g++ 12 finds these through other headers of its own, g++ 14 does not.
ALGORITHM = re.compile(r"\bstd::(?:all_of|any_of|none_of|find_if|count_if|transform|lower_bound|upper_bound|(?:min|max)_element|"
                       r"(?:stable_)?(?:sort|partition)|unique|reverse|rotate|set_\w+|binary_search)\s*\(")
# Where packages come from is the business of the machine that builds, not of this repository.
REGISTRIES = re.compile("|".join([r"deb\." + r"debian\.org", r"archive\." + r"ubuntu\.com", r"pypi\." + r"org",
                                  r"crates\." + r"io", r"registry\." + r"npmjs", r"proxy\." + r"golang",
                                  r"wrapdb\." + r"mesonbuild"]))


def files(root):
    """The repository's files: those git knows or would add; in an unpacked archive, all but build folders."""
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"],
                            capture_output=True)
    if listed.returncode == 0:
        names = listed.stdout.decode("utf-8", "surrogateescape").split("\0")
        paths = [root / name for name in names if name]
    else:
        paths = [p for p in root.rglob("*") if not p.relative_to(root).parts[0].startswith(("build", ".git"))]
    return sorted(p for p in set(paths) if p.is_file() and not p.is_symlink())


def is_text(path):
    return path.suffix in CODE or path.parts[-2:] == (".ci", "run")


def check(root):
    """(breaches, ratcheted): what is wrong whatever it was before, and what the ratchet has to allow."""
    breaches = []
    ratcheted = {}
    for path in files(root):
        name = path.relative_to(root).as_posix()
        if not is_text(path):
            continue
        data = path.read_bytes()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            breaches.append(f"{name}: not UTF-8")
            continue
        lines = text.split("\n")
        if data and not data.endswith(b"\n"):
            breaches.append(f"{name}: no newline at its end")
        if b"\r" in data:
            breaches.append(f"{name}: carriage returns")
        cpp = path.suffix in (".h", ".cc")
        if cpp and "#include <algorithm>" not in text and ALGORITHM.search(text):
            breaches.append(f"{name}: {ALGORITHM.search(text).group()[:-1]} without #include <algorithm>")
        generated = path.suffix == ".1" or "vectors" in path.parts
        for number, line in enumerate(lines, 1):
            if line != line.rstrip():
                breaches.append(f"{name}:{number}: spaces at the end of the line")
            if cpp and "\t" in line:
                breaches.append(f"{name}:{number}: a tab")
            if REGISTRIES.search(line):
                breaches.append(f"{name}:{number}: names a package registry")
            if name.startswith("tests/") and not name.startswith("tests/style/") and not generated \
                    and path.suffix != ".md" and SLEEP.search(line):
                ratcheted["sleeps", name] = ratcheted.get(("sleeps", name), 0) + 1
        if path.suffix == ".h":
            code = [line for line in lines if line.strip() and not line.strip().startswith("//")]
            if not code or code[0].strip() != "#pragma once":
                breaches.append(f"{name}: the first line of code is not #pragma once")
        limit = {".h": HEADER_LINES, ".cc": SOURCE_LINES}.get(path.suffix)
        if limit and len(lines) - 1 > limit:
            ratcheted["lines", name] = len(lines) - 1
    return breaches, ratcheted


def read_ratchet(path):
    allowed = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        if line and not line.startswith("#"):
            rule, name, number = line.split(" ")
            allowed[rule, name] = int(number)
    return allowed


def main(root, ratchet, update=False):
    breaches, ratcheted = check(root)
    allowed = read_ratchet(ratchet)
    for (rule, name), number in sorted(ratcheted.items()):
        slack = number // 20 if rule == "lines" else 0
        if number - slack > allowed.get((rule, name), 0) and not (update and not ratchet.exists()):
            breaches.append(f"{name}: {rule} {number}, allowed {allowed.get((rule, name), 0)}")
    for breach in breaches:
        print(breach)
    if update and not breaches:
        ratchet.write_text("# What breaks a rule of check_style.py and may shrink, not grow: RULE FILE NUMBER.\n" +
                           "".join(f"{rule} {name} {number}\n" for (rule, name), number in sorted(ratcheted.items())),
                           encoding="utf-8")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(__file__).parent / "ratchet.txt",
                  "--update" in sys.argv[2:]))
