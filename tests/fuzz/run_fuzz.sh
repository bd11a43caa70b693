#!/bin/sh
# Runs one libFuzzer target: its corpus first, then new inputs for REALIZE_FUZZ_SECONDS (default 5).
# A crash keeps its input beside the build, and its path is in the log.
set -u
target=$1
corpus=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/realize-fuzz.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
[ -d "$corpus" ] && cp -r "$corpus/." "$work"
"$target" -max_total_time="${REALIZE_FUZZ_SECONDS:-5}" -max_len=65536 -timeout=20 -rss_limit_mb=1024 \
  -artifact_prefix="$target-" -print_final_stats=1 "$work"
