#!/usr/bin/env python3
"""Writes LLB that makes a device node in a step and then has the daemon come by it: device_llb.py HOW TYPE MAJOR MINOR.

HOW: mkfile writes a file to the node's path, copy copies the node, owner looks a user up in it (as /etc/passwd). The
root is the local source `context`, which has /bin/sh. Protobuf is written by hand, so that it needs nothing.
"""
import hashlib
import sys


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def data(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


ops = []


def add(inputs, body):
    op = b"".join(data(1, data(1, digest)) for digest in inputs) + body
    ops.append(op)
    return "sha256:" + hashlib.sha256(op).hexdigest()


def run(root, script):
    meta = b"".join(data(1, arg) for arg in ("/bin/sh", "-c", script)) + data(3, "/")
    return add([root], data(2, data(1, meta) + data(2, number(1, 0) + data(3, "/") + number(4, 0))))


def action(field, body, second=-1):
    return data(4, data(2, number(1, 0) + number(2, second) + number(3, 0) + data(field, body)))


how, kind, major, minor = sys.argv[1:5]
root = add([], data(3, data(1, "local://context")))
made = run(root, f"mkdir /etc; mknod /node {kind} {major} {minor} && mknod /etc/passwd {kind} {major} {minor}")
if how == "mkfile":
    last = add([made], action(5, data(1, "/node") + number(2, 0o644) + data(3, "written to a device of the host") +
                              number(5, -1)))
elif how == "copy":
    copy = data(1, "/node") + data(2, "/copied") + number(4, -1) + number(11, -1)
    last = add([made], action(4, copy, second=0))
elif how == "owner":
    by_name = data(1, data(1, data(1, "somebody") + number(2, 0)))
    last = add([made], action(6, data(1, "/made") + number(2, 0o755) + data(4, by_name) + number(5, -1)))
else:
    sys.exit("unknown way: " + how)
add([last], b"")
for op in ops:
    sys.stdout.buffer.write(data(1, op))
