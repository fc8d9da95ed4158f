#!/usr/bin/env bash
# Builds whose steps reach the network only through the daemon's proxy: with real programs, a web server and one with
# TLS, and a real kernel that lets nothing else out.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "needs root"
start_registry

say "an image of busybox, curl and a bundle of certificates"
root=$scratch/root
mkdir -p "$root/usr/bin" "$root/etc/ssl/certs"
tar -xf "$(busybox_tar)" -C "$root"
cp "$(command -v curl)" "$root/usr/bin/curl"
ldd "$(command -v curl)" | grep -o '/[^ ]*' | sort -u | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done
echo '# theirs' >"$root/etc/ssl/certs/ca-certificates.crt"
tar --sort=name --mtime=@0 --numeric-owner -C "$root" -cf "$scratch/web.tar" .
push_image "$scratch/web.tar" test/web:latest

say "web servers on an address that NO_PROXY does not name"
web=127.0.0.2
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=web -addext "subjectAltName=IP:$web" \
  -keyout "$scratch/key.pem" -out "$scratch/web.pem" 2>/dev/null
cat >"$scratch/web.py" <<'PYTHON'
import http.server, os, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): os.write(2, f"{self.command} {self.path}\n".encode())  # whole lines, whichever thread
    def do_GET(self):
        if self.path == "/hang":
            self.send_response(200); self.send_header("Content-Length", "10"); self.end_headers()
            self.wfile.flush(); self.rfile.read(1); return
        if self.path == "/big":
            self.send_response(200); self.send_header("Content-Length", str(300 << 20)); self.end_headers()
            for _ in range(300): self.wfile.write(b"\0" * (1 << 20))
            return
        body = b"" if self.path == "/redirect" else self.path[1:].encode() + b"\n"
        self.send_response(302 if self.path == "/redirect" else 404 if self.path == "/missing" else 200)
        if self.path == "/redirect": self.send_header("Location", "/one")
        self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204); self.end_headers()
address, port, cert, key = sys.argv[1:]
server = http.server.ThreadingHTTPServer((address, int(port)), Handler)
if cert:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
PYTHON
port=$(free_port)
secure_port=$(free_port)
python3 "$scratch/web.py" $web "$port" "" "" 2>"$scratch/web.requests" &
pids+=($!)
python3 "$scratch/web.py" $web "$secure_port" "$scratch/web.pem" "$scratch/key.pem" 2>"$scratch/secure.requests" &
pids+=($!)
wait_for 10 curl -fsS "http://$web:$port/ready" -o /dev/null || fail "the web server does not answer"
wait_for 10 curl -fsSk "https://$web:$secure_port/ready" -o /dev/null || fail "the secure web server does not answer"
plain=http://$web:$port
secure=https://$web:$secure_port

