#!/usr/bin/env bash
# SIGTERM under whatever hangs: a registry that never answers, clients that are frozen, deep graphs, a step that ignores
# every signal. Told twice, the daemon ends in order, long before its deadline.
. "$(dirname "$0")/lib.sh"
dir=$scratch/app
mkdir "$dir"
cp "$(busybox_tar)" "$dir/root.tar"

start_client() {  # start_client DIR [FLAGS…]: one build in the background; sets $client
  local from=$1; shift
  : >"$scratch/client.log"
  kilnctl_begin "$scratch/client.log" build --progress=plain --frontend dockerfile.v0 --local context="$from" \
    --local dockerfile="$from" "$@"
}
# Twice SIGTERM: the second while it waits for the build.
must_end() {
  kill -TERM "$kilnd_pid"
  wait_for 10 eval "[ \$(grep -c 'stopping when' '$scratch/kilnd.log') -ge 1 ]" || fail "$1: kilnd does not say what it waits for"
  kill -TERM "$kilnd_pid"
  wait_for 25 eval "! kill -0 $kilnd_pid" || fail "$1: kilnd does not end: $(cat /proc/"$kilnd_pid"/task/*/comm | sort | uniq -c)"
  check "the daemon ends well: $1" wait "$kilnd_pid"
  check_absent "no deadline was needed: $1" "$(cat "$scratch/kilnd.log")" "not stopped"
  kill -CONT "$client" 2>/dev/null || true
  kill -TERM "$client" 2>/dev/null || true
  wait "$client" || true
  : >"$scratch/kilnd.log"
}

# A registry that takes connections and says nothing.
python3 - "$scratch/silent" <<'PYTHON' &
import socket, sys
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(64)
open(sys.argv[1] + ".tmp", "w").write(str(s.getsockname()[1]))
import os; os.rename(sys.argv[1] + ".tmp", sys.argv[1])
held = []
while True: held.append(s.accept())
PYTHON
pids+=($!)
wait_for 10 [ -s "$scratch/silent" ] || fail "no silent registry"
mkdir "$scratch/silent-app"
echo "FROM localhost:$(cat "$scratch/silent")/never" >"$scratch/silent-app/Dockerfile"
start_kilnd
start_client "$scratch/silent-app"
wait_for 20 grep -q "load metadata" "$scratch/client.log" || fail "the build does not ask: $(cat "$scratch/client.log")"
must_end "a registry that never answers"

# A step that listens to nobody, and a client that is frozen.
marker=deaf-$$
printf 'FROM scratch\nADD root.tar /\nRUN trap "" TERM INT HUP; echo %s; while true; do sleep 1; done\n' "$marker" >"$dir/Dockerfile"
start_kilnd
start_client "$dir"
wait_for 30 grep -q " $marker\$" "$scratch/client.log" || fail "the step does not start: $(cat "$scratch/client.log")"
kill -STOP "$client"
must_end "a deaf step and a frozen client"
check_same "steps left" "$(pgrep -f "echo $marker" || true)" ""

# A client that froze while it sends its files: its session is stuck.
mkdir "$scratch/big"
cp "$dir/root.tar" "$scratch/big/"
for i in $(seq 1 200); do head -c 1000000 /dev/zero >"$scratch/big/$i"; done
printf 'FROM scratch\nCOPY . /\n' >"$scratch/big/Dockerfile"
start_kilnd
start_client "$scratch/big"
wait_for 20 grep -q "load build context" "$scratch/client.log" || fail "nothing is sent: $(cat "$scratch/client.log")"
kill -STOP "$client"
must_end "a session that is stuck"

# A deep graph whose first step runs.
mkdir "$scratch/deep"
cp "$dir/root.tar" "$scratch/deep/"
{
  printf 'FROM scratch\nADD root.tar /\nRUN echo %s-deep; sleep 600\n' "$marker"
  for i in $(seq 1 2000); do echo "RUN : $i"; done
} >"$scratch/deep/Dockerfile"
start_kilnd
start_client "$scratch/deep"
wait_for 60 grep -q " $marker-deep\$" "$scratch/client.log" || fail "the deep build does not start: $(tail -n 5 "$scratch/client.log")"
must_end "a deep graph"
