#!/usr/bin/env bash
# A git repository that a killed daemon had made but not yet given its remote: the next build makes it anew.
. "$(dirname "$0")/lib.sh"
work=$scratch/work served=$scratch/served
mkdir "$work" "$served" "$scratch/app"
publish() {  # publish TEXT: what tag v0 of the repository has
  echo "$1" >"$work/data"
  git -C "$work" add data
  git -C "$work" -c user.name=test -c user.email=test@localhost commit -q -m "$1"
  git -C "$work" tag -f v0 >/dev/null
  git -C "$served/r.git" fetch -q "$work" +refs/tags/v0:refs/tags/v0
  git -C "$served/r.git" update-server-info
}
git init -q "$work"
git init -q --bare "$served/r.git"
publish one
port=$(free_port)
python3 -m http.server --bind 127.0.0.1 --directory "$served" "$port" >/dev/null 2>&1 &
pids+=($!)
wait_for 10 curl -fsS "http://127.0.0.1:$port/r.git/HEAD" -o /dev/null || fail "the file server does not answer"
printf 'FROM scratch\nADD http://127.0.0.1:%s/r.git#v0 /\n' "$port" >"$scratch/app/Dockerfile"

start_kilnd
must_build "$scratch/app" --no-cache --output type=local,dest="$scratch/one"
check_same "the first build" "$(cat "$scratch/one/data")" one
kill -KILL "$kilnd_pid"
wait "$kilnd_pid" 2>/dev/null || true
config=$(grep -l 'bare = true' "$state"/snapshots/*/fs/config) || fail "the shared repository is not where it was"
git config -f "$config" --remove-section remote.origin

publish two
start_kilnd
must_build "$scratch/app" --no-cache --output type=local,dest="$scratch/two"
check_same "the build after the kill" "$(cat "$scratch/two/data")" two
