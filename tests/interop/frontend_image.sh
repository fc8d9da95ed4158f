#!/usr/bin/env bash
# Builds by frontend images (gateway.v0), and a daemon that ends afterwards: SIGTERM alone, whatever the frontend did.
. "$(dirname "$0")/lib.sh"
[ -x "$build_dir/tiny_frontend" ] || skip "no tiny_frontend was built"
start_registry

push_program "$build_dir/tiny_frontend" /bin/frontend tiny

by_frontend() {  # by_frontend MODE [FLAGS…]
  local mode=$1; shift
  kilnctl build --progress=plain --frontend gateway.v0 --opt "source=$registry/tiny" --opt "mode=$mode" "$@" \
    >"$scratch/client.log" 2>&1
}
# Ends the daemon by SIGTERM alone, within seconds, and without its deadline's help.
must_end() {
  kill -TERM "$kilnd_pid"
  wait_for 20 eval "! kill -0 $kilnd_pid" || fail "kilnd does not end after $1: $(ls /proc/$kilnd_pid/task | wc -l) threads"
  check "the daemon ends well after $1" wait "$kilnd_pid"
}

for mode in file empty nested; do
  start_kilnd
  by_frontend "$mode" --output "type=local,dest=$scratch/out-$mode" || fail "$mode: $(cat "$scratch/client.log")"
  must_end "a frontend image that did its work ($mode)"
done
check_same "what the frontend made" "$(cat "$scratch/out-file/made")" "made by a frontend image, 0"

start_kilnd
if by_frontend crash; then fail "a frontend that crashes made a build"; fi
check_contains "its end is told" "$(cat "$scratch/client.log")" "exit code: 3"
must_end "a frontend image that crashed"

# A frontend that never answers: its client goes away, or the daemon is told twice.
# It returns when the frontend runs.
start_hanging() {
  kilnctl_begin "$scratch/client.log" build --progress=plain --frontend gateway.v0 --opt "source=$registry/tiny" --opt mode=hang
  wait_for 60 pgrep -f '^/bin/frontend' >/dev/null || fail "the frontend does not start: $(cat "$scratch/client.log")"
}
start_kilnd
start_hanging
kill -TERM "$client"
wait "$client" && fail "a cancelled build succeeded"
must_end "a build that was cancelled in its frontend"

start_kilnd
start_hanging
kill -TERM "$kilnd_pid"
wait_for 10 grep -q "stopping when 1 running build is done" "$scratch/kilnd.log" || fail "kilnd does not say what it waits for"
kill -TERM "$kilnd_pid"
check "the second signal ends the daemon" wait "$kilnd_pid"
wait "$client" && fail "a build whose daemon went away succeeded"
check_same "frontends left" "$(pgrep -f '^/bin/frontend' || true)" ""
