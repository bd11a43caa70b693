"""Runs scenarios of the contract for scripts with real peers.

  run.py [--programs DIR] [--jobs N] [--list] [NAME...]

NAME is a scenario or a piece of its name; without one, all run. One scenario ends with its own outcome: exit 0, 1, or
77 where this machine cannot run it; several end with their counts.
"""

import argparse
import concurrent.futures
import pathlib
import sys
import threading
import time
import traceback

import harness
import scenarios_bytes
import scenarios_cache
import scenarios_conflicts
import scenarios_faults
import scenarios_mount
import scenarios_tree


def scenarios():
    found = {}
    for module in (scenarios_tree, scenarios_mount, scenarios_cache, scenarios_conflicts, scenarios_faults, scenarios_bytes):
        for name, value in vars(module).items():
            if callable(value) and getattr(value, "__module__", "") == module.__name__ \
                    and value.__code__.co_varnames[:1] == ("h",):
                found[name] = value
    return found


PRINTING = threading.Lock()


def run(name, scenario):
    started = time.monotonic()
    household = harness.Household()
    outcome, words = "passed", ""
    try:
        scenario(household)
    except harness.Skip as skip:
        outcome, words = "skipped", str(skip)
    except BaseException:  # Also an interrupt leaves nothing behind.
        outcome, words = "FAILED", traceback.format_exc() + household.logs()
    finally:
        household.close()
    with PRINTING:
        print(f"{outcome}: {name} ({time.monotonic() - started:.1f} s)" + (f"\n{words}" if words else ""), flush=True)
    return outcome


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    if arguments.programs:
        harness.PROGRAMS = arguments.programs.resolve()
    every = scenarios()
    chosen = {name: scenario for name, scenario in every.items()
              if not arguments.names or name in arguments.names
              or (not any(given in every for given in arguments.names) and any(g in name for g in arguments.names))}
    if arguments.list:
        print("\n".join(chosen))
        return 0
    if not chosen:
        print("no such scenario")
        return 2
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = list(pool.map(lambda item: run(*item), chosen.items()))
    if len(outcomes) == 1:
        return {"passed": 0, "skipped": 77}.get(outcomes[0], 1)
    print(f"{outcomes.count('passed')} passed, {outcomes.count('FAILED')} failed, {outcomes.count('skipped')} skipped")
    return 0 if "FAILED" not in outcomes else 1


if __name__ == "__main__":
    sys.exit(main())
