#!/usr/bin/env bash
# What the daemon's settings do to a real daemon where no unit test can see it: files, logs, exit codes, the
# environment. docs/compatibility.md and tests/settings name this script for them.
. "$(dirname "$0")/lib.sh"
dir=$scratch/app
mkdir "$dir"
cp "$(busybox_tar)" "$dir/root.tar"
printf 'FROM scratch\nADD root.tar /\nRUN echo a word from the step\n' >"$dir/Dockerfile"

say "versions in BuildKit's words"
for program in kilnd kilnctl; do
  set -- $("$build_dir/$program" --version)
  check_same "fields of $program --version" "$#" 4
  check_same "its name" "$1" "$program"
  check_same "its package" "$2" github.com/moby/buildkit
  check_contains "its version" "$3" v0.
  check_contains "its revision" "$4" kiln-
done

say "what is refused is named"
refused() {  # refused FLAG WORDS
  status=0
  out=$("$kilnd" --config /nonexistent --root "$state" --addr "unix://$socket" "$1" 2>&1) || status=$?
  check_same "exit code for $1" "$status" 1
  check_contains "words for $1" "$out" "$2"
}
refused --profile-cpu=/tmp/x "--profile-cpu: "
refused --profile-trace=/tmp/x "--profile-trace: "
refused --oci-worker=false "--oci-worker) is false"
refused --oci-worker-snapshotter=stargz '"stargz"'
refused --oci-worker-proxy-snapshotter-path=/run/x.sock "--oci-worker-proxy-snapshotter-path: "

say "what is outdated, or asks for nothing here, is a warning"
export BUILDKIT_SCHEDULER_DEBUG=1 BUILDKIT_DEBUG_EXEC_OUTPUT=1
kilnd_config='debug = true
[worker.oci]
gckeepstorage = "1GB"'
start_kilnd
unset BUILDKIT_SCHEDULER_DEBUG BUILDKIT_DEBUG_EXEC_OUTPUT
check_contains "the log" "$(cat "$scratch/kilnd.log")" 'deprecated: debug (line'
check_contains "the log" "$(cat "$scratch/kilnd.log")" 'without effect: BUILDKIT_SCHEDULER_DEBUG: '
must_build "$dir"
check_contains "the step's output in the daemon's" "$(cat "$scratch/kilnd.log")" "a word from the step"

say "one daemon a state directory, and its database for who looks into it afterwards"
check "the lock is there" test -e "$state/buildkitd.lock"
status=0
out=$("$kilnd" --config /nonexistent --root "$state" --addr "unix://$scratch/other.sock" 2>&1) || status=$?
check_same "exit code of a second daemon" "$status" 1
check_contains "its words" "$out" "buildkitd.lock, another instance is running"
check "the first one's socket is there" kilnctl debug info
status=0
out=$("$kilnctl" debug dump-metadata --root "$state" 2>&1) || status=$?
check_contains "dump-metadata while it runs" "$out" "a daemon is running on it"
stop_pid "$kilnd_pid" || fail "the daemon does not stop"
check "the lock is gone" test ! -e "$state/buildkitd.lock"
out=$("$kilnctl" debug dump-metadata --root "$state")
check_contains "dump-metadata" "$out" "metadata.mdb"
check_contains "its tables" "$out" 'bucket "records"'
check_contains "its values" "$out" "echo a word from the step"

