#!/usr/bin/env python3
"""LLB on standard output, written field by field: also what no client would write.

llb.py source IDENTIFIER [KEY=VALUE…]      a source, and nothing else
llb.py exec IDENTIFIER FIELD=NUMBER…       `true` on a source; fields: network, security, mounttype, contentcache, sharing
NAME=TEXT in the environment is the shown name of the last step.
"""
import hashlib, os, sys

def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])

def number(field, n): return varint(field << 3) + varint(n) if n else b""
def data(field, b):
    b = b.encode() if isinstance(b, str) else b
    return varint(field << 3 | 2) + varint(len(b)) + b
def entry(field, key, value): return data(field, data(1, key) + data(2, value))
def digest(op): return "sha256:" + hashlib.sha256(op).hexdigest()

def source(identifier, attributes):
    attrs = b"".join(entry(2, *a.split("=", 1)) for a in attributes)
    return data(3, data(1, identifier) + attrs)

def run(base, fields):
    cache = data(20, data(1, "c") + number(2, fields.get("sharing", 0)))
    mounts = data(2, data(3, "/") + number(24, fields.get("contentcache", 0)))
    mounts += data(2, number(1, -1) + data(3, "/m") + number(4, -1) + number(6, fields.get("mounttype", 3)) + cache)
    meta = data(1, data(1, "/bin/true") + data(3, "/"))
    op = meta + mounts + number(3, fields.get("network", 0)) + number(4, fields.get("security", 0))
    return data(1, data(1, digest(base))) + data(2, op)

what, identifier, *rest = sys.argv[1:]
if what == "source":
    ops = [source(identifier, rest)]
else:
    base = source(identifier, [])
    ops = [base, run(base, {k: int(v) for k, v in (r.split("=") for r in rest)})]
last = ops[-1]
ops.append(data(1, data(1, digest(last))))
definition = b"".join(data(1, op) for op in ops)
if name := os.environ.get("NAME"):
    definition += data(2, data(1, digest(last)) + data(2, entry(2, "llb.customname", name)))
sys.stdout.buffer.write(definition)
