#!/usr/bin/env bash
# Builds by frontend images (gateway.v0), and a daemon that ends afterwards: SIGTERM alone, whatever the frontend did.
. "$(dirname "$0")/lib.sh"
[ -x "$build_dir/tiny_frontend" ] || skip "no tiny_frontend was built"
start_registry

push_program "$build_dir/tiny_frontend" /bin/frontend tiny

by_frontend() {  # by_frontend MODE [FLAGS…]
  local mode=$1; shift
  kilnctl build --progress=plain --frontend gateway.v0 --opt "source=$registry/tiny" --opt "mode=$mode" "$@" \
    >"$scratch/client.log" 2>&1
}
# Ends the daemon by SIGTERM alone, within seconds, and without its deadline's help.
must_end() {
  kill -TERM "$kilnd_pid"
  wait_for 20 eval "! kill -0 $kilnd_pid" || fail "kilnd does not end after $1: $(ls /proc/$kilnd_pid/task | wc -l) threads"
  check "the daemon ends well after $1" wait "$kilnd_pid"
}

for mode in file empty nested facts final; do
  start_kilnd
  by_frontend "$mode" --output "type=local,dest=$scratch/out-$mode" || fail "$mode: $(cat "$scratch/client.log")"
  must_end "a frontend image that did its work ($mode)"
done
check_same "what the frontend made" "$(cat "$scratch/out-file/made")" "made by a frontend image, 0"

check_same "what the last Solve of an old frontend made" "$(cat "$scratch/out-final/made")" "made by a frontend image, 0"
facts=$(cat "$scratch/out-facts/made")
check_contains "a frontend reads where it comes from" "$facts" "source docker-image://$registry/tiny:latest@sha256:"
check_contains "with its kind of record" "$facts" " frontend
"
check_contains "the product" "$facts" "product buildkit"
check_contains "the workers as BuildKit writes them" "$facts" 'workers [{"id":"'
check_contains "with their labels" "$facts" '"org.mobyproject.buildkit.worker.executor":"oci"'

start_kilnd
check_contains "a frontend's image is recorded as such" "$(kilnctl du -v)" "Type:		frontend"
if by_frontend refuse; then fail "a frontend that refused made a build"; fi
check_contains "a frontend chooses its codes" "$(cat "$scratch/client.log")" "failed to solve: OutOfRange: not by me"
must_end "a frontend image that refused"

say "docker/dockerfile: what is built in stands in for tags, a pin is fetched"
for tag in 1.9 99 latest; do
  skopeo copy -q --src-tls-verify=false --dest-tls-verify=false "docker://$registry/tiny" "docker://$registry/docker/dockerfile:$tag"
done
digest=$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$registry/docker/dockerfile:1.9")
kilnd_config="[registry.\"docker.io\"]
mirrors = [\"$registry\"]"
start_kilnd
mkdir -p "$scratch/ctx"
printf '# syntax=docker/dockerfile:1.9\nFROM scratch\nCOPY Dockerfile /made\n' >"$scratch/ctx/Dockerfile"
kilnctl build "$scratch/ctx" --progress=plain --output "type=local,dest=$scratch/out-built-in" >"$scratch/client.log" 2>&1 ||
  fail "built in: $(cat "$scratch/client.log")"
check_contains "the log says so" "$(cat "$scratch/client.log")" \
  "docker.io/docker/dockerfile:1.9 is not pulled: the built-in dockerfile.v0, version"
check_same "it made the build" "$(head -n 1 "$scratch/out-built-in/made")" "# syntax=docker/dockerfile:1.9"
# What stands for docker.io here has another frontend under these names, so that it shows who worked.
for syntax in docker/dockerfile:99 docker/dockerfile "docker/dockerfile:1.9@$digest"; do
  sed -i "1s|.*|# syntax=$syntax|" "$scratch/ctx/Dockerfile"
  rm -rf "$scratch/out-fetched"
  kilnctl build "$scratch/ctx" --progress=plain --output "type=local,dest=$scratch/out-fetched" >"$scratch/client.log" 2>&1 ||
    fail "$syntax: $(cat "$scratch/client.log")"
  check_same "$syntax is fetched and run" "$(cat "$scratch/out-fetched/made")" "made by a frontend image, 0"
  check_absent "nothing stands in for $syntax" "$(cat "$scratch/client.log")" "is not pulled"
done
sed -i '1s|.*|# syntax=docker/dockerfile:1.9|' "$scratch/ctx/Dockerfile"
kilnctl build "$scratch/ctx" --progress=plain --opt "context:docker/dockerfile:1.9=docker-image://$registry/tiny" \
  --output "type=local,dest=$scratch/out-context" >"$scratch/client.log" 2>&1 || fail "context: $(cat "$scratch/client.log")"
check_same "a named context takes the frontend's place" "$(cat "$scratch/out-context/made")" "made by a frontend image, 0"
must_end "builds by syntax lines"

start_kilnd
if by_frontend crash; then fail "a frontend that crashes made a build"; fi
check_contains "its end is told" "$(cat "$scratch/client.log")" "exit code: 3"
must_end "a frontend image that crashed"

# A frontend that never answers: its client goes away, or the daemon is told twice.
# It returns when the frontend runs.
start_hanging() {
  kilnctl_begin "$scratch/client.log" build --progress=plain --frontend gateway.v0 --opt "source=$registry/tiny" --opt mode=hang
  wait_for 60 pgrep -f '^/bin/frontend' >/dev/null || fail "the frontend does not start: $(cat "$scratch/client.log")"
}
start_kilnd
start_hanging
kill -TERM "$client"
wait "$client" && fail "a cancelled build succeeded"
must_end "a build that was cancelled in its frontend"

start_kilnd
start_hanging
kill -TERM "$kilnd_pid"
wait_for 10 grep -q "stopping when 1 running build is done" "$scratch/kilnd.log" || fail "kilnd does not say what it waits for"
kill -TERM "$kilnd_pid"
check "the second signal ends the daemon" wait "$kilnd_pid"
wait "$client" && fail "a build whose daemon went away succeeded"
check_same "frontends left" "$(pgrep -f '^/bin/frontend' || true)" ""
