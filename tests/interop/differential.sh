#!/usr/bin/env bash
# Random builds (differential/generate.py) give the same twice, cached and not; and the same as with a reference
# daemon, if one is named. A case that differs is made smaller and printed.
#
#   differential.sh [FIRST [COUNT]]     seeds, 1 and 10 otherwise
#
# REFERENCE=unix://…  address of a BuildKit daemon; MIRROR=host:port  a registry without TLS that both may use for
# docker.io, with library/busybox in it (needed with a reference). NO_REDUCE=1 prints cases as they are.
. "$(dirname "$0")/lib.sh"
if [ -z "${MIRROR:-}" ]; then
  start_registry
  push_image "$(busybox_tar)" library/busybox:latest
  MIRROR=$registry
fi
kilnd_config="[registry.\"docker.io\"]
mirrors = [\"$MIRROR\"]
[registry.\"$MIRROR\"]
http = true"
start_kilnd
"$(dirname "$0")/differential/compare.py" --client "$kilnctl" --kiln "unix://$socket" \
  ${REFERENCE:+--reference "$REFERENCE"} ${NO_REDUCE:+--no-reduce} \
  --scratch "$scratch/cases" --first "${1:-1}" --count "${2:-10}" || fail "builds differ"
checks=$((checks + ${2:-10}))
