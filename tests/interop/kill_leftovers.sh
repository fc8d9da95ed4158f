#!/usr/bin/env bash
# What kill -9 leaves in every place where something is made, and who takes it away (docs/operations.md, "After a
# kill"): half a download, a network, a repository's locks, documents of the history; and of a killed client: outputs,
# cache directories, the daemon it started.
. "$(dirname "$0")/lib.sh"
start_registry
push_image "$(busybox_tar)" library/busybox:latest
mkdir "$scratch/big.d"
head -c 24000000 /dev/urandom >"$scratch/big.d/big"
tar -C "$scratch/big.d" -cf "$scratch/big.tar" big
push_image "$scratch/big.tar" library/big:latest

# A slow way to the registry: large blobs come with 4 MB a second. Notes every range that is asked for.
slow_port=$(free_port)
cat >"$scratch/slow.py" <<'PY'
import http.client, http.server, sys, threading, time
upstream, port, ranges = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "a", buffering=1)
class proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        c = http.client.HTTPConnection(upstream)
        wanted = {k: v for k, v in self.headers.items() if k.lower() in ("range", "accept")}
        if "Range" in wanted: ranges.write(wanted["Range"] + "\n")
        c.request(self.command, self.path, headers=wanted)
        r = c.getresponse()
        self.send_response(r.status)
        for k, v in r.getheaders():
            if k.lower() not in ("connection", "transfer-encoding", "date", "server"): self.send_header(k, v)
        self.end_headers()
        try:
            while self.command == "GET" and (part := r.read(1 << 18)):
                self.wfile.write(part)
                time.sleep(1 / 16)
        except OSError: self.close_connection = True
    do_HEAD = do_GET
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), proxy).serve_forever()
PY
python3 "$scratch/slow.py" "$registry" "$slow_port" "$scratch/ranges" >"$scratch/slow.log" 2>&1 &
pids+=($!)
wait_for 10 curl -fsS "http://127.0.0.1:$slow_port/v2/" -o /dev/null || fail "the slow registry does not answer"

# A network plugin that only keeps note of what it was asked for.
mkdir "$scratch/plugins" "$scratch/networks"
cat >"$scratch/plugins/noter" <<PLUGIN
#!/bin/sh
case \$CNI_COMMAND in
  ADD) : >"$scratch/networks/\$CNI_CONTAINERID"; echo '{"cniVersion":"1.0.0","interfaces":[],"ips":[]}' ;;
  DEL) rm -f "$scratch/networks/\$CNI_CONTAINERID" ;;
esac
PLUGIN
chmod +x "$scratch/plugins/noter"
echo '{"cniVersion":"1.0.0","name":"noted","plugins":[{"type":"noter"}]}' >"$scratch/noted.conflist"

