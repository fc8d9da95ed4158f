# What every interop test stands on: a scratch directory, a registry, base images, a daemon. Sourced by bash.
# Everything started here is stopped by pid when the test ends, and what it left behind is a failure.
set -eEuo pipefail
trap '[[ $- != *e* ]] || printf "FAILED: %s, line %s: %s\n" "${BASH_SOURCE[0]}" "$LINENO" "$BASH_COMMAND" >&2' ERR  # never without a word

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build_dir=${KILN_BINARY_DIR:-$source_dir/build}
cache_dir=$build_dir/test-cache  # base images, kept between runs
kilnd=$build_dir/kilnd
kilnctl=$build_dir/kilnctl
scratch=$(mktemp -d /tmp/kiln-interop.XXXXXX)
export DOCKER_CONFIG=$scratch/docker
mkdir -p "$DOCKER_CONFIG" "$cache_dir"
state=$scratch/state
socket=$scratch/kilnd.sock
pids=()
checks=0

say() { printf -- '-- %s\n' "$*"; }
fail() {
  printf 'FAILED: %s\n' "$*" >&2
  [ -f "$scratch/kilnd.log" ] && { echo '--- end of kilnd.log'; tail -n 40 "$scratch/kilnd.log"; } >&2
  exit 1
}
skip() { printf 'SKIPPED: %s\n' "$*"; exit 77; }

# check DESCRIPTION COMMAND…: the command must succeed.
check() {
  local what=$1; shift
  "$@" || fail "$what"
  checks=$((checks + 1))
}
check_same() { [ "$2" = "$3" ] || fail "$1: expected \"$3\", got \"$2\""; checks=$((checks + 1)); }
check_contains() { case "$2" in *"$3"*) checks=$((checks + 1)) ;; *) fail "$1: no \"$3\" in: $2" ;; esac }
check_absent() { case "$2" in *"$3"*) fail "$1: unexpected \"$3\" in: $2" ;; *) checks=$((checks + 1)) ;; esac }

# wait_for SECONDS COMMAND…: until the command succeeds.
wait_for() {
  local deadline=$((SECONDS + $1)); shift
  until "$@" 2>/dev/null; do
    [ $SECONDS -lt $deadline ] || return 1
    read -rt 0.02 <> <(:) || true
  done
}

stop_pid() {  # stop_pid PID [SECONDS]
  kill -TERM "$1" 2>/dev/null || return 0
  wait_for "${2:-20}" eval "! kill -0 $1" || { kill -KILL "$1"; return 1; }
}

