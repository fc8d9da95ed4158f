#!/usr/bin/env bash
# The node that coordinates a build dies: its client is told so, nothing of the build goes on elsewhere, and the same
# build sent to another node finds every step that the others had finished.
. "$(dirname "$0")/lib.sh"

loops=${KILN_STAGE_LOOPS:-400000}

start_cluster a b c
push_from_hub "$(busybox_tar)" busybox
mkdir "$scratch/app"
stages_dockerfile 12 "$loops" 1 >"$scratch/app/Dockerfile"

say "node a dies when steps have finished on other nodes"
build_at a "$scratch/app" &
build=$!
# Steps of other nodes that are done: their number in the log, told of "on node" and DONE.
done_elsewhere() {
  awk '/ on node / {away[$1] = 1} / DONE / {if ($1 in away) n++} END {print n + 0}' "$scratch/app/log" 2>/dev/null
}
some_done() { [ "$(done_elsewhere)" -ge 3 ]; }
wait_for 60 some_done || fail "no steps finished elsewhere: $(cat "$scratch/app/log")"
kill_node a
if wait $build; then fail "the build has ended well without its coordinator"; fi
finished=$(done_elsewhere)
check_contains "the client is told" "$(tail -n 5 "$scratch/app/log")" "navailable"
tail -n 1 "$scratch/app/log"

say "the others forget its steps"
quiet() { ctl b cluster | awk '$2 == "up" || $2 == "self" {split($4, l, "/"); busy += l[1] + $5} END {exit busy > 0}'; }
wait_for 20 quiet || fail "still busy: $(ctl b cluster)"

say "the same build at node b: $finished steps had finished elsewhere"
build_at b "$scratch/app" >/dev/null || fail "the repeated build failed: $(tail -n 20 "$scratch/app/log")"
cached=$(grep -c CACHED "$scratch/app/log" || true)
[ "$cached" -ge "$finished" ] || fail "only $cached steps are cached, $finished had finished: $(cat "$scratch/app/log")"
checks=$((checks + 1))
say "$cached steps were cached"
