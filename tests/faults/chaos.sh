#!/usr/bin/env bash
# Builds of 12 stages over three nodes while, in the middle of each, a random worker is killed, frozen, cut off or
# made to stutter: every build must end with the fault-free result. KILN_FAULT_ROUNDS builds (6 unless set), KILN_FAULT_SEED.
. "$(dirname "$0")/lib.sh"

rounds=${KILN_FAULT_ROUNDS:-6}
seed=${KILN_FAULT_SEED:-$RANDOM}
loops=${KILN_STAGE_LOOPS:-150000}
RANDOM=$seed
say "seed $seed, $rounds rounds"

start_cluster a b c
push_from_hub "$(busybox_tar)" busybox
mkdir "$scratch/app"

# The same content for every turn, whatever its steps are called: what the digest must be is known from one build.
dockerfile() { stages_dockerfile 12 "$loops" same | sed "s/while/: turn $1; while/"; }
image_of() {  # the layers of the image: its config tells the commands, which differ from turn to turn
  tar -xOf "$scratch/app/image.tar" "blobs/sha256/${1#sha256:}" | jq -r '.layers[].digest' | sha256sum
}
dockerfile 0 >"$scratch/app/Dockerfile"
digest=$(build_at a "$scratch/app") || fail "the fault-free build failed: $(tail -n 20 "$scratch/app/log")"
expected=$(image_of "$digest")

# But for the two that a daemon has as long as it lives: its state, and what of it containers get.
mounts_of() { awk -v of="$scratch/$1/state" 'index($2, of) == 1 && $2 != of && $2 != of "/for-containers"' "/proc/${node_pid[$1]}/mounts" | wc -l; }
rework=0
faults=(kill freeze cut stutter)
for ((round = 1; round <= rounds; round++)); do
  dockerfile "$round" >"$scratch/app/Dockerfile"
  victim=$([ $((RANDOM % 2)) = 0 ] && echo b || echo c)
  fault=${faults[RANDOM % 4]}
  at=$((RANDOM % 1500))
  build_at a "$scratch/app" >"$scratch/app/digest" &
  build=$!
  # Chance is what this waits for: the fault comes at a random moment of the build.
  read -rt "$(printf '%d.%03d' $((at / 1000)) $((at % 1000)))" <> <(:) || true
  case $fault in
    kill) kill_node "$victim" ;;
    freeze) kill -STOP "${node_pid[$victim]}" ;;
    cut) cut_off "$victim" ;;
    stutter) stutter "$victim" & stutterer=$! ;;
  esac
  wait $build || fail "round $round ($victim: $fault at $at ms): $(tail -n 20 "$scratch/app/log")"
  check_same "round $round ($victim: $fault at $at ms): the result" "$(image_of "$(cat "$scratch/app/digest")")" "$expected"
  # Every stage runs once; what ran more often is rework.
  again=$(grep -c 'is placed again' "$scratch/a/log" || true)
  say "round $round: $victim $fault at $at ms, $((again - rework)) steps placed again"
  rework=$again
  case $fault in
    kill) start_node "$victim" ;;
    freeze) kill -CONT "${node_pid[$victim]}" ;;
    cut) join_again "$victim" ;;
    stutter) wait $stutterer ;;
  esac
  wait_mesh 40
done
say "$rounds builds, $rework steps placed again"

say "nothing runs and nothing is left mounted on any node"
idle() { ctl a cluster | awk '$2 == "up" || $2 == "self" {split($4, l, "/"); busy += l[1] + $5} END {exit busy > 0}'; }
wait_for 20 idle || fail "still busy: $(ctl a cluster)"
for n in a b c; do check_same "mounts of node $n" "$(mounts_of "$n")" 0; done
