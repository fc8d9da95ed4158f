#!/usr/bin/env bash
# What attributes of exporters and options of the Dockerfile frontend do to images and steps, as a user sees it.
# tests/settings names this script for them.
. "$(dirname "$0")/lib.sh"
start_registry
start_kilnd
dir=$scratch/app
mkdir "$dir"
cp "$(busybox_tar)" "$dir/root.tar"
inspect() { skopeo inspect --tls-verify=false --raw "docker://$1"; }
names() { find "$1" -mindepth 1 -printf '%P\n' | sort; }

# seen OPTION…: builds a step with these options of the frontend; what it printed is in $seen.
seen() {
  local options=() o
  for o in "$@"; do options+=(--opt "$o"); done
  must_build "$dir" --no-cache --output type=local,dest="$scratch/seen" "${options[@]}"
  seen=$(cat "$scratch/seen/seen")
}
run() { printf 'FROM scratch AS all\nADD root.tar /\nRUN (%s) >/seen 2>&1\nFROM scratch\nCOPY --from=all /seen /\n' "$1" >"$dir/Dockerfile"; }

say "what a step is given"
run 'cat /etc/hostname; hostname'
seen hostname=of-the-option
check_contains "hostname" "$seen" of-the-option
seen build-arg:BUILDKIT_SANDBOX_HOSTNAME=of-the-argument
check_contains "BUILDKIT_SANDBOX_HOSTNAME" "$seen" of-the-argument
run 'cat /etc/hosts'
seen add-hosts=far.example=192.0.2.7
check_contains "add-hosts" "$seen" "192.0.2.7	far.example"
run 'ulimit -n; ulimit -Hn'
seen ulimit=nofile=123:456
check_same "ulimit" "$seen" "123
456"
run 'df -k /dev/shm | tail -n 1'
seen shm-size=8388608
check_contains "shm-size" "$seen" " 8192 "
run 'ls /sys/class/net'
seen force-network-mode=none
check_same "force-network-mode" "$seen" lo
# The group of a step by its path in whatever hierarchies there are.
group='for f in $(sed -n "s/^[0-9]*:\([^:]*\):\(.*\)/\1/p" /proc/self/cgroup | tr , " "); do :; done; cat /proc/self/cgroup'
run "$group"
groups_made+=(kiln-options)
seen cgroup-parent=kiln-options
check_contains "cgroup-parent" "$seen" /kiln-options/
read_group='cat /sys/fs/cgroup/$1/$2 /sys/fs/cgroup/$3 2>/dev/null | head -n 1'
limit() { run "set -- $1 $2 $3; $read_group"; }  # v1 controller, its file, v2's file
limit memory memory.limit_in_bytes memory.max
seen memory=67108864
check_same "memory" "$seen" 67108864
limit memory memory.memsw.limit_in_bytes memory.swap.max
if [ -e /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes ] || [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  seen memory=67108864 memswap=134217728
  check "memswap ($seen)" [ "$seen" = 134217728 -o "$seen" = 67108864 ]
else
  build "$dir" --no-cache --opt memory=67108864 --opt memswap=134217728
  check "memswap reaches the runtime, which has no such group here" true
fi
limit cpu cpu.shares cpu.weight
seen cpushares=512
check "cpushares ($seen)" [ "$seen" = 512 -o "$seen" = 20 ]
limit cpu cpu.cfs_quota_us cpu.max
seen cpuquota=50000 cpuperiod=100000
check_contains "cpuquota" "$seen" 50000
limit cpu cpu.cfs_period_us cpu.max
seen cpuquota=50000 cpuperiod=80000
check_contains "cpuperiod" "$seen" 80000
limit cpuset cpuset.cpus cpuset.cpus
seen cpusetcpus=0
check_same "cpusetcpus" "$seen" 0
limit cpuset cpuset.mems cpuset.mems
seen cpusetmems=0
check_same "cpusetmems" "$seen" 0

say "what a frontend is told"
printf 'FROM scratch AS one\nADD root.tar /\nARG WORD\nRUN echo "$WORD" >/seen\nFROM scratch AS two\nCOPY --from=one /seen /two\n' >"$dir/Dockerfile"
must_build "$dir" --output type=local,dest="$scratch/one" --opt target=one --opt build-arg:WORD=given
check_same "target, build-arg:" "$(cat "$scratch/one/seen")" given
must_build "$dir" --output type=oci,dest="$scratch/label.tar" --opt label:who=me --opt platform=linux/amd64 --opt multi-platform=true
tar -C "$scratch" -xf "$scratch/label.tar" index.json
check_contains "platform, multi-platform" "$(cat "$scratch/index.json")" image.index
for old in override-copy-image=x build-arg:BUILDKIT_DISABLE_FILEOP=1; do
  must_fail "$dir" --opt "$old"
  check_contains "what upstream has dropped" "$out" "was removed in BuildKit 0.11"
done
must_fail "$dir" --opt image-resolve-mode=sideways
check_contains "image-resolve-mode" "$out" "invalid image-resolve-mode: sideways"
must_build "$dir" --output type=oci,dest="$scratch/multi.tar" --opt build-arg:BUILDKIT_MULTI_PLATFORM=1
tar -C "$scratch" -xf "$scratch/multi.tar" index.json
check_contains "BUILDKIT_MULTI_PLATFORM" "$(cat "$scratch/index.json")" image.index
status=0
out=$(kilnctl build --frontend gateway.v0 --opt source=localhost:1/none --opt gateway-devel= 2>&1) || status=$?
check_contains "gateway-devel" "$out" "development gateway is no longer supported"

say "caches that a request names for its frontend"
must_build "$dir" --output type=local,dest="$scratch/one" --export-cache "type=registry,ref=$registry/opt/cache:1,mode=max"
kilnctl prune --all >/dev/null
must_build "$dir" --output type=local,dest="$scratch/one" --opt "cache-from=$registry/opt/cache:1"
check_contains "cache-from" "$out" CACHED
kilnctl prune --all >/dev/null
must_build "$dir" --output type=local,dest="$scratch/one" \
  --opt "cache-imports=[{\"Type\":\"registry\",\"Attrs\":{\"ref\":\"$registry/opt/cache:1\"}}]"
check_contains "cache-imports" "$out" CACHED

say "images as their exporter is told"
image=$registry/opt/image
attest=(--opt attest:provenance=mode=min)
must_build "$dir" --output "type=image,name=$image:1,push=true,annotation.who=me" --opt label:who=me
check_same "push, annotation.*" "$(inspect "$image:1" | jq -r .annotations.who)" me
check_same "label:" "$(skopeo inspect --tls-verify=false --config "docker://$image:1" | jq -r .config.Labels.who)" me
must_build "$dir" --output "type=image,name=$image,push=true,push-by-digest=true"
check "push-by-digest leaves no tag" eval "! inspect '$image:latest' >/dev/null 2>&1"
must_build "$dir" --output "type=image,name=$image:2,push=true,registry.insecure=true,oci-mediatypes=false"
check_contains "registry.insecure, oci-mediatypes" "$(inspect "$image:2")" docker.distribution.manifest
must_build "$dir" --output "type=image,name=$image:3,push=true,oci-artifact=false" "${attest[@]}"
artifact=$(inspect "$image:3" | jq -r '.manifests[] | select(.annotations."vnd.docker.reference.type") | .digest')
check_absent "oci-artifact=false" "$(inspect "$image@$artifact")" artifactType
must_build "$dir" --output "type=image,name=$image:4,push=true,attestation-inline=false" "${attest[@]}"
must_build "$dir" --output "type=image,name=kiln.example/kept:1,name-canonical=true,store=true,unpack=false"
for flags in dangling-name-prefix=kiln.example/dangling name=kiln.example/x:1,dangling-name-prefix=kiln.example/dangling,danging-name-empty-only=true; do
  kilnctl build --frontend dockerfile.v0 --local context="$dir" --local dockerfile="$dir" --output "type=image,$flags" \
    --metadata-file "$scratch/metadata" >/dev/null 2>&1 || fail "dangling: $flags"
  case $flags in
    name=*) check_same "danging-name-empty-only" "$(jq -r '."image.name"' "$scratch/metadata")" kiln.example/x:1 ;;
    *) check_contains "dangling-name-prefix" "$(jq -r '."image.name"' "$scratch/metadata")" kiln.example/dangling@sha256: ;;
  esac