# The control groups that a test named go with it, whatever happens: every hierarchy may have them.
groups_made=()
drop_groups() {
  local name group
  for name in "${groups_made[@]}"; do
    for group in /sys/fs/cgroup/"$name" /sys/fs/cgroup/*/"$name"; do
      [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + || return 1
    done
  done
}

on_exit() {
  local status=$?
  for pid in "${pids[@]}"; do stop_pid "$pid" 10 || true; done
  drop_groups || { echo "FAILED: control groups are left"; status=1; }
  if [ $status -eq 0 ]; then
    local left
    left=$(grep -c "$scratch" /proc/self/mounts || true)
    [ "$left" = 0 ] || { echo "FAILED: $left mounts left below $scratch"; status=1; }
    # Only told with KILN_HANDLER_LIMIT_MS set (actors/handler_watch.hpp), as ctest does.
    ! grep -hs '^slow handler: ' "$scratch"/*.log || { echo "FAILED: handlers that take too long"; status=1; }
  fi
  [ -n "${KEEP:-}" ] && echo "kept $scratch" || rm -rf "$scratch"
  [ $status -eq 0 ] && printf '%d passed, 0 failed\n' "$checks"
  exit $status
}
trap on_exit EXIT

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start_registry: a real registry on loopback; sets $registry to host:port.
start_registry() {
  local port
  port=$(free_port)
  registry=localhost:$port
  cat >"$scratch/registry.yml" <<YAML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $scratch/registry}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port"}
YAML
  docker-registry serve "$scratch/registry.yml" >"$scratch/registry.log" 2>&1 &
  pids+=($!)
  wait_for 10 curl -fsS "http://127.0.0.1:$port/v2/" -o /dev/null || fail "the registry does not answer"
}

# push_image TAR NAME: one layer, as an OCI image, into the registry.
push_image() {
  local layout=$scratch/layout.$RANDOM
  umoci init --layout "$layout" >/dev/null
  umoci new --image "$layout:latest" >/dev/null
  umoci raw add-layer --image "$layout:latest" "$1" >/dev/null
  umoci config --image "$layout:latest" --config.cmd /bin/sh \
    --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin >/dev/null
  skopeo copy -q --dest-tls-verify=false "oci:$layout:latest" "docker://$registry/$2"
  rm -rf "$layout"
}

# push_program PROGRAM PATH NAME: an image of a program, which it has at PATH and starts, and of the libraries it needs.
push_program() {
  local layout=$scratch/layout.$RANDOM root=$scratch/program.$RANDOM
  mkdir -p "$root/etc" "$root$(dirname "$2")"
  cp "$1" "$root$2"
  ldd "$1" | grep -o '/[^ ]*' | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
  tar --sort=name --mtime=@0 --numeric-owner -C "$root" -cf "$root.tar" .
  umoci init --layout "$layout" >/dev/null
  umoci new --image "$layout:latest" >/dev/null
  umoci raw add-layer --image "$layout:latest" "$root.tar" >/dev/null
  umoci config --image "$layout:latest" --config.entrypoint "$2" >/dev/null
  skopeo copy -q --dest-tls-verify=false "oci:$layout:latest" "docker://$registry/$3"
  rm -rf "$layout" "$root" "$root.tar"
}

busybox_tar() {
  local file=$cache_dir/busybox.tar root
  if [ ! -s "$file" ]; then
    root=$(mktemp -d)
    mkdir -p "$root"/{bin,etc,tmp,root,var}
    cp /bin/busybox "$root/bin/busybox"
    for applet in $(/bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    chmod 1777 "$root/tmp"
    tar --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 -C "$root" -cf "$file.tmp" .
    mv "$file.tmp" "$file"
    rm -rf "$root"
  fi
  echo "$file"
}

debian_tar() {
  local file=$cache_dir/debian.tar mirror root
  if [ ! -s "$file" ]; then
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
    root=$(mktemp -d)
    debootstrap --variant=minbase bookworm "$root" "$mirror" >"$scratch/debootstrap.log" 2>&1 ||
      fail "debootstrap: $(tail -n 3 "$scratch/debootstrap.log")"
    cp -a /etc/apt/. "$root/etc/apt/" # so that apt works inside as it does on this machine
    rm -rf "$root"/var/cache/apt/archives/*.deb
    tar --sort=name --mtime=@0 --numeric-owner -C "$root" -cf "$file.tmp" .
    mv "$file.tmp" "$file"
    rm -rf "$root"
  fi
  echo "$file"
}

# start_kilnd [FLAGS…]: a daemon of this test's own; sets $kilnd_pid.
start_kilnd() {
  printf '%s\n' "${kilnd_config:-}" >"$scratch/kilnd.toml"
  "$kilnd" --config "$scratch/kilnd.toml" --root "$state" --addr "unix://$socket" "$@" >>"$scratch/kilnd.log" 2>&1 &
  kilnd_pid=$!
  pids+=("$kilnd_pid")
  wait_for 10 kilnctl debug info >/dev/null || fail "kilnd does not answer"
}

stop_kilnd() { stop_pid "$kilnd_pid" || fail "kilnd did not stop in time"; }

kilnctl() { "$kilnctl" --addr "unix://$socket" "$@"; }
# kilnctl_begin LOG ARGUMENTS…: in the background, with all it says in LOG. Sets $client to its process: that of
# `kilnctl … &` were a shell's, and who kills that has not killed the client.
kilnctl_begin() {
  local log=$1; shift
  "$kilnctl" --addr "unix://$socket" "$@" >"$log" 2>&1 &
  client=$!
}

# build DIR [FLAGS…]: builds a Dockerfile directory through the daemon; output in $out, also on failure.
build() {
  local dir=$1; shift
  set +e
  out=$(kilnctl build --progress=plain --frontend dockerfile.v0 --local context="$dir" --local dockerfile="$dir" "$@" 2>&1)
  status=$?
  set -e
}
must_build() { build "$@"; [ $status -eq 0 ] || fail "build failed: $out"; checks=$((checks + 1)); }
must_fail() { build "$@"; [ $status -ne 0 ] || fail "build of bad input succeeded: $out"; checks=$((checks + 1)); }