say "what workers tell of themselves"
kilnctl cluster certs "$scratch/certs" server client >/dev/null
port=$(free_port)
mkdir "$scratch/provenance.d" "$scratch/tlsdir"
echo '{"runner": "of the lab"}' >"$scratch/provenance.d/runner.json"
kilnd_config="provenanceEnvDir = \"$scratch/provenance.d\"
insecure-entitlements = [\"network.host\"]
[log]
format = \"json\"
level = \"debug\"
[grpc]
address = [\"unix://$socket\", \"tcp://127.0.0.1:$port\"]
uid = 65534
gid = 65533
[grpc.tls]
cert = \"$scratch/certs/server.pem\"
key = \"$scratch/certs/server.key\"
ca = \"$scratch/certs/ca.pem\"
[worker.oci]
platforms = [\"linux/amd64\", \"linux/s390x\"]
max-parallelism = 1
labels = { \"lab.place\" = \"here\" }
networkMode = \"host\"
snapshotter = \"native\"
binary = \"$(command -v runc || command -v crun)\"
[[worker.oci.gcpolicy]]
all = true
filters = [\"type==exec.cachemount\"]
keepDuration = \"1h\"
reservedSpace = \"1GB\"
maxUsedSpace = \"2GB\"
minFreeSpace = \"3GB\"
[dns]
nameservers = [\"192.0.2.53\"]
options = [\"ndots:7\"]
searchDomains = [\"lab.example\"]
[history]
maxEntries = 1
maxAge = 1
[frontend.\"gateway.v0\"]
allowedRepositories = [\"registry.example/allowed\"]
[system]
maxRegistryConcurrency = 1"
rm -rf "$state"
: >"$scratch/kilnd.log"
printf '%s\n' "$kilnd_config" >"$scratch/kilnd.toml"
"$kilnd" --config "$scratch/kilnd.toml" --root "$state" >>"$scratch/kilnd.log" 2>&1 &
kilnd_pid=$!
pids+=("$kilnd_pid")
wait_for 10 kilnctl debug info >/dev/null || fail "kilnd does not answer"
workers=$(kilnctl debug workers -v --format '{{json .}}')
check_contains "labels" "$workers" '"lab.place":"here"'
check_contains "platforms" "$workers" s390x
check_contains "networkMode" "$workers" '"org.mobyproject.buildkit.worker.network":"host"'
check_contains "snapshotter" "$workers" '"org.mobyproject.buildkit.worker.snapshotter":"native"'
for part in exec.cachemount 3600000000000 1073741824 2147483648 3221225472; do
  check_contains "gcpolicy: keepDuration, reservedSpace, maxUsedSpace, minFreeSpace, filters" "$workers" "$part"
done
check_same "owner of the socket (uid, gid)" "$(stat -c %u:%g "$socket")" 65534:65533
check "log.format" jq -e . <(head -n 1 "$scratch/kilnd.log")

say "TLS asks both sides who they are"
tls=(--addr "tcp://127.0.0.1:$port" --tlsservername server --tlscacert "$scratch/certs/ca.pem")
check "a client of the CA" "$kilnctl" "${tls[@]}" --tlscert "$scratch/certs/client.pem" --tlskey "$scratch/certs/client.key" debug info
check "nobody else" eval "! '$kilnctl' --timeout 2 ${tls[*]} debug info >/dev/null 2>&1"

say "what steps see"
printf 'FROM scratch\nADD root.tar /\nRUN cat /etc/resolv.conf >/seen\nFROM scratch\nCOPY --from=0 /seen /\n' >"$dir/Dockerfile"
must_build "$dir" --output type=local,dest="$scratch/seen" --opt attest:provenance=mode=max
check "log.level debug tells more" grep -q '"level":"debug"' "$scratch/kilnd.log"
for word in "nameserver 192.0.2.53" "options ndots:7" "search lab.example"; do
  check_contains "dns: nameservers, options, searchDomains" "$(cat "$scratch/seen/seen")" "$word"
done
check_contains "provenanceEnvDir" "$(cat "$scratch/seen/provenance.json")" '"runner": "of the lab"'

say "who may do what"
printf 'FROM scratch\nADD root.tar /\nRUN --security=insecure true\n' >"$dir/Dockerfile"
must_fail "$dir" --allow security.insecure
check_contains "insecure-entitlements" "$out" "granting entitlement security.insecure is not allowed"
printf 'FROM scratch\nADD root.tar /\nRUN --network=host true\n' >"$dir/Dockerfile"
must_build "$dir" --allow network.host
status=0
out=$(kilnctl build --frontend gateway.v0 --opt source=registry.example/other:1 2>&1) || status=$?
check_contains "allowedRepositories" "$out" "is not an allowed gateway source"

say "the history forgets what is both too old and too many"
for round in 1 2 3; do
  printf 'FROM scratch\nADD root.tar /\nRUN echo %s\n' "$round" >"$dir/Dockerfile"
  must_build "$dir"
done
wait_for 20 eval '[ "$(kilnctl debug histories | grep -c Dockerfile\|dockerfile)" -le 1 ]' ||
  fail "maxAge, maxEntries: $(kilnctl debug histories)"
checks=$((checks + 1))
stop_kilnd

say "steps take turns where there is one place only"
kilnd_config='[worker.oci]
max-parallelism = 1
gc = false
defaultCgroupParent = "kiln-settings"
[cdi]
disabled = true
[frontend."gateway.v0"]
enabled = false
[frontend."dockerfile.v0"]
enabled = true'
groups_made+=(kiln-settings)
rm -rf "$state"  # of another snapshotter
start_kilnd
printf 'FROM scratch AS base\nADD root.tar /\nFROM base AS a\nRUN cut -d\  -f1 /proc/uptime >/begin; sleep 1; cut -d\  -f1 /proc/uptime >/end
FROM base AS b\nRUN cut -d\  -f1 /proc/uptime >/begin; sleep 1; cut -d\  -f1 /proc/uptime >/end; grep -o kiln-settings /proc/self/cgroup | head -n 1 >/group
FROM scratch\nCOPY --from=a / /a\nCOPY --from=b / /b\n' >"$dir/Dockerfile"
must_build "$dir" --output type=local,dest="$scratch/turns"
check "max-parallelism: one ends before the other begins" python3 - "$scratch/turns" <<'PY'
import sys
at = lambda name: float(open(f"{sys.argv[1]}/{name}").read())
sys.exit(0 if at("a/end") <= at("b/begin") or at("b/end") <= at("a/begin") else 1)
PY
check_same "gc off: no policy" "$(kilnctl debug workers -v --format '{{json .}}' | jq '[.[]|.gcPolicy // []|length]|add')" 0
status=0
out=$(kilnctl build --frontend gateway.v0 --opt source=registry.example/other:1 2>&1) || status=$?
check_contains "a frontend that is not enabled" "$out" "gateway.v0"
stop_kilnd

say "a step's AppArmor profile"
kilnd_config='[worker.oci]
apparmor-profile = "kiln-lab"'
start_kilnd
printf 'FROM scratch AS all\nADD root.tar /\nRUN sleep 5\n' >"$dir/Dockerfile"
kilnctl_begin "$scratch/client.log" build --progress=plain --frontend dockerfile.v0 --local context="$dir" --local dockerfile="$dir"
config() { ls "$state"/executor/containers/*/config.json; }
wait_for 20 eval '[ -s "$(config)" ]' || fail "no step begins: $(cat "$scratch/client.log")"
check_contains "apparmor-profile" "$(cat "$(config)")" '"apparmorProfile":"kiln-lab"'
wait "$client" && fail "a step runs with a profile that nobody has loaded"
check "the step says so" grep -qi apparmor "$scratch/client.log"
stop_kilnd

say "devices"
mkdir "$scratch/specs"
printf 'cdiVersion: 0.6.0\nkind: lab.example/word\ndevices:\n- name: a\n  containerEdits: {env: [WORD=of-the-device]}\n' >"$scratch/specs/lab.yaml"
kilnd_config="[cdi]
specDirs = [\"$scratch/specs\"]
autoAllowed = [\"lab.example/word\"]"
start_kilnd
printf 'FROM scratch AS all\nADD root.tar /\nRUN --device=lab.example/word echo $WORD >/seen\nFROM scratch\nCOPY --from=all /seen /\n' >"$dir/Dockerfile"
must_build "$dir" --output type=local,dest="$scratch/seen"
check_same "specDirs, autoAllowed" "$(cat "$scratch/seen/seen")" of-the-device
stop_kilnd

say "what needs a user namespace says so elsewhere"
for flag in --rootless --oci-worker-rootless; do
  out=$("$kilnd" --config /nonexistent --root "$state" --addr "unix://$socket" "$flag" 2>&1) && fail "$flag starts"
  check_contains "rootless: $flag" "$out" "this is no user namespace"
done
out=$("$kilnd" --config /nonexistent --root "$state" --addr "unix://$socket" --oci-worker-no-process-sandbox 2>&1) &&
  fail "noProcessSandbox starts"
check_contains "noProcessSandbox" "$out" "NoProcessSandbox without Rootless"
