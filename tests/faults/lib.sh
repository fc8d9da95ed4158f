# A cluster of real kilnd processes, each in a network namespace of its own on one bridge, as machines are. Sourced after
# interop/lib.sh, which gives the registry, base images and checks. Everything is on addresses of these namespaces only.
. "$(dirname "${BASH_SOURCE[0]}")/../interop/lib.sh"

nodes=()
declare -A node_pid node_ip
tag=k$$
hub=$tag-hub

# The namespace where the bridge, the registry and the clients are.
make_network() {
  ip netns add "$hub"
  ip -n "$hub" link set lo up
  ip -n "$hub" link add br0 type bridge
  ip -n "$hub" addr add 10.231.0.254/24 dev br0
  ip -n "$hub" link set br0 up
}

# Not `ip netns exec`, which hides /sys/fs/cgroup.
in_hub() { nsenter --net="/run/netns/$hub" "$@"; }
in_node() { local n=$1; shift; nsenter --net="/run/netns/$tag-$n" "$@"; }

add_machine() {  # add_machine NAME NUMBER
  local ns=$tag-$1
  node_ip[$1]=10.231.0.$2
  ip netns add "$ns"
  ip -n "$ns" link set lo up
  ip -n "$hub" link add "v$2" type veth peer name eth0 netns "$ns"
  ip -n "$hub" link set "v$2" master br0 up
  ip -n "$ns" addr add "10.231.0.$2/24" dev eth0
  ip -n "$ns" link set eth0 up
  ip -n "$ns" route add default via 10.231.0.254
  nodes+=("$1")
}

cut_off() { ip -n "$hub" link set "v${node_ip[$1]##*.}" down; }
join_again() { ip -n "$hub" link set "v${node_ip[$1]##*.}" up; }
# Stops and goes on, each time for less than it takes to be dead (kernels here have no netem to delay packets with).
stutter() {
  local i
  for i in 1 2 3 4; do
    kill -STOP "${node_pid[$1]}" 2>/dev/null || return 0
    read -rt 0.7 <> <(:) || true
    kill -CONT "${node_pid[$1]}" 2>/dev/null || return 0
    read -rt 0.1 <> <(:) || true
  done
}

# start_node NAME [TOML of its cluster section…]: its state directory and socket are $scratch/NAME.
start_node() {
  local n=$1; shift
  local dir=$scratch/$n seeds='"10.231.0.1:7373"' line
  mkdir -p "$dir"
  {
    echo "[registry.\"$registry\"]"
    echo 'http = true'
    echo '[worker.oci]'
    echo 'networkMode = "host"'
    echo '[cluster]'
    echo "name = \"$n\""
    echo "listen = \"${node_ip[$n]}:7373\""
    echo "seeds = [$seeds]"
    echo "ca = \"$scratch/certs/ca.pem\""
    echo "cert = \"$scratch/certs/$n.pem\""
    echo "key = \"$scratch/certs/$n.key\""
    for line in "$@"; do echo "$line"; done
  } >"$dir/kilnd.toml"
  nsenter --net="/run/netns/$tag-$n" "$kilnd" --config "$dir/kilnd.toml" --root "$dir/state" --addr "unix://$dir/sock" \
    >>"$dir/log" 2>&1 &
  node_pid[$n]=$!
}

