#!/usr/bin/env bash
# kill -9 of the daemon at random points of a build, twenty times: it starts again each time, the next
# build succeeds, what was cached before is still hit, nothing is left over. ROUNDS and SEED override.
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-20}
seed=${SEED:-$$}
RANDOM=$seed
echo "seed $seed"
start_registry
push_image "$(busybox_tar)" library/busybox:latest
kilnd_config="[registry.\"docker.io\"]
mirrors = [\"$registry\"]
[worker.oci]
defaultCgroupParent = \"kiln-kill9-$$\""
start_kilnd
dir=$scratch/app
mkdir "$dir"
for i in $(seq 300); do echo "$i" >"$dir/file$i"; done
head -c 30000000 /dev/urandom >"$dir/big"
cat >"$dir/Dockerfile" <<'DOCKER'
FROM busybox AS stable
RUN echo made-once > /stable
FROM stable
ARG ROUND
RUN echo $ROUND > /round; i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i > /f$i; sleep 0.01; done
COPY . /context
RUN --mount=type=cache,target=/cache cp /context/big /copy; cp /context/big /cache/copy
DOCKER

groups_made+=("kiln-kill9-$$")
groups() { find /sys/fs/cgroup -depth -type d -path "*/kiln-kill9-$$/buildkit/*" 2>/dev/null | wc -l; }
# Zombies are not counted: the killed daemon's children wait for whatever process 1 is here to reap them.
containers() { pgrep -r D,R,S,T,t -fa "(crun|runc) .*$state" || true; }
# What the daemon says it holds must be what is there: bytes of snapshots and blobs that neither `du` nor the
# history's documents account for. Directories and small documents make the difference.
unaccounted() {
  local said there
  said=$(kilnctl du --format '{{json .}}' | jq '[.[].size // 0 | tonumber] | add // 0')
  there=$(du -sB1 "$state/snapshots" "$state/blobs" | awk '{ sum += $1 } END { print sum }')
  echo $((there - said))
}
# What a start sets aside it removes while it serves (store/leftovers.hpp).
cleared() { [ -z "$(find "$state" "$state/snapshots" -maxdepth 1 -name 'removed-*')" ]; }
nothing_left() {  # nothing_left DESCRIPTION: of what a kill leaves that nobody can go on with
  wait_for 60 cleared || fail "$1: what was set aside is not removed"
  check_same "$1: containers" "$(containers)" ""
  check_same "$1: cgroups" "$(groups)" 0
  check_same "$1: temporary files" "$(find "$state/transient" -mindepth 1 | wc -l)" 0
  check_same "$1: blobs nobody can go on with" "$(find "$state/blobs/ingest" -mindepth 1 -not -name 'sha256-*' | wc -l)" 0
  check_same "$1: bundles" "$(find "$state/executor/containers" "$state/executor/runtime" -mindepth 1 | wc -l)" 0
  check_same "$1: work directories" "$(find "$state/snapshots" -maxdepth 2 -name 'work*' | wc -l)" 0
  local more
  more=$(unaccounted)
  check "$1: $more bytes are in no record" [ "$more" -lt 3000000 ]
}

must_build "$dir" --opt build-arg:ROUND=0 --output type=oci,dest="$scratch/out.tar"
# These find something while there is something: a test that cannot fail is none.
printf 'FROM busybox\nRUN echo held; sleep 30\n' >"$scratch/held"
mkdir "$scratch/held.d" && mv "$scratch/held" "$scratch/held.d/Dockerfile"
kilnctl_begin "$scratch/o" build --progress=plain --frontend dockerfile.v0 --local context="$scratch/held.d" \
  --local dockerfile="$scratch/held.d"
wait_for 20 grep -q ' held$' "$scratch/o" || fail "the held step does not start: $(cat "$scratch/o")"
check "a running container is seen" [ -n "$(containers)" ]
check "its cgroup is seen ($(groups))" [ "$(groups)" -gt 0 ]
check "its temporary files are seen" [ "$(find "$state/transient" -mindepth 1 | wc -l)" -gt 0 ]
check "its bundle is seen" [ "$(find "$state/executor/containers" -mindepth 1 | wc -l)" -gt 0 ]
kill -KILL "$kilnd_pid"
wait "$kilnd_pid" 2>/dev/null || true
wait "$client" 2>/dev/null || true
check "a kill leaves something to sweep" [ "$(find "$state/transient" "$state/executor/containers" -mindepth 1 | wc -l)" -gt 0 ]
start_kilnd
nothing_left "killed in a RUN"

for round in $(seq "$rounds"); do
  kilnctl_begin "$scratch/o" build --progress=plain --frontend dockerfile.v0 --local context="$dir" --local dockerfile="$dir" \
    --opt build-arg:ROUND="$round" --output type=oci,dest="$scratch/killed.tar"
  delay=$((RANDOM % 2000))
  read -rt "$(printf '%d.%03d' $((delay / 1000)) $((delay % 1000)))" <> <(:) || true
  kill -KILL "$kilnd_pid"
  wait "$kilnd_pid" 2>/dev/null || true
  if wait "$client" 2>/dev/null; then rm -f "$scratch/killed.tar"; fi
  check "round $round: no half output" [ ! -e "$scratch/killed.tar" ]
  start_kilnd
  nothing_left "round $round (killed after $delay ms)"
  must_build "$dir" --opt build-arg:ROUND="$round" --output type=oci,dest="$scratch/out.tar"
  stable=$(sed -n 's/^\(#[0-9]*\) .*RUN echo made-once.*/\1/p' <<<"$out" | head -n 1)
  check_contains "round $round (killed after $delay ms): the stable step is still cached" "$out" "$stable CACHED"
done
kilnctl prune --all >/dev/null
check_same "what is in use in the end" "$(kilnctl du | sed -n 's/^Total:[[:space:]]*//p')" "0B"
check_same "snapshots in the end" "$(find "$state/snapshots" -mindepth 1 -maxdepth 1 -not -name empty | wc -l)" 0
check_same "unfinished blobs in the end" "$(find "$state/blobs/ingest" -mindepth 1 | wc -l)" 0
more=$(du -sB1 "$state/blobs" | cut -f1)
check "blobs in the end: the history's alone ($more bytes)" [ "$more" -lt 3000000 ]
stop_kilnd
nothing_left_stopped=$(find /sys/fs/cgroup -depth -type d -path "*/kiln-kill9-$$/buildkit" 2>/dev/null | wc -l)
check_same "the directory of the groups" "$nothing_left_stopped" 0
check_same "mounts" "$(grep -c "$state" /proc/self/mounts || true)" 0
