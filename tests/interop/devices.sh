#!/usr/bin/env bash
# A build makes device nodes and FIFOs and lets the daemon come by: neither is ever opened outside of the container.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "needs root"

context=$scratch/context
mkdir -p "$context"
tar -xf "$(busybox_tar)" -C "$context" ./bin
start_kilnd

# try [FLAGS…]: a build through a Dockerfile on standard input that must not hang; output in $out, status in $status.
try() {
  cat >"$context/Dockerfile"
  set +e
  out=$(timeout 60 "$kilnctl" --addr "unix://$socket" build --progress=plain --frontend dockerfile.v0 \
    --local context="$context" --local dockerfile="$context" --no-cache "$@" 2>&1)
  status=$?
  set -e
  [ $status -ne 124 ] || fail "it hangs: $out"
}
must_succeed() { try "$@"; [ $status -eq 0 ] || fail "build failed: $out"; checks=$((checks + 1)); }
must_fail() { local why=$1; shift; try "$@"; [ $status -ne 0 ] || fail "it succeeded"; check_contains "why it failed" "$out" "$why"; }

say "the state is on mounts without devices, set-user-ID bits and programs, but for what containers get"
wide=$(awk -v root="$state" '$5 == root || index($5, root "/") == 1 {
    split($6, o, ","); f = 0
    for (i in o) if (o[i] == "nodev" || o[i] == "nosuid" || o[i] == "noexec") f++
    if (f != 3) print $5
  }' "/proc/$kilnd_pid/mountinfo")
check_same "mounts of the daemon that are open" "$wide" "$state/for-containers"

# opens COMMAND…: what the daemon itself opens of the nodes and FIFOs, by their names, while the command runs.
names=(node passwd zero zero.tar fifo)
opens() {
  local strace_pid
  ls "/proc/$kilnd_pid/task" >"$scratch/threads"
  strace -f -y -qq -e trace=open,openat,openat2,clone,clone3,fork,vfork -o "$scratch/trace" -p "$kilnd_pid" \
    2>"$scratch/strace.log" &
  strace_pid=$!
  wait_for 10 grep -q 'TracerPid:[[:space:]]*[1-9]' "/proc/$kilnd_pid/status" || fail "strace: $(cat "$scratch/strace.log")"
  "$@"
  kill -INT "$strace_pid"
  wait "$strace_pid" 2>/dev/null || true
  opened=$(python3 "$source_dir/tests/interop/device_opens.py" "$scratch/trace" "${names[@]}" <"$scratch/threads")
}

# llb HOW TYPE MAJOR MINOR: output in $out, status in $status; must not hang.
llb() {
  set +e
  out=$(python3 "$source_dir/tests/interop/device_llb.py" "$@" | timeout 60 "$kilnctl" --addr "unix://$socket" build \
    --progress=plain --no-cache --local context="$context" 2>&1)
  status=$?
  set -e
  [ $status -ne 124 ] || fail "it hangs: $out"
}

say "a disk of the host: what is written to a node of it stays off it"
disk=$scratch/disk
truncate -s 1M "$disk"
if loop=$(losetup --find --show "$disk" 2>/dev/null); then
  llb mkfile b $((16#$(stat -c %t "$loop"))) $((16#$(stat -c %T "$loop")))
  blockdev --flushbufs "$loop" || true
  losetup -d "$loop"
  check_same "bytes on the disk" "$(tr -d '\0' <"$disk" | wc -c)" 0
  check_contains "why there is no file" "$out" "not a regular file"
else
  say "  (no loop devices here: left out)"
fi

if ! command -v strace >/dev/null; then
  say "  (no strace here: what is opened is not looked at)"
  opens() { "$@"; opened=; }
fi

say "memory and null: mkfile, COPY and owners by name"
for device in "c 1 3" "c 1 5"; do
  numbers=${device#c }
  for how in mkfile copy owner; do
    # shellcheck disable=SC2086
    opens llb $how $device
    check_same "opens of $numbers by $how" "$opened" ""
    case $how in
      mkfile) check_contains "why there is no file" "$out" "not a regular file" ;;
      copy) check_same "copy of the node: $out" $status 0 ;;
      owner) check_contains "why there is no owner" "$out" "not a regular file" ;;
    esac
  done
done

say "a Dockerfile: COPY, ADD and USER where nodes and FIFOs are"
nodes() {
  must_succeed <<'DOCKERFILE'
FROM scratch AS odd
COPY bin /bin
RUN mkdir /odd && mknod /odd/zero c 1 5 && mkfifo /odd/fifo && mknod /zero.tar c 1 5 && mkfifo /fifo
FROM scratch
COPY --from=odd /odd /odd
COPY --from=odd /odd/zero /fifo /there/
COPY --from=odd --chown=0:0 --chmod=644 /odd/zero /zero.tar /mode/
DOCKERFILE
}
opens nodes
check_same "opens by COPY" "$opened" ""
for kind in "mknod /etc/passwd c 1 5" "mkfifo /fifo; ln -s /fifo /etc/passwd"; do
  by_name() {
    must_fail "unable to find user somebody" <<DOCKERFILE
FROM scratch
COPY bin /bin
RUN mkdir /etc; rm -f /etc/passwd; $kind
USER somebody
RUN true
DOCKERFILE
  }
  opens by_name
  check_same "opens by USER" "$opened" ""
done

say "a client's context: a Dockerfile and a .dockerignore that are none"
odd=$scratch/odd
mkdir "$odd"
# read_by_frontend NAME COMMAND: what the command makes in the context is not opened.
read_by_frontend() {
  find "$odd" -mindepth 1 -delete
  eval "$2"
  names=("$1" fifo)
  opens frontend
  check_same "opens of $1 by a frontend" "$opened" ""
}
frontend() {
  set +e
  out=$(timeout 60 "$kilnctl" --addr "unix://$socket" build --progress=plain --frontend dockerfile.v0 \
    --local context="$odd" --local dockerfile="$odd" --no-cache 2>&1)
  status=$?
  set -e
  [ $status -ne 124 ] || fail "it hangs: $out"
}
for make in "mknod $odd/Dockerfile c 1 5" "mkfifo $odd/Dockerfile" "mkfifo $odd/fifo && ln -s fifo $odd/Dockerfile"; do
  read_by_frontend Dockerfile "$make"
  check_contains "why it fails" "$out" "not a regular file"
done
read_by_frontend .dockerignore "echo FROM scratch >$odd/Dockerfile && mknod $odd/.dockerignore c 1 5"
stop_kilnd
