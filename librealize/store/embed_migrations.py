#!/usr/bin/env python3
"""Writes migrations/*/NNN_name.sql into one C++ source: embed_migrations.py OUTPUT FOLDER

The folder names the list (arenaMigrations, peerMigrations); numbers count from 001 without a gap.
"""
import pathlib
import sys


def main():
    output, sources = sys.argv[1], pathlib.Path(sys.argv[2]).glob("*/*.sql")
    lists = {}
    for source in sorted(sources):
        steps = lists.setdefault(source.parent.name, [])
        number = int(source.name.split("_")[0])
        if number != len(steps) + 1:
            sys.exit(f"{source}: expected number {len(steps) + 1:03}")
        steps.append(source)
    lines = ["// Made from migrations/*.sql by embed_migrations.py.",
             '#include "librealize/store/migrations.h"', "", "namespace realize::store {", ""]
    for name, steps in sorted(lists.items()):
        lines.append(f"static const Migration {name}Steps[] = {{")
        for step in steps:
            lines.append(f'  {{"{step.stem}", R"sql({step.read_text()})sql"}},')
        lines += ["};", f"std::span<const Migration> {name}Migrations() {{ return {name}Steps; }}", ""]
    lines += ["}  // namespace realize::store", ""]
    pathlib.Path(output).write_text("\n".join(lines))


main()
