#!/usr/bin/env bash
# Sources: policies see them whatever way they are written, git reads nothing of this machine, strangers get no
# credentials, and what comes from outside does not speak to the terminal.
. "$(dirname "$0")/lib.sh"
llb() { "$source_dir/tests/interop/llb.py" "$@"; }
start_registry
push_image "$(busybox_tar)" library/busybox:latest
kilnd_config="[registry.\"docker.io\"]
mirrors = [\"$registry\"]"
# The daemon's ssh: it only tells which keys the agent has that it is given.
mkdir "$scratch/bin"
printf '#!/bin/sh\nssh-add -L >>"%s" 2>&1\nexit 255\n' "$scratch/agent-keys" >"$scratch/bin/ssh"
chmod 755 "$scratch/bin/ssh"
PATH=$scratch/bin:$PATH start_kilnd

# solve WHAT ARGUMENT…: of llb.py; output in $out and $status. Flags of the build in the array $flags.
flags=()
solve() {
  set +e
  out=$(llb "$@" | kilnctl build --progress=plain "${flags[@]}" 2>&1)
  status=$?
  set -e
}
policy() {  # policy ACTION IDENTIFIER [UPDATES]
  printf '{"rules":[{"action":"%s","selector":{"identifier":"%s"}%s}]}' "$1" "$2" "${3:+,\"updates\":$3}" >"$scratch/policy.json"
  flags=(--source-policy-file "$scratch/policy.json")
}

say "an image is denied however it is written"
for name in busybox:latest docker.io/busybox:latest docker.io/library/busybox:latest index.docker.io/library/busybox:latest \
  index.docker.io/busybox:latest Docker.io/library/busybox:latest docker.io:443/library/busybox:latest; do
  flags=()
  case $name in Docker*|*:443*) ;; *) solve source "docker-image://$name"; [ $status -eq 0 ] || fail "$name is not built: $out" ;; esac
  policy DENY 'docker-image://docker.io/library/busybox*'
  solve source "docker-image://$name"
  [ $status -ne 0 ] || fail "$name was built in spite of the policy"
  check_contains "$name" "$out" "denied by policy: source denied by policy: rule 1 (DENY docker-image://docker.io/library/busybox*)"
done

say "also from a Dockerfile, a named context and as a frontend"
mkdir "$scratch/app"
echo 'FROM index.docker.io/busybox' >"$scratch/app/Dockerfile"
must_fail "$scratch/app" "${flags[@]}"
check_contains "FROM" "$out" "denied by policy"
printf 'FROM base\n' >"$scratch/app/Dockerfile"
must_fail "$scratch/app" "${flags[@]}" --opt context:base=docker-image://index.docker.io/library/busybox:latest
check_contains "named context" "$out" "denied by policy"
printf '# syntax=index.docker.io/library/busybox:latest\nFROM scratch\n' >"$scratch/app/Dockerfile"
must_fail "$scratch/app" "${flags[@]}"
check_contains "frontend image" "$out" "denied by policy"

say "what a rule made of an image fails with that rule, however it was asked for"
policy CONVERT 'docker-image://docker.io/library/busybox*' "{\"identifier\":\"docker-image://$registry/nobody-has-it:1\"}"
by="source policy: rule 1 (CONVERT docker-image://docker.io/library/busybox*) makes \"docker-image://$registry/nobody-has-it:1\" of \"docker-image://docker.io/library/busybox:latest\""
solve source docker-image://busybox:latest
[ $status -ne 0 ] || fail "built on what is not there"
check_contains "raw LLB" "$out" "$by"
solve exec docker-image://busybox:latest mounttype=0
check_contains "a step on it" "$out" "$by"
echo 'FROM busybox' >"$scratch/app/Dockerfile"
must_fail "$scratch/app" "${flags[@]}"
check_contains "FROM" "$out" "$by"
printf 'FROM scratch\nCOPY --from=busybox /bin/true /\n' >"$scratch/app/Dockerfile"
must_fail "$scratch/app" "${flags[@]}"
check_contains "COPY --from" "$out" "$by"
printf '# syntax=busybox\nFROM scratch\n' >"$scratch/app/Dockerfile"
must_fail "$scratch/app" "${flags[@]}"
check_contains "frontend image" "$out" "$by"

say "a file is denied however its URL is written"
mkdir -p "$scratch/www/private"
echo secret >"$scratch/www/private/x"
port=$(free_port)
python3 -m http.server --bind 127.0.0.1 --directory "$scratch/www" "$port" >/dev/null 2>"$scratch/www.log" &
pids+=($!)
wait_for 10 curl -fsS "http://127.0.0.1:$port/" -o /dev/null || fail "no web server"
policy DENY "http://127.0.0.1:$port/private/*"
for url in private/x ./private/x a/../private/x %70rivate/x 'private/x#y'; do
  solve source "http://127.0.0.1:$port/$url"
  check_contains "$url" "$out" "denied by policy"
