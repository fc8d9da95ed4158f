#!/usr/bin/env bash
# Bad input gets a clear error that names what is wrong and where, and the daemon carries on.
. "$(dirname "$0")/lib.sh"
start_registry
push_image "$(busybox_tar)" library/busybox:latest
kilnd_config="[registry.\"docker.io\"]
mirrors = [\"$registry\"]"
start_kilnd
dir=$scratch/app
dockerfile() { rm -rf "$dir"; mkdir "$dir"; cat >"$dir/Dockerfile"; }

say "a syntax error"
dockerfile <<'DOCKER'
FROM busybox
COPPY a b
DOCKER
must_fail "$dir"
check_contains "file and line" "$out" "Dockerfile:2"
check_contains "the line itself" "$out" "COPPY a b"
check_contains "what is wrong" "$out" "unknown instruction: COPPY"

say "an unknown stage"
dockerfile <<'DOCKER'
FROM busybox AS base
DOCKER
must_fail "$dir" --opt target=bse
check_contains "the stage is named" "$out" "bse"

say "an unknown flag"
dockerfile <<'DOCKER'
FROM busybox
RUN --mnt=type=cache true
DOCKER
must_fail "$dir"
check_contains "the flag is named" "$out" "unknown flag: --mnt"

say "a missing file in COPY"
dockerfile <<'DOCKER'
FROM busybox
COPY nowhere.txt /
DOCKER
must_fail "$dir"
check_contains "the file is named" "$out" "nowhere.txt"
check_contains "with its place" "$out" "Dockerfile:2"

say "a base image that does not exist"
dockerfile <<DOCKER
FROM $registry/no/such:image
DOCKER
must_fail "$dir"
check_contains "the image is named" "$out" "$registry/no/such:image"
check_contains "and what is wrong" "$out" "not found"

say "a failing command"
dockerfile <<'DOCKER'
FROM busybox
RUN echo before && exit 3
DOCKER
must_fail "$dir"
check_contains "the exit code" "$out" "exit code: 3"
check_contains "the output" "$out" "before"

say "an archive that climbs out"
dockerfile <<'DOCKER'
FROM busybox
ADD evil.tar /target/
RUN test ! -e /escaped && test ! -e /tmp/escaped
DOCKER
python3 - "$dir/evil.tar" <<'PY'
import io, sys, tarfile
tar = tarfile.open(sys.argv[1], "w")
def add(name, **kw):
    info = tarfile.TarInfo(name)
    data = b"x"
    for k, v in kw.items(): setattr(info, k, v)
    if info.type == tarfile.REGTYPE: info.size = 1; tar.addfile(info, io.BytesIO(data))
    else: tar.addfile(info)
add("ok")
add("../../escaped")
add("link", type=tarfile.SYMTYPE, linkname="/../../../../../../tmp")
add("link/escaped")
PY
build "$dir"
check "nothing was written outside" test ! -e /escaped -a ! -e /tmp/escaped -a ! -e "$state/escaped"

say "LLB that is no graph"
printf 'garbage' | kilnctl build >"$scratch/o" 2>&1 && fail "garbage was built"
check_contains "said so" "$(cat "$scratch/o")" "rror"

say "a client that vanishes in the middle of an upload"
dockerfile <<'DOCKER'
FROM busybox
COPY . /all
DOCKER
head -c 300000000 /dev/zero >"$dir/big"
kilnctl_begin "$scratch/o" build --progress=plain --frontend dockerfile.v0 --local context="$dir" --local dockerfile="$dir"
wait_for 20 grep -q "transferring context" "$scratch/o" || fail "the upload never began: $(cat "$scratch/o")"
kill -KILL $client
rm "$dir/big"; echo small >"$dir/small"
must_build "$dir"

say "after all that the daemon is the one that was started"
check "still running" kill -0 "$kilnd_pid"
