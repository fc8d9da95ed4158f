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
mirrors = [\"$registry\"]"
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
RUN cp /context/big /copy
DOCKER
must_build "$dir" --opt build-arg:ROUND=0 --output type=oci,dest="$scratch/out.tar"
for round in $(seq "$rounds"); do
  kilnctl build --progress=plain --frontend dockerfile.v0 --local context="$dir" --local dockerfile="$dir" \
    --opt build-arg:ROUND="$round" --output type=oci,dest="$scratch/out.tar" >"$scratch/o" 2>&1 &
  client=$!
  delay=$((RANDOM % 2000))
  read -rt "$(printf '%d.%03d' $((delay / 1000)) $((delay % 1000)))" <> <(:) || true
  kill -KILL "$kilnd_pid"
  wait "$kilnd_pid" 2>/dev/null || true
  wait "$client" 2>/dev/null || true
  start_kilnd
  must_build "$dir" --opt build-arg:ROUND="$round" --output type=oci,dest="$scratch/out.tar"
  stable=$(sed -n 's/^\(#[0-9]*\) .*RUN echo made-once.*/\1/p' <<<"$out" | head -n 1)
  check_contains "round $round (killed after $delay ms): the stable step is still cached" "$out" "$stable CACHED"
done
stop_kilnd
# Zombies are not counted: the killed daemon's children wait for whatever process 1 is here to reap them.
check_same "containers left" "$(pgrep -r D,R,S,T,t -fa "(crun|runc) .*$state" || true)" ""
check_same "cgroups left" "$(find /sys/fs/cgroup -depth -type d -path '*kiln*' 2>/dev/null | grep -c "$(basename "$scratch")" || true)" 0
check_same "temporary files left" "$(find "$state/tmp" -mindepth 1 2>/dev/null | wc -l)" 0
