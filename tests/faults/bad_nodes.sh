#!/usr/bin/env bash
# Nodes that must not come in and peers that talk nonsense: each is refused with a reason that an operator can read,
# and the three nodes of the cluster go on as if nothing had been.
. "$(dirname "$0")/lib.sh"

certs=$scratch/certs
start_cluster a b c
push_from_hub "$(busybox_tar)" busybox
mkdir "$scratch/app" "$scratch/bad"

links_of() { grep -cE 'cluster: node [abc] at [0-9.:]+ is up$' "$scratch/$1/log"; }
declare -A links
for n in a b c; do links[$n]=$(links_of "$n"); done
turn=0
# The same three nodes are up, over the same links, and a new build is made by them.
undisturbed() {  # undisturbed AFTER-WHAT
  local n
  turn=$((turn + 1))
  for n in a b c; do
    check_same "after $1: nodes that $n sees up" "$(ctl "$n" cluster | awk '$2 == "up" || $2 == "self" {print $1}' | sort | xargs)" "a b c"
    check_same "after $1: links that $n has opened" "$(links_of "$n")" "${links[$n]}"
  done
  stages_dockerfile 3 1000 "$turn" >"$scratch/app/Dockerfile"
  build_at a "$scratch/app" >/dev/null || fail "build after $1: $(tail -n 20 "$scratch/app/log")"
  checks=$((checks + 1))
}
log_says() { grep -qF -- "$2" "$scratch/$1/log"; }
row_says() { ctl "$1" cluster | grep -F -- "$2" | grep -qF -- "$3"; }  # row_says NODE TEXT-OF-ROW TEXT
must_log() { wait_for 20 log_says "$1" "$2" || fail "no \"$2\" in the log of $1: $(tail -n 5 "$scratch/$1/log")"; checks=$((checks + 1)); }
must_show() { wait_for 20 row_says "$@" || fail "$1 does not show \"$3\" of $2: $(ctl "$1" cluster)"; checks=$((checks + 1)); }

# start_by_flags NODE CERT [KEY [CA [FLAGS…]]] on the fourth machine; it dials a.
start_by_flags() {
  local node=$1 cert=$2 key=${3-${2%.pem}.key} ca=${4-$certs/ca.pem}
  : >"$scratch/d/log"
  nsenter --net="/run/netns/$tag-d" "$kilnd" --config "$scratch/none.toml" --root "$scratch/d/state" --addr "unix://$scratch/d/sock" \
    --oci-worker-net host --cluster-name "$node" --cluster-listen 10.231.0.4:7373 --cluster-seed 10.231.0.1:7373 \
    --cluster-ca "$ca" --cluster-cert "$cert" --cluster-key "$key" "${@:5}" >>"$scratch/d/log" 2>&1 &
  node_pid[d]=$!
}
refuses_to_start() {  # refuses_to_start WHY CERT [KEY [CA]]
  local status=0
  start_by_flags d "${@:2}"
  wait "${node_pid[d]}" || status=$?
  unset "node_pid[d]"
  check_same "exit code when $1" "$status" 1
  check_contains "start-up error" "$(cat "$scratch/d/log")" "$1"
}

add_machine d 4
mkdir "$scratch/d"
undisturbed "the start"

say "a certificate of another CA, whose node trusts this cluster"
"$kilnctl" cluster certs "$scratch/other" d=10.231.0.4
cat "$certs/ca.pem" "$scratch/other/ca.pem" >"$scratch/bad/both.pem"
start_by_flags d "$scratch/other/d.pem" "$scratch/other/d.key" "$scratch/bad/both.pem"
must_log a "a connection is refused: its certificate is refused: "
must_show d 10.231.0.1:7373 "it refuses this node's certificate"
must_show d 10.231.0.1:7373 refused
check_same "nodes that d sees up" "$(peers_of d)" 0
stop_node d
undisturbed "a certificate of another CA"

say "an expired certificate"
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=d -keyout "$scratch/bad/expired.key" \
  -out "$scratch/bad/expired.csr" 2>/dev/null
mkdir "$scratch/bad/ca"
: >"$scratch/bad/ca/index"
cat >"$scratch/bad/ca.conf" <<CONF
[ca]
default_ca = cluster
[cluster]
database = $scratch/bad/ca/index
rand_serial = yes
new_certs_dir = $scratch/bad/ca
default_md = sha256
policy = any
x509_extensions = node
[any]
commonName = supplied
[node]
subjectAltName = DNS:d,IP:10.231.0.4
extendedKeyUsage = serverAuth,clientAuth
CONF
openssl ca -batch -notext -config "$scratch/bad/ca.conf" -cert "$certs/ca.pem" -keyfile "$certs/ca.key" \
  -startdate 20200101000000Z -enddate 20200201000000Z -in "$scratch/bad/expired.csr" -out "$scratch/bad/expired.pem" 2>"$scratch/bad/log" ||
  fail "openssl ca: $(tail -n 3 "$scratch/bad/log")"
