#!/usr/bin/env bash
# The README's first command, its second half: kilnctl with no daemon brings its own, and a second build
# finds everything cached.
. "$(dirname "$0")/lib.sh"
dir=$scratch/app
mkdir "$dir"
cp "$(busybox_tar)" "$dir/root.tar"
cat >"$dir/Dockerfile" <<'DOCKER'
FROM scratch
ADD root.tar /
RUN echo made > /made
CMD ["cat", "/made"]
DOCKER
export KILN_ROOT=$state
for run in first second; do
  "$kilnctl" build --progress=plain "$dir" -o type=oci,tar=false,dest="$scratch/image" >"$scratch/o" 2>&1 ||
    fail "the $run build failed: $(cat "$scratch/o")"
done
check_same "cached steps of the second build" "$(grep -c CACHED "$scratch/o")" 2
check "no daemon is left" eval "! pgrep -f 'kilnd.*$state' >/dev/null"
umoci unpack --image "$scratch/image:latest" "$scratch/bundle" >/dev/null 2>&1
check_same "the image runs" "$("$source_dir/examples/run-bundle" "$scratch/bundle")" made