done
must_build "$dir" --output "type=image,name=$image:5,push=true,store=true,unsafe-internal-store-allow-incomplete=true"
must_build "$dir" --output "type=image,name=$image:6,push=true,compression=uncompressed,force-compression=true"
check_absent "compression, force-compression" "$(inspect "$image:6")" gzip
must_build "$dir" --output "type=image,name=$image:7,push=true,compression=zstd,compression-level=3,force-compression=true"
check_contains "compression-level" "$(inspect "$image:7")" zstd
must_build "$dir" --output "type=image,name=$image:8,push=true,source-date-epoch=1000,rewrite-timestamp=true"
check_contains "source-date-epoch, rewrite-timestamp" "$(skopeo inspect --tls-verify=false --config "docker://$image:8")" 1970-01-01T00:16:40Z

say "trees and archives as their exporter is told"
must_build "$dir" --output "type=local,dest=$scratch/tree,attestation-prefix=about-" "${attest[@]}"
check_contains "attestation-prefix" "$(names "$scratch/tree")" about-provenance.json
must_build "$dir" --output "type=local,dest=$scratch/split,platform-split=true" --opt platform=linux/amd64 --opt multi-platform=true
check_contains "platform-split" "$(names "$scratch/split")" linux_amd64/two
mkdir -p "$scratch/mirror" && touch "$scratch/mirror/old"
must_build "$dir" --output "type=local,dest=$scratch/mirror,mode=delete"
check_same "mode=delete" "$(names "$scratch/mirror")" two
must_build "$dir" --output "type=oci,dest=$scratch/layout,tar=false"
check "tar=false" test -f "$scratch/layout/oci-layout"

say "what records tell, and prunes that leave them"
records=$(kilnctl du --format '{{json .}}')
for field in id size parents createdAt lastUsedAt usageCount description recordType; do
  check_contains "du tells $field" "$records" "\"$field\""
done
check_contains "a file op's record is called as its step" "$records" "COPY --from=one /seen /two"
total() { kilnctl du | sed -n 's/^Total:[[:space:]]*//p'; }
before=$(total)
kilnctl prune --filter type==exec.cachemount >/dev/null        # filter
kilnctl prune --keep-duration 48h >/dev/null                   # keepDuration
kilnctl prune --keep-storage 1000000 >/dev/null                # maxUsedSpace
kilnctl prune --keep-storage 1 --keep-storage-min 1000000 >/dev/null  # reservedSpace
kilnctl prune --free-storage 1 >/dev/null                      # minFreeSpace
check_same "what such prunes leave" "$(total)" "$before"
kilnctl prune --all >/dev/null
check_same "what none of it leaves" "$(total)" 0B