done
for url in "http://u:p@127.0.0.1:$port/private/x" "http://127.1:$port/private/x" "http://2130706433:$port/private/x"; do
  solve source "$url"
  check_contains "$url" "$out" "denied by policy"
done
flags=()
solve source "http://127.0.0.1:$port/private/x"
check_same "without a policy it is fetched" "$status" 0

say "a repository is denied by every protocol; its full URL is what counts"
policy DENY 'git://git.example/a/b.git*'
for remote in https://git.example/a/b.git http://git.example:80/a/b.git git@git.example:a/b.git \
  ssh://git@git.example/a//b.git git://git.example/a/b.git https://u:p@Git.Example:443/x/../a/b.git; do
  solve source "git://innocent.example/x" "git.fullurl=$remote"
  check_contains "$remote" "$out" "denied by policy"
  solve source "git://$remote"
  check_contains "as identifier: $remote" "$out" "denied by policy"
done

say "a converted repository is the one that is fetched"
git -c init.defaultBranch=main init -q "$scratch/tree"
(cd "$scratch/tree" && echo hello >file && git add file &&
  git -c user.name=a -c user.email=a@b commit -qm m && git clone -q --bare . "$scratch/www/b.git" &&
  git -C "$scratch/www/b.git" update-server-info)
policy CONVERT "git://127.0.0.1:$port/a.git*" "{\"identifier\":\"git://http://127.0.0.1:$port/b.git#main\"}"
flags+=(--output "type=local,dest=$scratch/converted")
solve source "git://127.0.0.1:$port/a.git#main" "git.fullurl=http://127.0.0.1:$port/a.git"
check_same "it is built" "$status" 0
check_same "from the other repository" "$(cat "$scratch/converted/file")" hello

say "git reads no repository of this machine"
flags=(--output "type=local,dest=$scratch/leak")
for url in "file://$scratch/www/b.git" "FILE://$scratch/www/b.git" "ext::sh -c 'touch $scratch/pwned'"; do
  solve source "git://x#main" "git.fullurl=$url"
  [ $status -ne 0 ] || fail "$url was fetched"
done
check "nothing was written" test ! -e "$scratch/leak/file" -a ! -e "$scratch/pwned"

say "a repository goes through a build as a bundle, and comes from one where there is no server"
at=$(git -C "$scratch/tree" rev-parse main)
flags=(--output "type=local,dest=$scratch/bundled")
solve source "git://127.0.0.1:$port/b.git#main" "git.fullurl=http://127.0.0.1:$port/b.git" git.checkoutbundle=true
check_same "a bundle is built" "$status" 0
check_contains "what git said is in the log" "$out" "refs/heads/main"
check_same "it has the commit by its name" "$(git ls-remote "$scratch/bundled/bundle")" "$at	refs/heads/main"
sum=$(sha256sum <"$scratch/bundled/bundle" | cut -d' ' -f1)
mkdir -p "$scratch/layout/blobs/sha256"
cp "$scratch/bundled/bundle" "$scratch/layout/blobs/sha256/$sum"
echo '{"imageLayoutVersion":"1.0.0"}' >"$scratch/layout/oci-layout"
echo '{"schemaVersion":2,"manifests":[]}' >"$scratch/layout/index.json"
for ref in main "$at" ''; do
  flags=(--oci-layout "there=$scratch/layout" --output "type=local,dest=$scratch/unbundled-$ref")
  solve source "git://nowhere.invalid/b.git#$ref" git.fullurl=http://nowhere.invalid/b.git "git.checksum=$at" \
    "git.bundle=oci-layout+blob://a/b@sha256:$sum" oci.store=there
  check_same "it is read for ref '$ref'" "$status" 0
  check_same "and has its file" "$(cat "$scratch/unbundled-$ref/file")" hello
done
policy DENY 'oci-layout+blob://a/b@*'
flags+=(--oci-layout "there=$scratch/layout")
solve source "git://nowhere.invalid/b.git#main" git.fullurl=http://nowhere.invalid/b.git "git.checksum=$at" \
  "git.bundle=oci-layout+blob://a/b@sha256:$sum" oci.store=there
check_contains "a policy may deny the bundle" "$out" "denied by policy"