refuses_to_start "expired.pem expired on" "$scratch/bad/expired.pem"
# Somebody may come with it all the same: what a client with a certificate gets of each port.
cat >"$scratch/bad/greet.py" <<'PY'
import socket, ssl, sys
ca, cert, key, port = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.check_hostname = False
context.load_cert_chain(cert, key)
context.set_alpn_protocols(["h2"])
try:
    with context.wrap_socket(socket.create_connection(("10.231.0.1", int(port)), timeout=20)) as s:
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        print("accepted" if s.recv(9) else "refused: end of connection")
except OSError as e:
    print("refused:", e)
PY
greet_with() { in_hub python3 "$scratch/bad/greet.py" "$certs/ca.pem" "$1" "${1%.pem}.key" "$2"; }
check_contains "control port, expired" "$(greet_with "$scratch/bad/expired.pem" 7373)" "refused: "
must_log a "its certificate is refused: certificate has expired"
check_contains "data port, expired" "$(greet_with "$scratch/bad/expired.pem" 7374)" "refused: "
must_log a "certificate verify failed" # gRPC's words
check_contains "data port, another CA" "$(greet_with "$scratch/other/d.pem" 7374)" "refused: "
check_same "data port, a good certificate" "$(greet_with "$certs/a.pem" 7374)" accepted
undisturbed "an expired certificate"

say "a node under another name than its certificate's"
"$kilnctl" cluster certs "$certs" d=10.231.0.4
refuses_to_start_as() {  # refuses_to_start_as NODE WHY CERT
  local status=0
  start_by_flags "$1" "$3"
  wait "${node_pid[d]}" || status=$?
  unset "node_pid[d]"
  check_same "exit code of node $1" "$status" 1
  check_contains "start-up error" "$(cat "$scratch/d/log")" "$2"
}
refuses_to_start_as b "d.pem is for d, not for node b" "$certs/d.pem"
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=d -keyout "$scratch/bad/old.key" \
  -out "$scratch/bad/old.csr" 2>/dev/null
printf 'subjectAltName = IP:10.231.0.4\nextendedKeyUsage = serverAuth,clientAuth\n' >"$scratch/bad/old.ext"
openssl x509 -req -in "$scratch/bad/old.csr" -CA "$certs/ca.pem" -CAkey "$certs/ca.key" -CAcreateserial -days 2 \
  -extfile "$scratch/bad/old.ext" -out "$scratch/bad/old.pem" 2>/dev/null
refuses_to_start_as d 'make one for node d with "kilnctl cluster certs"' "$scratch/bad/old.pem"
undisturbed "another name"

say "a second node with a name that is taken"
start_by_flags b "$certs/b.pem"
twins="two nodes are called b: the one at 10.231.0.2:7373, which is up, and the one at 10.231.0.4:7373"
must_log a "node b at 10.231.0.4:7373 is refused: $twins"
must_show a refused "$twins"
must_show d 10.231.0.1:7373 "$twins"
check_same "nodes that the second b sees up" "$(peers_of d)" 0
stop_node d
undisturbed "a second node b"

say "a seed that does not resolve"
start_by_flags d "$certs/d.pem" "$certs/d.key" "$certs/ca.pem" --cluster-seed nowhere.invalid:7373
must_log d "seed nowhere.invalid:7373 does not resolve, trying again: nowhere.invalid"
must_show d nowhere.invalid:7373 down
wait_for 20 sees d 3 || fail "d has not joined by its other seed: $(ctl d cluster)"
wait_for 20 sees c 3 || fail "c has not heard of d: $(ctl c cluster)"
stop_node d
for n in a b c; do wait_for 20 sees "$n" 2 || fail "d is still up for $n: $(ctl "$n" cluster)"; done
undisturbed "a seed that does not resolve"

say "settings without certificates"
refuses_to_start "cluster ca is missing: nodes know each other by certificates" "$certs/d.pem" "$certs/d.key" ""
refuses_to_start "cluster cert is missing: nodes know each other by certificates" "" "$certs/d.key"
refuses_to_start "cluster key is missing: nodes know each other by certificates" "$certs/d.pem" ""
refuses_to_start "cluster certificate: cannot read $certs/nobody.pem" "$certs/nobody.pem"
refuses_to_start "cluster key: $certs/d.key is not the key of $certs/a.pem" "$certs/a.pem" "$certs/d.key"
refuses_to_start "d.pem is not signed by the CA in $certs/ca.pem" "$scratch/other/d.pem"