kilnd_config="[registry.\"docker.io\"]
mirrors = [\"localhost:$slow_port\"]
[worker.oci]
networkMode = \"cni\"
cniConfigPath = \"$scratch/noted.conflist\"
cniBinaryPath = \"$scratch/plugins\""
start_kilnd
dir=$scratch/app
mkdir "$dir"
kill_daemon() {
  kill -KILL "$kilnd_pid"
  wait "$kilnd_pid" 2>/dev/null || true
}
total() { kilnctl du | sed -n 's/^Total:[[:space:]]*//p'; }
start_build() {  # start_build [FLAGS…]: in the background; sets $client
  kilnctl_begin "$scratch/o" build --progress=plain --frontend dockerfile.v0 --local context="$dir" --local dockerfile="$dir" "$@"
}

say "half a download"
printf 'FROM big\nCOPY Dockerfile /\n' >"$dir/Dockerfile"
half_download() {
  start_build --output type=local,dest="$scratch/tree"
  wait_for 60 eval '[ "$(du -sb "$state/blobs/ingest" | cut -f1)" -gt 6000000 ]' || fail "the download does not begin: $(cat "$scratch/o")"
  kill_daemon
  wait "$client" 2>/dev/null || true
  check "half a download is left" [ "$(du -sb "$state/blobs/ingest" | cut -f1)" -gt 6000000 ]
  start_kilnd
}
half_download
check_contains "du tells of it" "$(kilnctl du -v)" "unfinished content sha256:"
check "du counts it ($(total))" [ "$(kilnctl du --format '{{json .}}' | jq '[.[].size // 0 | tonumber] | add')" -gt 6000000 ]
: >"$scratch/ranges"
must_build "$dir" --output type=local,dest="$scratch/tree"
check "the download went on where it was ($(cat "$scratch/ranges"))" grep -q 'bytes=[1-9]' "$scratch/ranges"
check "what came is whole" cmp "$scratch/big.d/big" "$scratch/tree/big"
kilnctl prune --all >/dev/null
half_download
out=$(kilnctl prune)
check_contains "prune tells of it" "$out" "Total:"
check_absent "prune frees it" "$out" "$(printf 'Total:\t0B')"
check_same "unfinished blobs after prune" "$(find "$state/blobs/ingest" -mindepth 1 | wc -l)" 0
check_same "what is in use after prune" "$(total)" "0B"
half_download
find "$state/blobs/ingest" -type f -exec touch -d '2 days ago' {} +
kill_daemon
start_kilnd
check_same "unfinished blobs after a day" "$(find "$state/blobs/ingest" -mindepth 1 | wc -l)" 0

say "a running step's network"
printf 'FROM busybox\nRUN echo held; sleep 60\n' >"$dir/Dockerfile"
start_build
wait_for 60 grep -q ' held$' "$scratch/o" || fail "the step does not start: $(cat "$scratch/o")"
check "its network is there" [ -n "$(ls "$scratch/networks")" ]
kill_daemon
wait "$client" 2>/dev/null || true
check "and is left" [ -n "$(ls "$scratch/networks")" ]
start_kilnd
check_same "networks" "$(ls "$scratch/networks")" ""
check_same "their notes" "$(find "$state/executor/net" -mindepth 1 | wc -l)" 0
check_same "processes" "$(pgrep -r D,R,S,T,t -fa "(crun|runc) .*$state" || true)" ""

say "a repository's locks"
repository=$scratch/git/repo
git init -q -b main "$repository"
commit() {
  echo "$1" >"$repository/file"
  git -C "$repository" add file
  git -C "$repository" -c user.name=t -c user.email=t@localhost commit -qm "$1"
}
commit one
git_port=$(free_port)
git daemon --base-path="$scratch/git" --export-all --listen=127.0.0.1 --port="$git_port" --reuseaddr >"$scratch/git.log" 2>&1 &
pids+=($!)
wait_for 10 git ls-remote "git://127.0.0.1:$git_port/repo" >/dev/null || fail "git daemon does not answer"
printf 'FROM scratch\nADD git://127.0.0.1:%s/repo#main /repo\n' "$git_port" >"$dir/Dockerfile"
must_build "$dir" --output type=local,dest="$scratch/tree"
check_same "the first commit" "$(cat "$scratch/tree/repo/file")" one
kill_daemon
shared=$(dirname "$(find "$state/snapshots" -maxdepth 3 -name HEAD)")
for lock in index.lock shallow.lock packed-refs.lock HEAD.lock; do : >"$shared/$lock"; done
mkdir -p "$shared/objects/pack"
head -c 1000000 /dev/urandom >"$shared/objects/pack/tmp_pack_killed"
start_kilnd
commit two
must_build "$dir" --no-cache --output type=local,dest="$scratch/tree"
check_same "the next commit" "$(cat "$scratch/tree/repo/file")" two
check_same "locks and halves" "$(find "$shared" -name '*.lock' -o -name 'tmp_*')" ""

say "documents of the history"
kill_daemon
orphan=$(head -c 1000 /dev/urandom | tee "$scratch/orphan" | sha256sum | cut -d' ' -f1)
cp "$scratch/orphan" "$state/blobs/sha256/$orphan"
echo '{"kiln.keep.history":"a build that was killed"}' >"$state/blobs/labels/sha256-$orphan"
kept=$(find "$state/blobs/labels" -type f | wc -l)
start_kilnd
check "a document without a build is swept" [ ! -e "$state/blobs/sha256/$orphan" ]
check_same "the others stay" "$(find "$state/blobs/labels" -type f | wc -l)" $((kept - 1))

say "a killed client's outputs"
rm -rf "$scratch/tree"
head -c 60000000 /dev/urandom >"$dir/big"
printf 'FROM scratch\nCOPY big /big\n' >"$dir/Dockerfile"
must_build "$dir"
mkdir "$scratch/out"
for round in $(seq 12); do
  rm -rf "$scratch/out" && mkdir "$scratch/out"
  case $((round % 3)) in
    0) output=(--output "type=tar,dest=$scratch/out/made.tar") ;;
    1) output=(--output "type=local,dest=$scratch/out/made") ;;
    2) output=(--export-cache "type=local,dest=$scratch/out/cache,mode=max") ;;
  esac
  start_build "${output[@]}"
  wait_for 20 grep -qE 'exporting|sending' "$scratch/o" || fail "no export: $(cat "$scratch/o")"
  read -rt "0.$((RANDOM % 400 + 100))" <> <(:) || true
  kill -KILL "$client" 2>/dev/null || true  # it may be done
  wait "$client" 2>/dev/null || true
  case $((round % 3)) in
    0) [ -e "$scratch/out/made.tar" ] && check "round $round: a tar that is there is whole" tar -tf "$scratch/out/made.tar" >/dev/null
       check_same "round $round: others" "$(find "$scratch/out" -mindepth 1 -not -name made.tar)" "" ;;
    1) [ -e "$scratch/out/made/big" ] && check "round $round: a file that is there is whole" cmp "$dir/big" "$scratch/out/made/big"
       check_same "round $round: others" "$(find "$scratch/out" -mindepth 1 -type f -not -name big)" "" ;;
    2) for blob in "$scratch/out/cache/blobs/sha256"/*; do
         [ -e "$blob" ] || continue
         check_same "round $round: a blob that is there is whole" "$(sha256sum <"$blob" | cut -d' ' -f1)" "$(basename "$blob")"
       done
       must_build "$dir" "${output[@]}"
       check_same "round $round: unfinished blobs of the cache" "$(find "$scratch/out/cache/ingest" -type f)" "" ;;
  esac
done
# What another client was killed over and nobody wrote again goes with a later export.
mkdir -p "$scratch/out/cache/ingest/0123"
echo half >"$scratch/out/cache/ingest/0123/data"
touch -d '2 hours ago' "$scratch/out/cache/ingest/0123/data" "$scratch/out/cache/ingest/0123"
must_build "$dir" --export-cache "type=local,dest=$scratch/out/cache,mode=max"
check_same "unfinished blobs of others" "$(find "$scratch/out/cache/ingest" -type f)" ""
rm "$dir/big"
stop_kilnd

say "a daemon of the client's own"
export KILN_ROOT=$scratch/own
unset BUILDKIT_HOST
own_daemon() { pgrep -f "kilnd --root $KILN_ROOT " | head -n 1; }
head -c 40000000 /dev/urandom >"$dir/big"
own=("$kilnctl" build --progress=plain --frontend dockerfile.v0 --local context="$dir" --local dockerfile="$dir")
"${own[@]}" >"$scratch/o" 2>&1 || fail "no build with a daemon of its own: $(cat "$scratch/o")"
check_same "it ends with its client" "$(own_daemon)" ""
for victim in client daemon; do
  : >"$scratch/o"  # of the build before
  "${own[@]}" --no-cache --output type=tar,dest="$scratch/own.tar" >"$scratch/o" 2>&1 &
  client=$!
  wait_for 20 grep -q 'load build definition' "$scratch/o" || fail "no build: $(cat "$scratch/o")"
  if [ $victim = client ]; then kill -KILL "$client"; else kill -KILL "$(own_daemon)"; fi
  wait "$client" 2>/dev/null || true
  wait_for 40 eval '[ -z "$(own_daemon)" ]' || fail "killed $victim: the daemon goes on"
  "${own[@]}" --output type=tar,dest="$scratch/own.tar" >"$scratch/o" 2>&1 || fail "killed $victim: no build after it: $(cat "$scratch/o")"
  check_same "killed $victim: the daemon has ended" "$(own_daemon)" ""
  check "killed $victim: the output" [ "$(tar -xOf "$scratch/own.tar" big | sha256sum)" = "$(sha256sum <"$dir/big")" ]
  check_same "killed $victim: temporary files" "$(find "$KILN_ROOT/transient" -mindepth 1 | wc -l)" 0
done
