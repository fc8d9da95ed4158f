#!/usr/bin/env bash
# A second build is all cache; a changed file re-runs exactly what depends on it, and says why; two
# concurrent identical builds run each step once.
. "$(dirname "$0")/lib.sh"
start_registry
push_image "$(busybox_tar)" library/busybox:latest
kilnd_config="[registry.\"docker.io\"]
mirrors = [\"$registry\"]"
start_kilnd

dir=$scratch/app
mkdir "$dir"
cat >"$dir/Dockerfile" <<'DOCKER'
FROM busybox AS left
COPY left.txt /
RUN echo ran-left >> /log && cat left.txt >> /log
FROM busybox AS right
COPY right.txt /
RUN echo ran-right >> /log && cat right.txt >> /log
FROM scratch
COPY --from=left /log /left
COPY --from=right /log /right
DOCKER
echo one >"$dir/left.txt"
echo two >"$dir/right.txt"

say "first build runs everything"
must_build "$dir" --output type=local,dest="$scratch/out1"
check_same "left" "$(cat "$scratch/out1/left")" $'ran-left\none'
check_same "right" "$(cat "$scratch/out1/right")" $'ran-right\ntwo'

say "second build runs nothing"
must_build "$dir" --output type=local,dest="$scratch/out2"
check_same "cached steps" "$(grep -c CACHED <<<"$out")" "6"
check_absent "nothing has a reason to run" "$out" "rebuilt:"

say "a changed file re-runs its own side only"
echo three >"$dir/right.txt"
must_build "$dir" --output type=local,dest="$scratch/out3"
check_same "left is as before" "$(cat "$scratch/out3/left")" $'ran-left\none'
check_same "right is new" "$(cat "$scratch/out3/right")" $'ran-right\nthree'
step_of() { sed -n "s/^\(#[0-9]*\) .*$1.*/\1/p" <<<"$out" | head -n 1; }
left=$(step_of 'RUN echo ran-left')
right=$(step_of 'RUN echo ran-right')
check_contains "the left RUN is cached" "$out" "$left CACHED"
check_absent "the right RUN is not" "$out" "$right CACHED"
check_contains "and says why" "$out" "rebuilt:"

say "the cache survives a restart"
stop_kilnd
start_kilnd
must_build "$dir"
check_same "cached steps after restart" "$(grep -c CACHED <<<"$out")" "6"

say "two concurrent identical builds run each step once"
mkdir "$scratch/twice"
cat >"$scratch/twice/Dockerfile" <<'DOCKER'
FROM busybox
RUN --mount=type=cache,target=/shared echo x >> /shared/runs; sleep 1; cp /shared/runs /runs
DOCKER
for i in 1 2 3; do
  kilnctl build --progress=plain --frontend dockerfile.v0 --local context="$scratch/twice" \
    --local dockerfile="$scratch/twice" --output type=local,dest="$scratch/both$i" >"$scratch/both$i.log" 2>&1 &
  eval "b$i=\$!"
done
wait "$b1" && wait "$b2" && wait "$b3" || fail "a concurrent build failed: $(cat "$scratch"/both?.log)"
check_same "runs of the shared step" "$(cat "$scratch/both1/runs")" x
cmp -s "$scratch/both1/runs" "$scratch/both2/runs" || fail "the concurrent builds differ"

say "what an inline cache brings back makes the same image again, to the byte"
cat >"$scratch/twice/Dockerfile" <<'DOCKER'
FROM busybox AS made
RUN cat /proc/sys/kernel/random/uuid > /unique
FROM scratch
COPY --from=made /unique /
DOCKER
inline() {  # inline TAG [FLAGS…]: builds, pushes, forgets everything; the image's digest in $digest
  local tag=$1; shift
  must_build "$scratch/twice" --export-cache type=inline \
    --output type=image,name="$registry/inline:$tag",push=true,registry.insecure=true "$@"
  digest=$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$registry/inline:$tag")
  kilnctl prune --all >/dev/null
}
inline first
first=$digest
inline second --import-cache "type=registry,registry.insecure=true,ref=$registry/inline:first"
check_same "digest" "$digest" "$first"
