#!/usr/bin/env bash
# A cluster of three under the name of one daemon (cluster_buildkitd) does what one daemon does: the same digests, from
# the first moment on, for platforms that nobody has and devices that only workers have, also while a worker ends.
. "$(dirname "$0")/../interop/lib.sh"
[ "$(id -u)" = 0 ] || skip "needs root"

start_registry
push_image "$(busybox_tar)" library/busybox:latest
config="[registry.\"$registry\"]
http = true
[worker.oci]
networkMode = \"host\"
[cdi]
specDirs = [\"$scratch/cdi\"]"
kilnd_config=$config
mkdir "$scratch/cdi"

# The daemon of lib.sh's functions is the cluster from here on; `alone` is one node.
one=$scratch/one
mkdir "$one"
printf '%s\n' "$config" >"$one/kilnd.toml"
"$kilnd" --config "$one/kilnd.toml" --root "$one/state" --addr "unix://$one/sock" >>"$scratch/one.log" 2>&1 &
pids+=($!)
KILN_BINARY_DIR=$build_dir
export KILN_BINARY_DIR
kilnd=$(dirname "$0")/cluster_buildkitd
nodes=$state/nodes
alone() { "$kilnctl" --addr "unix://$one/sock" "$@"; }
wait_for 10 alone debug info >/dev/null || fail "the lone node does not answer"
node_pid() { pgrep -f "^$build_dir/kilnd .*--root=$nodes/$1 " | head -n 1; }
up() { kilnctl cluster | awk '$2 == "up" {n++} END {print n + 0}'; }
all_up() { [ "$(up)" = 2 ]; }

context=$scratch/context
mkdir "$context"
printf 'kept\n' >"$context/file"
# build_by DAEMON DIR FLAGS…: to an OCI layout whose times are all given; prints the digest; what it said is in $scratch/log.
build_by() {
  local by=$1 dir=$2; shift 2
  "$by" build --progress=plain --frontend dockerfile.v0 --local context="$dir" --local dockerfile="$dir" \
    --opt build-arg:SOURCE_DATE_EPOCH=1700000000 --metadata-file "$scratch/metadata.json" \
    -o type=oci,rewrite-timestamp=true,dest="$scratch/image.tar" "$@" >"$scratch/log" 2>&1 || return 1
  jq -r '."containerimage.digest"' "$scratch/metadata.json"
}
must_by() { build_by "$@" || fail "build by $1: $(tail -n 20 "$scratch/log")"; }

say "a build that comes with the daemon, before its workers"
cat >"$context/Dockerfile" <<DOCKER
FROM $registry/library/busybox AS a
RUN mkdir -p /d/e && echo one >/d/e/one
FROM $registry/library/busybox AS b
RUN mkdir -p /d && echo two >/d/two
FROM $registry/library/busybox
RUN mkdir -p /d/e && echo hidden >/d/e/hidden && rm -r /d && mkdir -p /d && echo new >/d/new
COPY --link --from=a /d /d
COPY --from=b /d/two /d/
COPY file /there/
RUN cat /d/e/one /d/two /there/file >/all
DOCKER
for node in n2 n3; do mkdir -p "$nodes/$node"; done
# The workers start only when the build waits for them.
gate=$scratch/gate
mkfifo "$gate"
export KILN_WORKERS_WAIT=$gate
start_kilnd
unset KILN_WORKERS_WAIT
check_same "workers at first" "$(up)" 0
kilnctl build --progress=plain --frontend dockerfile.v0 --local context="$context" --local dockerfile="$context" \
  -o type=local,dest="$scratch/early" >"$scratch/early.log" 2>&1 &
early=$!
wait_for 10 grep -q "waiting for a worker" "$scratch/early.log" || fail "no word of waiting: $(cat "$scratch/early.log")"
checks=$((checks + 1))
echo go >"$gate"
wait $early || fail "the early build: $(tail -n 20 "$scratch/early.log")"
check_same "what it made" "$(tr '\n' ' ' <"$scratch/early/all")" "one two kept "
wait_for 20 all_up || fail "the workers have not joined: $(kilnctl cluster)"

say "the same digests as on one node"
same() { # same WHAT DIR FLAGS…
  local what=$1 single; shift
  single=$(must_by alone "$@")
  check_same "$what" "$(must_by kilnctl "$@" --no-cache)" "$single"
  check_same "$what, from the cache" "$(must_by kilnctl "$@")" "$single"
}
same "files, links and merges" "$context"
must_by kilnctl "$context" --no-cache >/dev/null
check_contains "workers have worked" "$(cat "$scratch/log")" "on node n"

say "the cache in the image and the provenance name the same steps, results and layers"
told=$scratch/told
mkdir "$told"
cat >"$told/Dockerfile" <<DOCKER
FROM $registry/library/busybox AS made
RUN echo one >/one
RUN cat /one >/two
FROM $registry/library/busybox
COPY --from=made /two /three
RUN cat /three >/four
DOCKER
of_told() { curl -fsSL -H 'Accept: application/vnd.oci.image.index.v1+json' -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$registry/v2/told/$1"; }
told_by() { # told_by DAEMON: without what differs from build to build
  local index manifest
  "$1" build --progress=plain --frontend dockerfile.v0 --local context="$told" --local dockerfile="$told" \
    -o type=image,name="$registry/told:latest",push=true,oci-mediatypes=true --export-cache type=inline \
    --opt attest:provenance=mode=max --metadata-file "$scratch/metadata.json" >"$scratch/log" 2>&1 ||
    fail "build by $1: $(tail -n 20 "$scratch/log")"
  index=$(of_told "manifests/$(jq -r '."containerimage.digest"' "$scratch/metadata.json")")
  manifest=$(of_told "manifests/$(jq -r '.manifests[] | select(.annotations == null) | .digest' <<<"$index")")
  of_told "blobs/$(jq -r .config.digest <<<"$manifest")" | jq -r '."moby.buildkit.cache.v0"' | base64 -d |
    jq -S 'walk(if type == "object" then del(.createdAt) else . end)'
  manifest=$(of_told "manifests/$(jq -r '.manifests[] | select(.annotations != null) | .digest' <<<"$index")")
  of_told "blobs/$(jq -r '.layers[0].digest' <<<"$manifest")" |
    jq -S '.predicate | .. | objects | select(has("layers")) | .layers | map_values(map(length))'
}
expected=$(told_by alone)
check_contains "layers of steps" "$expected" '"step4:0"'
check_same "what the cluster tells" "$(told_by kilnctl)" "$expected"
check_same "what it tells from the cache" "$(told_by kilnctl)" "$expected"

say "files of platforms that no node runs"
odd=$scratch/odd
mkdir "$odd"
cp "$context/file" "$odd"
cat >"$odd/Dockerfile" <<'DOCKER'
FROM scratch AS first
COPY file /a/
FROM scratch
COPY --from=first /a/file /b/
ADD --chmod=600 file /c/
DOCKER
same "linux/arm64 and linux/s390x" "$odd" --opt platform=linux/arm64,linux/s390x

say "devices of the workers"
cat >"$scratch/cdi/late.json" <<'JSON'
{"cdiVersion": "0.6.0", "kind": "kiln.test/late",
 "annotations": {"org.mobyproject.buildkit.device.autoallow": "true"},
 "devices": [{"name": "x", "containerEdits": {"env": ["LATE=there"]}}]}
JSON
cat >"$odd/Dockerfile" <<DOCKER
FROM $registry/library/busybox AS made
RUN --device=kiln.test/late=x echo "\$LATE" >/late
FROM scratch
COPY --from=made /late /
DOCKER
must_build "$odd" --output "type=local,dest=$scratch/late"
check_same "what the device brings" "$(cat "$scratch/late/late")" there

say "a worker ends in the middle of a step: the other one does it"
slow() {
  cat >"$odd/Dockerfile" <<DOCKER
FROM $registry/library/busybox AS made
RUN i=0; while [ \$i -lt ${KILN_STAGE_LOOPS:-400000} ]; do i=\$((i+1)); done; echo "$1" >/made
FROM scratch
COPY --from=made /made /
DOCKER
}
slow one
kilnctl_begin "$scratch/slow.log" build --progress=plain --frontend dockerfile.v0 --local context="$odd" \
  --local dockerfile="$odd" --output "type=local,dest=$scratch/slow"
wait_for 30 grep -q " on node n" "$scratch/slow.log" || fail "no step has begun: $(cat "$scratch/slow.log")"
victim=$(sed -n 's/.* on node \(n[23]\).*/\1/p' "$scratch/slow.log" | head -n 1)
kill -KILL "$(node_pid "$victim")"
wait "$client" || fail "the build: $(tail -n 20 "$scratch/slow.log")"
check_same "what it made" "$(cat "$scratch/slow/made")" one

say "the last worker ends: the build waits for the next one, and says so"
last=n$((5 - ${victim#n}))
wait_for 20 eval '[ "$(up)" = 1 ]' || fail "it is still there: $(kilnctl cluster)"
slow two
kilnctl_begin "$scratch/slow.log" build --progress=plain --frontend dockerfile.v0 --local context="$odd" \
  --local dockerfile="$odd" --output "type=local,dest=$scratch/slow"
wait_for 30 grep -q " on node $last" "$scratch/slow.log" || fail "no step has begun: $(cat "$scratch/slow.log")"
kill -KILL "$(node_pid "$last")"
wait_for 30 grep -q "waiting for a node of the cluster" "$scratch/slow.log" ||
  fail "no word of waiting: $(cat "$scratch/slow.log")"
kill -USR1 "$kilnd_pid"  # the ones that are gone start again
wait "$client" || fail "the build: $(tail -n 20 "$scratch/slow.log")"
check_same "what it made" "$(cat "$scratch/slow/made")" two
stop_kilnd
