#!/usr/bin/env bash
# Definitions as large and odd as a client can make them: each ends, well or with the bound that it breaks, while other
# clients are served; memory stays within reason; and the daemon stops when it is told to, whatever it is doing.
. "$(dirname "$0")/lib.sh"
llb=$source_dir/tests/interop/big_llb.py
kib_max=$((3 * 1024 * 1024))

# The longest that another client had to wait for its answer while `probe` ran, in milliseconds.
probe() {
  local slowest=0 before took
  while [ ! -e "$scratch/stop-probe" ]; do
    before=$(date +%s%3N)
    kilnctl debug info >/dev/null || { echo "no answer" >"$scratch/slowest"; return; }
    took=$(($(date +%s%3N) - before))
    [ $took -gt $slowest ] && slowest=$took
    read -rt 0.2 <> <(:) || true
  done
  echo $slowest >"$scratch/slowest"
}

# try KIND COUNT WANTED…: builds it; the result must be "done", or an error that contains WANTED.
try() {
  local kind=$1 count=$2 wanted=$3 out status=0 before=$SECONDS
  "$llb" "$kind" "$count" >"$scratch/definition"
  rm -f "$scratch/stop-probe"
  probe & local prober=$!
  out=$(timeout 600 "$kilnctl" --addr "unix://$socket" build --progress=plain <"$scratch/definition" 2>&1) || status=$?
  touch "$scratch/stop-probe"
  wait $prober
  [ $status -ne 124 ] || fail "$kind $count does not end"
  kill -0 "$kilnd_pid" || fail "$kind $count ended the daemon"
  if [ "$wanted" = done ]; then check_same "$kind $count ends well: ${out: -300}" $status 0
  else check_contains "$kind $count is refused" "$out" "$wanted"; fi
  local slowest; slowest=$(cat "$scratch/slowest")
  [ "$slowest" != "no answer" ] && [ "$slowest" -lt 15000 ] || fail "$kind $count: others waited $slowest ms"
  local kib; kib=$(awk '/VmHWM/ {print $2}' "/proc/$kilnd_pid/status")
  [ "$kib" -lt $kib_max ] || fail "$kind $count: $kib KiB of memory"
  say "$kind $count: $((SECONDS - before)) s, others waited at most $slowest ms, at most $kib KiB so far"
}

start_kilnd
try actions 20000 done
try actions 50001 "invalid file op with 50001 actions: at most 50000 are allowed"
try outputs 1000 done
try mounts 100000 "invalid exec op with 100001 mounts: at most 5000 are allowed"
try mounts 4999 "/d0"
try nested 28 "layers: at most 10000 are allowed"
try merges 500 done
try diffs 150 done
try diffs 1000 "within each other: at most 200 are allowed"
try differences 400 "within each other: at most 200 are allowed"
try passes 2000 done
try passes 100000 "ops: at most 100000 are allowed"
try inputs 2000 done
try inputs 10001 "invalid op with 10001 inputs: at most 10000 are allowed"
try fan 3000 done

# Honest large ones: a step with a thousand mounts, a stage of four hundred layers.
dir=$scratch/honest
mkdir "$dir"
cp "$(busybox_tar)" "$dir/root.tar"
{
  echo "FROM scratch AS base"
  echo "ADD root.tar /"
  echo "RUN mkdir -p /d && cd /d && i=0; while [ \$i -lt 1000 ]; do mkdir \$i; i=\$((i+1)); done"
  echo "FROM base"
  printf 'RUN'
  for i in $(seq 0 999); do printf ' --mount=type=bind,from=base,source=/d/%d,target=/m/%d' "$i" "$i"; done
  echo ' test "$(ls /m | wc -l)" = 1000'
  for i in $(seq 400); do echo "COPY --from=base /bin/busybox /copies/$i"; done
} >"$dir/Dockerfile"
before=$SECONDS
must_build "$dir"
say "1,000 mounts and 400 layers: $((SECONDS - before)) s"

# In the middle of something large: a cancel and a stop are obeyed at once.
"$llb" passes 20000 >"$scratch/definition"
"$kilnctl" --addr "unix://$socket" build --progress=plain <"$scratch/definition" >"$scratch/client.log" 2>&1 & client=$!
wait_for 240 grep -q "passthrough" "$scratch/client.log" || fail "the large build does not begin"
kill -TERM $client  # a shell lets jobs in the background ignore SIGINT
wait_for 30 eval "! kill -0 $client" || fail "a client in the middle of a large build does not stop"
wait $client || true
wait_for 30 grep -q "cancelled: context canceled" "$scratch/kilnd.log" || fail "the large build is not cancelled"
"$kilnctl" --addr "unix://$socket" build --progress=plain <"$scratch/definition" >"$scratch/client.log" 2>&1 & client=$!
wait_for 240 grep -q "passthrough" "$scratch/client.log" || fail "the large build does not begin"
kill -TERM "$kilnd_pid"
wait_for 10 grep -q "running build is done" "$scratch/kilnd.log" || fail "kilnd does not say what it waits for"
kill -TERM "$kilnd_pid"
wait_for 30 eval "! kill -0 $kilnd_pid" || fail "a daemon in the middle of a large build does not stop"
wait $client || true
checks=$((checks + 2))