ctl() { local n=$1; shift; "$kilnctl" --addr "unix://$scratch/$n/sock" "$@"; }
# How many nodes NAME sees up, itself not counted.
peers_of() { ctl "$1" cluster 2>/dev/null | awk '$2 == "up"' | wc -l; }
sees() { [ "$(peers_of "$1")" = "$2" ]; }
wait_mesh() { local n; for n in "${nodes[@]}"; do wait_for "${1:-20}" sees "$n" $((${#nodes[@]} - 1)) || fail "node $n sees $(peers_of "$n") others: $(ctl "$n" cluster)"; done; }

stop_node() { kill -CONT "${node_pid[$1]}" 2>/dev/null; stop_pid "${node_pid[$1]}" "${2:-30}" || fail "node $1 did not stop in time"; wait "${node_pid[$1]}" 2>/dev/null || true; unset "node_pid[$1]"; }
kill_node() { kill -KILL "${node_pid[$1]}"; wait "${node_pid[$1]}" 2>/dev/null || true; unset "node_pid[$1]"; }

faults_exit() {
  local status=$? n pid
  for n in "${!node_pid[@]}"; do kill -CONT "${node_pid[$n]}" 2>/dev/null || true; kill -TERM "${node_pid[$n]}" 2>/dev/null || true; done
  for n in "${!node_pid[@]}"; do
    stop_pid "${node_pid[$n]}" 20 || { echo "FAILED: node $n did not stop in time"; [ $status -ne 0 ] || status=1; }
  done
  if [ $status -ne 0 ]; then
    for n in "${nodes[@]}"; do echo "--- end of $n.log"; grep -v 'No match found' "$scratch/$n/log" | tail -n 25; done >&2
  fi
  for n in "${nodes[@]}"; do
    for pid in $(ip netns pids "$tag-$n" 2>/dev/null); do
      [ $status -ne 0 ] || { echo "FAILED: process $pid is left on node $n: $(tr '\0' ' ' </proc/$pid/cmdline)"; status=1; }
      kill -KILL "$pid"
    done
    ip netns del "$tag-$n" 2>/dev/null || true
  done
  for pid in "${pids[@]}"; do stop_pid "$pid" 10 || true; done
  pids=()
  ip netns del "$hub" 2>/dev/null || true
  (exit $status)
  on_exit
}
trap faults_exit EXIT

# Three nodes, a registry that all of them reach, and the base image of the builds.
start_cluster() {  # start_cluster NAME… 
  local i=0 n certs=()
  make_network
  for n in "$@"; do i=$((i + 1)); add_machine "$n" "$i"; certs+=("$n=${node_ip[$n]}"); done
  start_hub_registry
  check "make certificates" "$kilnctl" cluster certs "$scratch/certs" "${certs[@]}" >/dev/null
  for n in "$@"; do start_node "$n"; done
  wait_mesh
}

start_hub_registry() {
  registry=10.231.0.254:5000
  cat >"$scratch/registry.yml" <<YAML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $scratch/registry}, delete: {enabled: true}}
http: {addr: "$registry"}
YAML
  # Not by in_hub: the pid of a function in the background is its shell's.
  nsenter --net="/run/netns/$hub" docker-registry serve "$scratch/registry.yml" >"$scratch/registry.log" 2>&1 &
  pids+=($!)
  wait_for 10 in_hub curl -fsS "http://$registry/v2/" -o /dev/null || fail "the registry does not answer"
}

push_from_hub() {  # push_from_hub TAR NAME
  local layout=$scratch/layout.$RANDOM
  umoci init --layout "$layout" >/dev/null
  umoci new --image "$layout:latest" >/dev/null
  umoci raw add-layer --image "$layout:latest" "$1" >/dev/null
  umoci config --image "$layout:latest" --config.cmd /bin/sh \
    --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin >/dev/null
  in_hub skopeo copy -q --dest-tls-verify=false "oci:$layout:latest" "docker://$registry/$2"
  rm -rf "$layout"
}

# A Dockerfile with N independent CPU-bound stages, joined in one image; TURN makes its steps new.
stages_dockerfile() {  # stages_dockerfile N LOOPS TURN
  local i
  for ((i = 1; i <= $1; i++)); do
    cat <<DOCKERFILE
FROM $registry/busybox AS s$i
RUN i=0; while [ \$i -lt $2 ]; do i=\$((i+1)); done; echo "stage $i of turn $3" > /out$i
DOCKERFILE
  done
  echo "FROM $registry/busybox"
  for ((i = 1; i <= $1; i++)); do echo "COPY --from=s$i /out$i /out$i"; done
}

# build NODE DIR: an OCI image of the Dockerfile there; prints its digest. --progress plain output is left in DIR/log.
build_at() {
  local n=$1 dir=$2; shift 2
  ctl "$n" build "$dir" --progress plain -o type=oci,rewrite-timestamp=true,dest="$dir/image.tar" \
    --opt build-arg:SOURCE_DATE_EPOCH=1700000000 --metadata-file "$dir/metadata.json" "$@" >"$dir/log" 2>&1 || return 1
  jq -r '."containerimage.digest"' "$dir/metadata.json"
}
