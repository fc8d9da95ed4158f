#!/usr/bin/env bash
# Caches in GitHub's Actions cache (a service with its rules, tests/support/github_cache.py), both service versions: a build
# whose RUN gives something else each time gives the same again once the cache is imported.
#
# REFERENCE=unix://…  address of a BuildKit daemon, which then reads what Kiln wrote, and the other way round.
. "$(dirname "$0")/lib.sh"
"$source_dir/tests/support/github_cache.py" >"$scratch/url" &
pids+=($!)
wait_for 10 test -s "$scratch/url" || fail "the service does not start"
service=$(cat "$scratch/url")
mkdir "$scratch/app"
cp "$(busybox_tar)" "$scratch/app/root.tar"
start_kilnd
kiln=unix://$socket

# made ADDRESS ROUND FLAGS…: what RUN gives in a build on that daemon; the log is in $scratch/log.
made() {
  local address=$1 round=$2; shift 2
  cat >"$scratch/app/Dockerfile" <<DOCKERFILE
FROM scratch AS base
ADD root.tar /
RUN echo $round && head -c 30 /dev/urandom | sha256sum >/made
FROM scratch
COPY --from=base /made /
DOCKERFILE
  rm -rf "$scratch/out"
  "$kilnctl" --addr "$address" build --progress=plain --frontend dockerfile.v0 --local context="$scratch/app" \
    --local dockerfile="$scratch/app" --output type=local,dest="$scratch/out" "$@" >"$scratch/log" 2>&1 ||
    fail "build failed: $(cat "$scratch/log")"
  cat "$scratch/out/made"
}

# both WRITER READER ROUND FLAGS…
both() {
  local writer=$1 reader=$2 round=$3; shift 3
  written=$(made "$writer" "$round" --export-cache "type=gha,mode=max,scope=$round,$*")
  [ "$reader" != "$kiln" ] || kilnctl prune --all >/dev/null
  check_same "$round" "$(made "$reader" "$round" --import-cache "type=gha,scope=$round,$*")" "$written"
  check_contains "$round" "$(cat "$scratch/log")" CACHED
}

token=$(curl -fsS "$service/control/token?scope=refs/heads/main:3")
for version in 1 2; do
  where=url=$service/,token=$token
  [ $version = 1 ] || where=url_v2=$service/,token=$token
  both "$kiln" "$kiln" "kiln-$version-$$" "$where"
  if [ -n "${REFERENCE:-}" ]; then
    both "$kiln" "$REFERENCE" "kiln-to-reference-$version-$$" "$where"
    both "$REFERENCE" "$kiln" "reference-to-kiln-$version-$$" "$where"
  fi
done

# As in a job: from the runner's environment.
export ACTIONS_CACHE_SERVICE_V2=true ACTIONS_RESULTS_URL=$service/ ACTIONS_RUNTIME_TOKEN=$token
both "$kiln" "$kiln" "environment-$$" timeout=1m
# The token of a pull request reads what its target's wrote.
export ACTIONS_RUNTIME_TOKEN
written=$(made "$kiln" "target-$$" --export-cache type=gha,mode=max)
kilnctl prune --all >/dev/null
ACTIONS_RUNTIME_TOKEN=$(curl -fsS "$service/control/token?scope=refs/pull/1/merge:3&scope=refs/heads/main:1")
check_same "a pull request" "$(made "$kiln" "target-$$" --import-cache type=gha)" "$written"
# A service that is busy for longer than the export waits: an error that says so, or not, as the export wants it.
curl -fsS -d '{"limited": 1000, "retry_after": "600"}' "$service/control/set"
must_fail "$scratch/app" --output type=local,dest="$scratch/out" --export-cache type=gha,timeout=1s
check_contains "a busy service" "$out" "too many requests"
must_build "$scratch/app" --output type=local,dest="$scratch/out" --export-cache type=gha,timeout=1s,ignore-error=true
check_same "problems" "$(curl -fsS "$service/control/state" | jq -c .problems)" '[]'
stop_kilnd
