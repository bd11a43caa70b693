"""The parts of tests/run.sh that read what meson says: which targets the chosen tests need, and how they ended.

  test_run.py build   NAME FOLDER RESULTS CHOICE...   builds what the chosen tests need
  test_run.py run     NAME FOLDER RESULTS CHOICE...   runs them, prints the log of each that failed
  test_run.py summary RESULTS                         the totals; the exit code of the whole run

A CHOICE is `all`, `suite:NAME`, a test's name, or `-NAME` to leave one out.
"""

import json
import os
import pathlib
import subprocess
import sys

# Under a sanitizer a test may take this many times its usual limit, and a busy machine also needs some room.
TIMEOUT_FACTOR = {"plain": 3}
SANITIZED_TIMEOUT_FACTOR = 8
MAX_LOG_LINES = 400


def introspect(folder, what):
    out = subprocess.run(["meson", "introspect", f"--{what}", folder], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def suites(test):
    return {suite.split(":")[-1] for suite in test["suite"]}


def chosen(folder, choices):
    tests = introspect(folder, "tests")
    names = {choice for choice in choices if not choice.startswith(("suite:", "-"))}
    wanted_suites = {choice[6:] for choice in choices if choice.startswith("suite:")}
    left_out = {choice[1:] for choice in choices if choice.startswith("-")}
    return [test for test in tests
            if ("all" in names or test["name"] in names or suites(test) & wanted_suites)
            and test["name"] not in left_out]


def jobs():
    return os.environ.get("REALIZE_JOBS") or str(len(os.sched_getaffinity(0)))


def record(results, lines):
    with open(pathlib.Path(results) / "tests", "a", encoding="utf-8") as out:
        for outcome, name in lines:
            out.write(f"{outcome} {name}\n")


def build(name, folder, results, choices):
    targets = []
    if "all" not in choices:
        wanted = {target for test in chosen(folder, choices) for target in test["depends"]}
        for target in introspect(folder, "targets"):
            if target["id"] in wanted:
                targets += [os.path.relpath(file, folder) for file in target["filename"]]
        targets = [target for target in targets if not target.startswith("..")]
    if subprocess.run(["ninja", "-C", folder, "-j", jobs(), *targets], stdin=subprocess.DEVNULL).returncode:
        record(results, [("failed", f"{name}: build")])
        return 1
    return 0


def outcome_of(result):
    if result in ("OK", "EXPECTEDFAIL"):
        return "passed"
    return "skipped" if result == "SKIP" else "failed"


def tail(text):
    lines = (text or "").splitlines()
    if len(lines) > MAX_LOG_LINES:
        lines = [f"... {len(lines) - MAX_LOG_LINES} lines before this", *lines[-MAX_LOG_LINES:]]
    return "\n".join(lines)


def run(name, folder, results, choices):
    tests = chosen(folder, choices)
    if not tests:
        record(results, [("failed", f"{name}: no test is chosen by {' '.join(choices)}")])
        return 1
    log = pathlib.Path(folder) / "meson-logs" / f"run-{name}.json"
    log.unlink(missing_ok=True)
    factor = TIMEOUT_FACTOR.get(name, SANITIZED_TIMEOUT_FACTOR)
    status = subprocess.run(
        ["meson", "test", "-C", folder, "--no-rebuild", "--logbase", f"run-{name}", "-t", str(factor),
         "--num-processes", jobs(), *[test["name"] for test in tests]], stdin=subprocess.DEVNULL).returncode
    outcomes = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []:
        test = json.loads(line)
        outcome = outcome_of(test["result"])
        # meson writes "project:suite / name" where suites exist.
        short = test["name"].split(" / ")[-1]
        outcomes.append((outcome, f"{name}: {short}"))
        if outcome == "failed":
            print(f"\n---- {name}: {short}: {test['result']}, exit {test.get('returncode')}")
            print(tail(test.get("stdout")))
            print(tail(test.get("stderr")))
            print(f"---- end of {short}", flush=True)
    for test in tests[len(outcomes):] if len(outcomes) < len(tests) else []:
        outcomes.append(("failed", f"{name}: did not run, as {test['name']} or another"))
    if status and not any(outcome == "failed" for outcome, _ in outcomes):
        outcomes.append(("failed", f"{name}: meson test ended with {status}"))
    record(results, outcomes)
    return 0


def summary(results):
    outcomes = []
    for file, forced in (("tests", None), ("broken", "failed")):
        path = pathlib.Path(results) / file
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            outcomes.append((forced, line) if forced else tuple(line.split(" ", 1)))
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for outcome, name in outcomes:
        count[outcome] += 1
        if outcome != "passed":
            print(f"{outcome}: {name}")
    line = f"{count['passed']} passed, {count['failed']} failed"
    if count["skipped"]:
        line += f", {count['skipped']} skipped"
    print(line)
    return 0 if count["passed"] and not count["failed"] else 1


if __name__ == "__main__":
    command = {"build": build, "run": run}.get(sys.argv[1])
    sys.exit(command(*sys.argv[2:5], sys.argv[5:]) if command else summary(sys.argv[2]))
