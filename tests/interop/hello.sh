#!/usr/bin/env bash
# The README's first command, its second half: kilnctl with no daemon brings its own, and a second build
# finds everything cached; what they left can be looked at and pruned.
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
check "the state can be looked at without a daemon" eval "[ \$('$kilnctl' du | wc -l) -gt 3 ]"
check "and so can its history" eval "[ \$('$kilnctl' debug histories | wc -l) = 3 ]"
"$kilnctl" prune --all >/dev/null || fail "prune without a daemon"
check_same "what a prune leaves" "$("$kilnctl" du | tail -n 1 | tr -s ' \t' ' ')" "Total: 0B"
check "where no build ever ran there is nothing to look at" eval "! KILN_ROOT=$scratch/never '$kilnctl' du 2>/dev/null && [ ! -e $scratch/never ]"
check "no daemon is left" eval "! pgrep -f 'kilnd.*$state' >/dev/null"
umoci unpack --image "$scratch/image:latest" "$scratch/bundle" >/dev/null 2>&1
check_same "the image runs" "$("$source_dir/examples/run-bundle" "$scratch/bundle")" made
