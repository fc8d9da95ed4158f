#!/usr/bin/env bash
# One build over three nodes: all work, the image is what one node makes, and what anyone built is everyone's.
. "$(dirname "$0")/lib.sh"

loops=${KILN_STAGE_LOOPS:-300000}

start_cluster a b c
push_from_hub "$(busybox_tar)" busybox

say "12 independent stages, asked of node a"
mkdir "$scratch/app"
stages_dockerfile 12 "$loops" 1 >"$scratch/app/Dockerfile"
start=$(date +%s%N)
digest=$(build_at a "$scratch/app") || fail "the build failed: $(tail -n 20 "$scratch/app/log")"
say "took $((($(date +%s%N) - start) / 1000000)) ms"
for n in b c; do
  check_contains "node $n has worked" "$(cat "$scratch/app/log")" "on node $n"
done
ctl a cluster

say "the same image as on one node"
add_machine alone 9
nsenter --net="/run/netns/$tag-alone" "$kilnd" --root "$scratch/alone/state" --addr "unix://$scratch/alone/sock" \
  --config <(printf '[registry."%s"]\nhttp = true\n[worker.oci]\nnetworkMode = "host"\n' "$registry") >"$scratch/alone.log" 2>&1 &
node_pid[alone]=$!
mkdir -p "$scratch/alone"; touch "$scratch/alone/log"
wait_for 10 ctl alone debug workers >/dev/null || fail "the lone node does not answer"
start=$(date +%s%N)
check_same "digest on one node" "$(build_at alone "$scratch/app")" "$digest"
say "took $((($(date +%s%N) - start) / 1000000)) ms"

say "the same build sent to node c: every step cached"
check_same "digest at node c" "$(build_at c "$scratch/app")" "$digest"
check_absent "nothing ran" "$(cat "$scratch/app/log")" "on node"
check_same "cached steps" "$(grep -c CACHED "$scratch/app/log")" 24

say "node b is drained and leaves; builds go on without it"
check "drain b" timeout 20 "$kilnctl" --addr "unix://$scratch/a/sock" cluster drain --wait b
sees a 1 || fail "b has not left: $(ctl a cluster)"
stages_dockerfile 4 "$loops" 2 >"$scratch/app/Dockerfile"
build_at a "$scratch/app" >/dev/null || fail "build without b: $(tail -n 20 "$scratch/app/log")"
check_absent "b is left alone" "$(cat "$scratch/app/log")" "on node b"
