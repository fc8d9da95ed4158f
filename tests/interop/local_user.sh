#!/usr/bin/env bash
# Another user of the machine against a daemon whose state and socket lie below directories everybody may pass:
# nothing to look into, swap, replace or take the place of. And a daemon that finds such a thing done does not start.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "needs root"
command -v setpriv >/dev/null || skip "needs setpriv"

chmod 0711 "$scratch"
# As wide as an administrator may have it; a daemon that counted on it would not be one's own.
umask 0
mkdir "$scratch/open"
chmod 0755 "$scratch/open"
state=$scratch/open/lib/state
socket=$scratch/open/run/kilnd.sock

as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@" 2>&1; }
# refused WHAT COMMAND…: as nobody, the command must fail.
refused() {
  local what=$1; shift
  ! as_nobody "$@" >/dev/null || fail "nobody could: $what"
  checks=$((checks + 1))
}

context=$scratch/context
mkdir "$context"
tar -xf "$(busybox_tar)" -C "$context" ./bin
cat >"$context/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY bin /bin
RUN --mount=type=cache,target=/cache mkfifo /cache/go; echo started > /cache/started; cat /cache/go
DOCKERFILE

say "a build is under way"
start_kilnd
kilnctl build --progress=plain --frontend dockerfile.v0 --local context="$context" --local dockerfile="$context" \
  >"$scratch/build.log" 2>&1 &
build_pid=$!
started() { [ -n "$(find "$state/snapshots" -path '*/fs/started' 2>/dev/null)" ]; }
wait_for 60 started || fail "the step does not start: $(cat "$scratch/build.log")"
bundle=$(find "$state/executor/containers" -mindepth 1 -maxdepth 1 -type d | head -n 1)
check "a container runs" test -s "$bundle/config.json"
fifo=$(find "$state/snapshots" -path '*/fs/go')

say "nobody cannot look, swap, replace or add"
for place in "$state" "$state/executor" "$state/executor/containers" "$bundle" "$state/snapshots" "$state/blobs" \
  "$state/transient" "$state/metadata.mdb"; do
  refused "list $place" ls "$place"
  refused "rename $place" mv "$place" "$place.away"
  refused "remove $place" rm -rf "$place"
  refused "make something in $place" mkdir "$place/planted"
  refused "link $place elsewhere" ln -s /tmp "$place/planted"
done
refused "swap the bundle" sh -c "mv '$bundle' '$bundle.away' && mkdir '$bundle'"
refused "read the container's configuration" cat "$bundle/config.json"
refused "replace the container's configuration" sh -c "echo '{}' >'$bundle/config.json'"
refused "put other hosts in" sh -c "echo 6.6.6.6 example.org >'$state/executor/hosts'"
refused "prepare a resolv.conf" ln -s /etc/shadow "$state/executor/resolv.conf.new"
refused "let the step go on" sh -c "echo go >'$fifo'"
check_same "what nobody can write to below the daemon's directories" \
  "$(as_nobody sh -c "find '$scratch/open' ! -type l -writable 2>/dev/null")" ""
check_same "directories of the state that others may enter" "$(find "$state" -maxdepth 3 -path '*/snapshots/*/*' -prune -o \
  -type d ! -path "$state/snapshots/empty" -perm /077 -print)" ""
check_same "files of the state that others may read or write" \
  "$(find "$state" -maxdepth 2 -type f -perm /077 ! -path "$state/executor/*" -print)" ""

say "nobody cannot take the socket's place"
check_same "mode of the socket's directory" "$(stat -c '%U %a' "$(dirname "$socket")")" "root 755"
check_same "mode of the socket" "$(stat -c '%U %a' "$socket")" "root 660"
refused "move the socket away" mv "$socket" "$socket.away"
refused "remove the socket" rm -f "$socket"
refused "rename its directory" mv "$(dirname "$socket")" "$scratch/open/away"
refused "put a socket beside it" python3 -c 'import socket, sys
socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$socket.mine"
refused "connect" python3 -c 'import socket, sys
socket.socket(socket.AF_UNIX).connect(sys.argv[1])' "$socket"

say "the build ends as if nobody had been there"
echo go >"$fifo"
wait "$build_pid" || fail "the build failed: $(cat "$scratch/build.log")"
kilnctl debug info >/dev/null || fail "the daemon does not answer"
stop_kilnd

say "a daemon does not start on what another user may have changed"
# will_not_start WHY…: it ends by itself, and its last line says all of this.
will_not_start() {
  local text why
  ! text=$(timeout 20 "$kilnd" --root "$state" --addr "unix://$socket" 2>&1) || fail "it started"
  for why in "$@"; do check_contains "why it does not start" "$text" "$why"; done
}
chmod 0777 "$state"
will_not_start "$state" "owner 0:0" "mode 0777"
chmod 0700 "$state"
chown 65534:65534 "$state"
will_not_start "$state" "owner 65534:65534" "mode 0700"
chown 0:0 "$state"
chmod 0777 "$scratch/open/lib"
will_not_start "$scratch/open/lib" "mode 0777" "lets others swap"
chmod 0755 "$scratch/open/lib"
chmod 0777 "$scratch/open/run"
will_not_start "$scratch/open/run" "mode 0777" "listen on"
chmod 0755 "$scratch/open/run"

say "what an earlier version left open is thrown away and not believed"
rm -rf "$state/executor"
mkdir -p "$state/executor/containers/evil" "$state/executor/runtime/evil"
sleep 1000 & victim=$!
pids+=("$victim")
groups_made+=("kiln-victim.$$")
for group in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/pids; do
  [ -f "$group/cgroup.procs" ] || continue
  mkdir "$group/kiln-victim.$$" && echo "$victim" >"$group/kiln-victim.$$/cgroup.procs" || fail "no group for the victim"
  break
done
printf '{"linux":{"cgroupsPath":"/kiln-victim.%s"}}' $$ >"$state/executor/containers/evil/config.json"
chmod -R 0777 "$state/executor"
start_kilnd
check "the process that a planted configuration named is alive" kill -0 "$victim"
check_same "what was planted" "$(find "$state/executor" -name 'evil*')" ""
kill "$victim"
wait "$victim" 2>/dev/null || true
check_contains "log" "$(cat "$scratch/kilnd.log")" "could be written to by others"
stop_kilnd