export SSL_CERT_FILE=$scratch/web.pem  # whom the daemon's proxy trusts
start_kilnd
networks() { find /proc/"$kilnd_pid"/fd -lname 'net:*' 2>/dev/null | wc -l; }
proxies() { cat /proc/"$kilnd_pid"/task/*/comm 2>/dev/null | grep -c '^proxy' || true; }
material() {  # material FILE URL: its digest
  python3 -c '
import json, sys
p = json.load(open(sys.argv[1]))["predicate"]
print(" ".join(m.get("digest", {}).get("sha256", "") for m in p["buildDefinition"].get("resolvedDependencies", []) if m["uri"] == sys.argv[2]))' "$1" "$2"
}
dir=$scratch/dir
mkdir "$dir"
dockerfile() { { echo "FROM $registry/test/web"; cat; } >"$dir/Dockerfile"; }

say "what is fetched through the proxy is told, and is a material"
dockerfile <<DOCKERFILE
RUN curl -fsS $plain/one -o /one && curl -fsS $secure/two -o /two && curl -fsSL $plain/redirect -o /three
RUN ! env -u HTTP_PROXY -u http_proxy curl -fsS -m 5 $plain/direct
RUN grep "buildkit proxy CA begin" /etc/ssl/certs/ca-certificates.crt >/dev/null && env | grep "^HTTPS_PROXY=http://127.0.0.1:"
RUN --network=none ! env | grep -i "_proxy=" && ! grep "buildkit proxy CA" /etc/ssl/certs/ca-certificates.crt
DOCKERFILE
out_dir=$scratch/out
must_build "$dir" --proxy-network --opt attest:provenance=mode=max,version=v1 --output "type=local,dest=$out_dir"
check_contains "the log" "$out" "proxy network requests:"
check_contains "the log" "$out" "- GET $plain/one -> 200"
check_contains "the log" "$out" "- GET $secure/two -> 200"
check_contains "the log" "$out" "- GET $plain/redirect -> 302"
check_same "what was fetched" "$(cat "$out_dir/one" "$out_dir/two" "$out_dir/three")" "$(printf 'one\ntwo\none')"
check_same "the bundle afterwards" "$(cat "$out_dir/etc/ssl/certs/ca-certificates.crt")" "# theirs"
digest=$(printf 'one\n' | sha256sum | cut -d' ' -f1)
check_same "the material" "$(material "$out_dir/provenance.json" "$plain/one")" "$digest"
check_same "the material by another address" "$(material "$out_dir/provenance.json" "$plain/redirect")" "$digest"
check_same "the secure one" "$(material "$out_dir/provenance.json" "$secure/two")" "$(printf 'two\n' | sha256sum | cut -d' ' -f1)"
check_contains "the provenance" "$(cat "$out_dir/provenance.json")" '"mode": "proxy"'
check_absent "requests past the proxy" "$(cat "$scratch/web.requests")" "/direct"

say "from the cache it is a material all the same"
rm -rf "$out_dir"
must_build "$dir" --proxy-network --opt attest:provenance=mode=max,version=v1 --output "type=local,dest=$out_dir"
check_contains "the log" "$out" "CACHED"
check_same "the material" "$(material "$out_dir/provenance.json" "$plain/one")" "$digest"

say "no layer has the proxy's CA, nor the bundle it was in"
must_build "$dir" --proxy-network --output "type=oci,dest=$scratch/image.tar"
mkdir "$scratch/image"
tar -xf "$scratch/image.tar" -C "$scratch/image"
named=$(for blob in "$scratch"/image/blobs/sha256/*; do tar -tf "$blob" 2>/dev/null || true; done | grep -c ca-certificates.crt)
check_same "layers with a bundle" "$named" 1

say "without the proxy a step has the network itself"
dockerfile <<DOCKERFILE
RUN ! env | grep -i "_proxy=" && curl -fsS $plain/itself >/dev/null
DOCKERFILE
must_build "$dir"
check_absent "the log" "$out" "proxy network requests"

say "source policies judge each request, and say by which rule"
cat >"$scratch/policy.json" <<JSON
{"rules": [
  {"action": "DENY", "selector": {"identifier": "$secure/*"}},
  {"action": "CONVERT", "selector": {"identifier": "$plain/old"}, "updates": {"identifier": "$plain/new"}}]}
JSON
dockerfile <<DOCKERFILE
RUN curl -fsS $plain/old -o /new && ! curl -fsS $secure/denied && curl -sS $secure/denied
DOCKERFILE
must_build "$dir" --proxy-network --source-policy-file "$scratch/policy.json" --output "type=local,dest=$scratch/converted"
check_same "what was converted" "$(cat "$scratch/converted/new")" new
check_contains "what the step reads" "$out" "Forbidden: "
check_contains "the rule" "$out" "rule 1 (DENY $secure/*)"
check_contains "the log" "$out" "- GET $secure/denied -> 403: "
check_absent "requests" "$(cat "$scratch/secure.requests")" "/denied"

say "gaps are told, and complete materials are not had with them"
dockerfile <<DOCKERFILE
RUN curl -sS $plain/missing; curl -sS -d x $plain/posted; true
DOCKERFILE
must_fail "$dir" --proxy-network --opt attest:provenance=mode=max,version=v1,complete-materials=true --output "type=local,dest=$scratch/never"
check_contains "the error" "$out" "provenance materials are incomplete"
check_contains "the error" "$out" "url: $plain/missing"
check_contains "the error" "$out" "reason: unsuccessful_response"
check_contains "the error" "$out" "reason: method_not_materializable"

say "much and many: bodies are not kept, connections wait their turn"
dockerfile <<DOCKERFILE
RUN curl -fsS $plain/big | wc -c
RUN for i in \$(seq 1 80); do curl -fsS $plain/many\$i >/dev/null & done; wait
DOCKERFILE
before=$(awk '/VmHWM/ {print $2}' /proc/"$kilnd_pid"/status)
must_build "$dir" --proxy-network
after=$(awk '/VmHWM/ {print $2}' /proc/"$kilnd_pid"/status)
check_contains "the log" "$out" "$((300 << 20))"
check "memory grew by less than 100 MB ($before to $after kB)" [ $((after - before)) -lt 100000 ]
check_same "requests" "$(grep -c ' /many' "$scratch/web.requests")" 80

say "a step that is stopped leaves nothing"
check_same "networks held" "$(networks)" 0
check_same "threads" "$(proxies)" 0
dockerfile <<DOCKERFILE
RUN curl -fsS $plain/hang
DOCKERFILE
kilnctl_begin "$scratch/hang.log" build --progress=plain --frontend dockerfile.v0 --local context="$dir" --local dockerfile="$dir" --proxy-network
wait_for 30 grep -q /hang "$scratch/web.requests" || fail "the step did not ask"
check "it holds its network" [ "$(networks)" -gt 0 ]
kill -INT "$client"
wait "$client" || true
check "the network goes" wait_for 20 eval '[ "$(networks)" = 0 ]'
check "the threads go" wait_for 20 eval '[ "$(proxies)" = 0 ]'

say "nor does a daemon that is killed, and its configuration may want the proxy for all"
: >"$scratch/web.requests"
kilnctl_begin "$scratch/hang.log" build --progress=plain --frontend dockerfile.v0 --local context="$dir" --local dockerfile="$dir" --proxy-network
wait_for 30 grep -q /hang "$scratch/web.requests" || fail "the step did not ask"
kill -KILL "$kilnd_pid"
wait "$client" 2>/dev/null || true
kilnd_config='proxyNetwork = true'
start_kilnd
check "nobody of the step is left" wait_for 20 eval '! pgrep -f "curl -fsS $plain/hang" >/dev/null'
dockerfile <<DOCKERFILE
RUN curl -fsS $plain/asked >/dev/null
DOCKERFILE
must_build "$dir"
check_contains "the log" "$out" "- GET $plain/asked -> 200"

bridge=kiln-px0
if [ -x /usr/lib/cni/bridge ] && [ -x /usr/lib/cni/host-local ] && command -v ip >/dev/null; then
  say "requests leave from where the step's own network would be"
  stop_kilnd
  cat >"$scratch/cni.json" <<JSON
{"cniVersion": "0.4.0", "name": "kiln-px", "plugins": [{"type": "bridge", "bridge": "$bridge", "isGateway": true,
  "ipam": {"type": "host-local", "dataDir": "$scratch/cni", "ranges": [[{"subnet": "10.213.77.0/24"}]]}}]}
JSON
  start_kilnd --oci-worker-net=cni --oci-cni-config-path="$scratch/cni.json" --oci-cni-binary-dir=/usr/lib/cni \
    --allow-insecure-entitlement network.host
  python3 "$scratch/web.py" 10.213.77.1 "$port" "" "" 2>"$scratch/bridge.requests" &
  pids+=($!)
  wait_for 10 curl -fsS "http://10.213.77.1:$port/ready" -o /dev/null || fail "no web server on the bridge"
  dockerfile <<DOCKERFILE
RUN curl -fsS http://10.213.77.1:$port/inside >/dev/null && ! curl -fsS $plain/outside
RUN --network=host curl -fsS $plain/host >/dev/null
DOCKERFILE
  must_build "$dir" --allow network.host
  check_contains "the log" "$out" "- GET http://10.213.77.1:$port/inside -> 200"
  check_contains "the log" "$out" "- GET $plain/outside -> 502"
  check_contains "the log" "$out" "- GET $plain/host -> 200"
  stop_kilnd
  ip link del "$bridge"
fi
