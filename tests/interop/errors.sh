#!/usr/bin/env bash
# What builds of bad input end with: code and text, case by case (errors.py has the table). Each text is the one that
# BuildKit's own daemon answered to the same input, or a better one, which the table then says.
. "$(dirname "$0")/lib.sh"
start_registry
push_image "$(busybox_tar)" library/busybox:latest
kilnd_config="[registry.\"docker.io\"]
mirrors = [\"$registry\"]"
start_kilnd
python3 "$source_dir/tests/interop/errors.py" "$registry" "$kilnctl" --addr "unix://$socket" >"$scratch/errors.txt" ||
  fail "$(cat "$scratch/errors.txt")"
cat "$scratch/errors.txt"
checks=$(grep -c '^ok ' "$scratch/errors.txt")
check "there are at least 90 cases" [ "$checks" -ge 90 ]
check "the daemon is still there" kilnctl debug info >/dev/null
