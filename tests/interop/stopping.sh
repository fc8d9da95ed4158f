#!/usr/bin/env bash
# SIGTERM: running builds end first, new ones are refused; a second signal cancels what still runs.
. "$(dirname "$0")/lib.sh"
dir=$scratch/app
mkdir "$dir"
cp "$(busybox_tar)" "$dir/root.tar"
marker=held-$$
# The step goes on when it is sent SIGUSR1 from outside.
cat >"$dir/Dockerfile" <<DOCKER
FROM scratch
ADD root.tar /
ARG ROUND
RUN trap 'echo let-go; exit 0' USR1; echo $marker; sleep 600 & wait
DOCKER

# start_build ROUND: one build in the background, in the middle of its RUN when this returns; sets $client.
start_build() {
  : >"$scratch/client.log"
  kilnctl_begin "$scratch/client.log" build --progress=plain --frontend dockerfile.v0 --local context="$dir" \
    --local dockerfile="$dir" --opt build-arg:ROUND="$1"
  wait_for 20 grep -q " $marker\$" "$scratch/client.log" || fail "the step does not start: $(cat "$scratch/client.log")"
}
step_pid() { pgrep -f "^/bin/sh -c trap .*$marker"; }

start_kilnd
start_build 1
kill -TERM "$kilnd_pid"
wait_for 10 grep -q "stopping when 1 running build is done" "$scratch/kilnd.log" || fail "kilnd does not say what it waits for"
build "$dir" --opt build-arg:ROUND=other
check "a new build is refused" [ $status -ne 0 ]
check "the daemon still waits" kill -0 "$kilnd_pid"
kill -USR1 $(step_pid)
wait "$client" || fail "the running build ends badly: $(cat "$scratch/client.log")"
check_contains "its step went on" "$(cat "$scratch/client.log")" "let-go"
check "the daemon ends well" wait "$kilnd_pid"

start_kilnd
start_build 2
kill -TERM "$kilnd_pid"
wait_for 10 eval "[ \$(grep -c 'running build is done' '$scratch/kilnd.log') = 2 ]" || fail "kilnd does not wait"
kill -TERM "$kilnd_pid"
check "the second signal ends the daemon" wait "$kilnd_pid"
if wait "$client"; then fail "the cancelled build succeeded"; fi
check_same "steps left" "$(step_pid || true)" ""
