#!/usr/bin/env bash
# A state directory without room, and one whose disk fails: builds say why they fail, the daemon stays up, nothing
# half is left, prune frees space and tells what it could not do, a restart works, and all is well once there is room.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "mounting needs root"
disk=$scratch/disk
state=$disk/state
mkdir "$disk"
mount -t tmpfs -o size=96m tmpfs "$disk" || skip "no tmpfs can be mounted"
unmount_disks() {
  local status=$?
  for pid in "${pids[@]}"; do stop_pid "$pid" 10 || true; done
  for point in "$disk" "$scratch/small"; do umount -l "$point" 2>/dev/null || true; done
  return $status
}
trap 'unmount_disks; on_exit' EXIT

start_registry
push_image "$(busybox_tar)" library/busybox:latest
kilnd_config="[registry.\"docker.io\"]
mirrors = [\"$registry\"]"

dir=$scratch/app
mkdir "$dir"
used_mb() { df -k "$disk" | awk 'END { print int($3 / 1024) }'; }
fill() { head -c 200000000 /dev/zero >"$disk/filler" 2>/dev/null || true; }
step() {  # step TEXT: a build of one RUN that was never made before
  printf 'FROM busybox\nRUN echo %s > /made\n' "$1" >"$dir/Dockerfile"
  must_build "$dir"
}
prune_all() {  # sets $freed, the megabytes that are free now and were not
  local before
  before=$(used_mb)
  set +e
  out=$(kilnctl prune --all 2>&1)
  status=$?
  set -e
  freed=$((before - $(used_mb)))
}
is_up() { check "$1: the daemon is up" kill -0 "$kilnd_pid"; kilnctl debug workers >/dev/null || fail "$1: no answer"; }
no_partials() { check_same "$1: unfinished blobs" "$(find "$state/blobs/ingest" -mindepth 1 | wc -l)" 0; }

start_kilnd
step first

# A context that does not fit leaves nothing, so the next build needs no cleaning.
before=$(used_mb)
head -c 150000000 /dev/urandom >"$dir/big"
printf 'FROM scratch\nCOPY big /big\n' >"$dir/Dockerfile"
must_fail "$dir"
check_contains "a context that is too big" "$out" "no space left on device"
is_up "a context that is too big"
rm "$dir/big"
check "what came of the context is gone ($before MB, then $(used_mb))" [ "$(used_mb)" -le $((before + 2)) ]
step after-context

# So does a RUN, and a layer that does not fit when it is exported.
printf 'FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=150\n' >"$dir/Dockerfile"
must_fail "$dir"
check_contains "a RUN that fills the disk" "$out" "No space left on device"
wait_for 10 eval "[ \"\$(used_mb)\" -le $((before + 4)) ]" || fail "the RUN left $(used_mb) MB"
is_up "a RUN that fills the disk"
step after-run
printf 'FROM busybox\nRUN head -c 40000000 /dev/urandom > /big\n' >"$dir/Dockerfile"
must_build "$dir"
head -c $((($(df -k "$disk" | awk 'END { print $4 }') - 8000) * 1024)) /dev/zero >"$disk/filler"
must_fail "$dir" --output type=oci,dest="$scratch/out.tar"
check_contains "a layer that does not fit" "$out" "no space left on device"
no_partials "a layer that does not fit"
check "no output is left" [ ! -e "$scratch/out.tar" ]
rm "$disk/filler"

# Not a byte is free: prune works, tells what it freed, and says so only when it did.
for restarted in no yes; do
  step "before-$restarted"
  fill
  check_same "the disk is full" "$(df -k "$disk" | awk 'END { print $4 }')" 0
  if [ $restarted = yes ]; then stop_kilnd; start_kilnd; fi
  is_up "a full disk (restarted: $restarted)"
  prune_all
  check_same "prune on a full disk (restarted: $restarted): $out" $status 0
  check "prune frees space ($freed MB, restarted: $restarted)" [ $freed -gt 1 ]
  check_absent "prune tells of it" "$out" "$(printf 'Total:\t0B')"
  rm "$disk/filler"
  step "after-$restarted"
done

# No names are left. A restart finds the same snapshotter.
snapshotter=$(kilnctl debug workers -v | grep -o 'snapshotter: *[a-z-]*')
mount -o remount,nr_inodes=$(($(df -i "$disk" | awk 'END { print $3 }') + 200)) "$disk"
# shellcheck disable=SC2016
printf 'FROM busybox\nRUN for i in $(seq 1000); do echo > /f$i; done\n' >"$dir/Dockerfile"
must_fail "$dir"
check_contains "a RUN that takes all names" "$out" "No space left on device"
is_up "a RUN that takes all names"
for i in $(seq 1000); do : >"$disk/filler$i" || break; done 2>/dev/null
check_same "no name is left" "$(df -i "$disk" | awk 'END { print $4 }')" 0
stop_kilnd
start_kilnd
check_same "the snapshotter" "$(kilnctl debug workers -v | grep -o 'snapshotter: *[a-z-]*')" "$snapshotter"
prune_all
check_same "prune without names: $out" $status 0
rm "$disk"/filler*
mount -o remount,nr_inodes=0 "$disk"
step after-names

# The client's own disk: what it could not write is not there.
mkdir "$scratch/small"
mount -t tmpfs -o size=1m tmpfs "$scratch/small"
printf 'FROM scratch\nADD big /big\n' >"$dir/Dockerfile"
head -c 5000000 /dev/urandom >"$dir/big"
for output in type=oci type=docker type=tar; do
  must_fail "$dir" --output "$output,dest=$scratch/small/out"
  check_contains "$output" "$out" "no space left on device"
  check_same "$output leaves" "$(ls -A "$scratch/small")" ""
done
must_fail "$dir" --output "type=local,dest=$scratch/small/out"
check_contains "type=local" "$out" "no space left on device"
check_same "type=local leaves files" "$(find "$scratch/small" -type f)" ""
must_fail "$dir" --export-cache "type=local,dest=$scratch/small/cache,mode=max"
check_contains "a local cache" "$out" "no space left on device"
check_same "a local cache leaves unfinished blobs" "$(find "$scratch/small/cache/ingest" -type f 2>/dev/null)" ""
must_fail "$dir" --output "type=oci,tar=false,dest=$scratch/small/layout"
check_contains "an OCI directory" "$out" "no space left on device"
check_same "an OCI directory leaves unfinished blobs" "$(find "$scratch/small/layout/ingest" -type f 2>/dev/null)" ""
check "nor an index that names what is not there" [ ! -e "$scratch/small/layout/index.json" ]
rm "$dir/big"
umount "$scratch/small"
is_up "the client's disk"

# The disk of the daemon fails: every write, as a broken or read-only one has it.
stop_kilnd
cc -shared -fPIC -O1 -o "$scratch/failing_disk.so" "$(dirname "$0")/failing_disk.c" -ldl || fail "cannot compile the failing disk"
export FAILING_DISK_ROOT=$state FAILING_DISK_SWITCH=$scratch/failing
LD_PRELOAD=$scratch/failing_disk.so start_kilnd
unset FAILING_DISK_ROOT FAILING_DISK_SWITCH
step before-failure
for errno in 5:input/output 30:read-only "122:disk quota exceeded"; do
  echo "${errno%%:*}" >"$scratch/failing"
  printf 'FROM busybox\nRUN echo %s > /failing\n' "$errno" >"$dir/Dockerfile"
  must_fail "$dir"
  check_contains "a disk with errno ${errno%%:*}" "$out" "${errno#*:}"
  is_up "a disk with errno ${errno%%:*}"
  prune_all
  check "prune does not succeed on it: $out" [ $status -ne 0 ]
  check_contains "prune says why" "$out" "${errno#*:}"
  rm "$scratch/failing"
  step "after-${errno%%:*}"
done
# The database's own heart: it is opened anew.
echo "5 meta" >"$scratch/failing"
printf 'FROM busybox\nRUN echo meta > /failing\n' >"$dir/Dockerfile"
must_fail "$dir"
is_up "a disk that loses meta pages"
rm "$scratch/failing"
step after-meta
check "the database was opened again" grep -q 'the metadata database was opened again' "$scratch/kilnd.log"
prune_all
check_same "prune once the disk is well: $out" $status 0
check_same "what is in use" "$(kilnctl du | sed -n 's/^Total:[[:space:]]*//p')" "0B"
stop_kilnd