say "git's ssh gets the client's agent, if the client gives it"
ssh-keygen -q -t ed25519 -N '' -C kiln-agent-test -f "$scratch/key"
eval "$(ssh-agent -s -a "$scratch/agent")" >/dev/null
pids+=("$SSH_AGENT_PID")
ssh-add -q "$scratch/key"
flags=(--ssh default)
solve source "git://git.invalid/a.git" git.fullurl=ssh://git@git.invalid/a.git git.mountsshsock=default
check_contains "the key is there" "$(cat "$scratch/agent-keys")" kiln-agent-test
flags=()
solve source "git://git.invalid/b.git" git.fullurl=ssh://git@git.invalid/b.git git.mountsshsock=default
check_contains "without an agent the build says so" "$out" 'no SSH key "default" forwarded from the client'
check_same "and ssh is not asked" "$(wc -l <"$scratch/agent-keys")" 1

say "the host of a foreign layer is not given credentials, and nobody is asked for them"
cat >"$scratch/servers.py" <<'PY'
"""A registry that has one image, whose only layer is at a stranger's; and the stranger, who wants credentials."""
import hashlib, http.server, json, sys, threading
registry_port, stranger_port = int(sys.argv[1]), int(sys.argv[2])
oci = "application/vnd.oci.image."
def digest(b): return "sha256:" + hashlib.sha256(b).hexdigest()
layer = b"x"
config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [digest(layer)]}}).encode()
manifest = json.dumps({
    "schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
    "config": {"mediaType": oci + "config.v1+json", "digest": digest(config), "size": len(config)},
    "layers": [{"mediaType": oci + "layer.nondistributable.v1.tar+gzip", "digest": digest(layer), "size": 1,
                "urls": [f"http://127.0.0.1:{stranger_port}/layer"]}]}).encode()
content = {"/v2/foreign/manifests/latest": manifest, "/v2/foreign/manifests/" + digest(manifest): manifest,
           "/v2/foreign/blobs/" + digest(config): config}
class Registry(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = content.get(self.path, b"")
        self.send_response(200 if body else 404)
        if body == manifest: self.send_header("Content-Type", oci + "manifest.v1+json")
        self.send_header("Docker-Content-Digest", digest(body))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET": self.wfile.write(body)
    do_HEAD = do_GET
    def log_message(self, *_): pass
class Stranger(Registry):
    def do_GET(self):
        print("GET", self.path, self.headers.get("Authorization"), flush=True)
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="give"')
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_HEAD = do_GET
threading.Thread(target=http.server.ThreadingHTTPServer(("127.0.0.1", stranger_port), Stranger).serve_forever, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", registry_port), Registry).serve_forever()
PY
fake=$(free_port) stranger=$(free_port)
python3 "$scratch/servers.py" "$fake" "$stranger" >"$scratch/stranger.log" &
pids+=($!)
wait_for 10 curl -fsS "http://127.0.0.1:$fake/v2/foreign/manifests/latest" -o /dev/null || fail "no registry"
echo "{\"auths\":{\"127.0.0.1:$stranger\":{\"auth\":\"$(printf 'me:secret' | base64)\"}}}" >"$DOCKER_CONFIG/config.json"
flags=(--output "type=local,dest=$scratch/foreign")
solve source "docker-image://127.0.0.1:$fake/foreign:latest"
[ $status -ne 0 ] || fail "an image was built that is not to be had"
check_contains "the stranger was asked" "$(cat "$scratch/stranger.log")" "GET /layer"
check_absent "without credentials" "$(cat "$scratch/stranger.log")" "Basic"
check_absent "and the client not for any" "$out" "sharing credentials for 127.0.0.1:$stranger"

say "numbers that mean nothing are refused, by their names"
flags=()
for field in network=3:exec.network security=2:exec.security mounttype=9:exec.mounts[1].mountType \
  contentcache=5:exec.mounts[0].contentCache sharing=7:exec.mounts[1].cacheOpt.sharing; do
  solve exec docker-image://busybox:latest "${field%%:*}"
  [ $status -ne 0 ] || fail "$field was taken for the default"
  check_contains "$field" "$out" "${field#*:}: "
  check_contains "$field" "$out" "unknown"
done
solve exec docker-image://busybox:latest network=2
check_same "those that mean something are taken" "$status" 0

say "names of steps say nothing to the terminal and forge no lines"
NAME=$'x\n#99 DONE 0.0s\x1b[2J\x1b]0;t\a' solve exec docker-image://busybox:latest network=2
check_absent "no forged line" "$out" $'\n#99 DONE'
check_absent "no escape" "$out" $'\x1b'
check_contains "but the text" "$out" 'x\n#99 DONE 0.0s\x1b[2J'

check "the daemon is the one that was started" kill -0 "$kilnd_pid"