say "garbage at both ports of every node, and from a peer with a good certificate"
cat >"$scratch/bad/garbage.py" <<'PY'
import random, socket, ssl, sys
cert = sys.argv[1]
rng = random.Random(7)
starts = [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x80" * 8]
context = ssl.create_default_context(cafile=f"{cert}/ca.pem")
context.check_hostname = False
context.load_cert_chain(f"{cert}/d.pem", f"{cert}/d.key")
context.set_alpn_protocols(["h2"])
held, thrown, ended = [], 0, 0
for node in (1, 2, 3):
    for port in (7373, 7374):
        where = (f"10.231.0.{node}", port)
        for i in range(40):
            data = starts[i % len(starts)] + rng.randbytes(rng.choice([1, 100, 65536]))
            plain = socket.create_connection(where, timeout=10)
            thrown += 1
            try:
                if i % 4 == 3:
                    plain = context.wrap_socket(plain)
                plain.sendall(data)
            except OSError:
                ended += 1
            if i % 8 == 0:
                held.append(plain)  # says nothing more
            else:
                plain.close()
print(thrown)
for s in held:  # the daemon ends these: a handshake has a time limit
    s.settimeout(1)
PY
thrown=$(in_hub timeout 120 python3 "$scratch/bad/garbage.py" "$certs") || fail "the thrower of garbage failed"
check_same "connections with garbage" "$thrown" 240
for n in a b c; do
  must_log "$n" "a connection is refused: TLS: "
  must_log "$n" "the connection of d is ended: "
done
undisturbed "garbage"

say "a peer with a good certificate that says what no node says"
cat >"$scratch/bad/attack.py" <<'PY'
import socket, ssl, struct, sys
cert = sys.argv[1]
context = ssl.create_default_context(cafile=f"{cert}/ca.pem")
context.check_hostname = False
context.load_cert_chain(f"{cert}/d.pem", f"{cert}/d.key")

def frame(operation, payload, data=0, source=0, dest=0, flags=0):
    return struct.pack(">BBBBIQQQ", operation, 0, 0, flags, len(payload), data, source, dest) + payload
def text(s):
    n, out = len(s), b""
    while n > 0x7F:
        out, n = out + bytes([0x80 | n & 0x7F]), n >> 7
    return out + bytes([n]) + s
def exactly(s, n):
    out = b""
    while len(out) < n:
        more = s.recv(n - len(out))
        if not more: raise EOFError
        out += more
    return out

NORMAL = 1 << 60
handle = lambda node, actor: struct.pack(">Q", actor) + node
message = lambda types, rest: b"\0" + b"\0\0" + text(b"@<>" + types) + rest
drain = message(b"+@str", text(b"x"))
attacks = {
    "urgent": lambda node, actor: frame(2, drain, 0, 9, actor),
    "upstream": lambda node, actor: frame(2, drain, 2 << 60, 9, actor),
    "downstream": lambda node, actor: frame(2, drain, 3 << 60, 9, actor),
    "nested": lambda node, actor: frame(2, b"\0" + (b"\0\0" + text(b"@<>+@message")) * 200_000 + b"\0\0" + text(b"@<>"), NORMAL, 9, actor),
    "exit": lambda node, actor: frame(2, message(b"+@exit", handle(node, actor) + b"\1" + bytes(8) + b"\0\0" + text(b"@<>")), NORMAL, 9, actor),
    "unknown actor": lambda node, actor: frame(2, drain, NORMAL, 9, actor + 1),
    "routed": lambda node, actor: frame(3, node + node + drain, NORMAL, 9, actor),
    "no operation": lambda node, actor: frame(9, b"", 0, 0, 0),
    "stranger's end": lambda node, actor: frame(5, node + node + b"\0" + bytes(8) + b"\0\0" + text(b"@<>"), 0, 9, 0),
}
ended = 0
for machine in (1, 2, 3):
    for name, make in attacks.items():
        s = context.wrap_socket(socket.create_connection((f"10.231.0.{machine}", 7373), timeout=20))
        head = exactly(s, 32)
        payload = exactly(s, struct.unpack(">I", head[4:8])[0])
        node, at = payload[:32], 32 + 1 + 1 + len(b"generic-caf-app")
        actor = struct.unpack(">Q", payload[at:at + 8])[0]
        mine = node[:12] + b"hostile hostile hos."
        s.sendall(frame(1, mine))
        try:
            s.sendall(make(node, actor))
            while s.recv(4096): pass
        except TimeoutError:
            print(f"not ended at {machine}: {name}", file=sys.stderr)
            continue
        except OSError:
            pass
        ended += 1
print(ended)
PY
ended=$(in_hub timeout 300 python3 "$scratch/bad/attack.py" "$certs") || fail "the attacker failed"
check_same "connections of an attacker that were ended" "$ended" 27
for n in a b c; do must_log "$n" "the connection of d is ended: a message of an odd category"; done
undisturbed "an attack"
for n in a b c; do check_same "rows of strangers at $n" "$(ctl "$n" cluster | awk 'NR > 1 && $1 !~ /^[abcd]$/' | wc -l)" 0; done
