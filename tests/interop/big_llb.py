#!/usr/bin/env python3
"""Writes LLB definitions that are large or odd: what a hostile client, or a machine, may send.

big_llb.py KIND COUNT > definition; kinds: see the table at the end. Writes protobuf by hand, so that it needs nothing.
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


class Definition:
    def __init__(self):
        self.ops = []

    def add(self, inputs, body):
        op = b"".join(data(1, data(1, digest) + (number(2, index) if index else b"")) for digest, index in inputs)
        op += body
        self.ops.append(op)
        return "sha256:" + hashlib.sha256(op).hexdigest()

    def write(self, root, index=0):
        self.add([(root, index)], b"")
        for op in self.ops:
            sys.stdout.buffer.write(data(1, op))


def action(input, secondary, output, field, body):
    return data(2, number(1, input) + number(2, secondary) + number(3, output) + data(field, body))


def mkfile(path, content="x"):
    return data(1, path) + number(2, 0o644) + data(3, content) + number(5, -1)


def file_op(*actions):
    return data(4, b"".join(actions))


def scratch_file(d, name):
    return d.add([], file_op(action(-1, -1, 0, 5, mkfile(name, name))))


def mount(input, dest, output=-1, selector="", readonly=False):
    return data(2, number(1, input) + (data(2, selector) if selector else b"") + data(3, dest) + number(4, output) +
                (number(5, 1) if readonly else b""))


def exec_op(args, *mounts):
    meta = b"".join(data(1, a) for a in args) + data(3, "/")
    return data(2, data(1, meta) + b"".join(mounts))


def merge_op(count):
    return data(6, b"".join(data(1, number(1, i)) for i in range(count)))


def diff_op(lower, upper):
    return data(7, data(1, number(1, lower)) + data(2, number(1, upper)))


def actions(d, n):
    """One file op of n actions, each on the one before."""
    return d.add([], file_op(*(action(-1 if i == 0 else i - 1, -1, 0 if i == n - 1 else -1, 5, mkfile(f"/f{i}"))
                               for i in range(n))))


def outputs(d, n):
    """One file op of n actions, each an output of its own."""
    return d.add([], file_op(*(action(-1, -1, i, 5, mkfile(f"/f{i}")) for i in range(n))))


def mounts(d, n):
    """An exec with n mounts of one input, each under a selector of its own."""
    base = scratch_file(d, "/base")
    return d.add([(base, 0)], exec_op(["/bin/true"], mount(0, "/", 0),
                                      *(mount(0, f"/m{i}", selector=f"/d{i}", readonly=True) for i in range(n))))


def nested(d, n):
    """Merges of a merge with itself, n deep."""
    top = d.add([(scratch_file(d, "/a"), 0), (scratch_file(d, "/b"), 0)], merge_op(2))
    for _ in range(n):
        top = d.add([(top, 0), (top, 0)], merge_op(2))
    return top


def merges(d, n):
    """A chain of merges, each of the one before and a file."""
    top = scratch_file(d, "/base")
    for i in range(n):
        top = d.add([(top, 0), (scratch_file(d, f"/f{i}"), 0)], merge_op(2))
    return top


def diffs(d, n):
    """A chain of differences, each between the one before and a merge with it."""
    top = scratch_file(d, "/base")
    for i in range(n):
        both = d.add([(top, 0), (scratch_file(d, f"/f{i}"), 0)], merge_op(2))
        top = d.add([(top, 0), (both, 0)], diff_op(0, 1))
    return top


def differences(d, n):
    """Differences that share no layers, each of the one before and itself in another way: doubles unless remembered."""
    top = scratch_file(d, "/base")
    for i in range(n):
        other = d.add([(scratch_file(d, f"/f{i}"), 0), (top, 0)], merge_op(2))
        top = d.add([(top, 0), (other, 0)], diff_op(0, 1))
    return top


def chain(d, n):
    """n file ops, each on the one before."""
    top = scratch_file(d, "/base")
    for i in range(n):
        top = d.add([(top, 0)], file_op(action(0, -1, 0, 5, mkfile("/f", str(i)))))
    return top


def passes(d, n):
    """n ops that hand on what they get, each on the one before: a deep graph without work."""
    top = scratch_file(d, "/base")
    for i in range(n):
        top = d.add([(top, 0)], data(8, data(1, f"p{i}") + data(2, varint(0))))
    return top


def inputs(d, n):
    """A merge of n files."""
    return d.add([(scratch_file(d, f"/f{i}"), 0) for i in range(n)], merge_op(n))


def fan(d, n):
    """n file ops on one base, merged hundreds at a time."""
    base = scratch_file(d, "/base")
    tops = [d.add([(base, 0)], file_op(action(0, -1, 0, 5, mkfile(f"/f{i}")))) for i in range(n)]
    while len(tops) > 1:
        tops = [d.add([(t, 0) for t in part], merge_op(len(part)))
                for part in (tops[i:i + 100] for i in range(0, len(tops), 100))]
    return tops[0]


def quick(d, n):
    """A build that is over at once; n makes it another one."""
    return scratch_file(d, f"/quick{n}")


KINDS = {f.__name__: f for f in (actions, outputs, mounts, nested, merges, diffs, differences, chain, passes, inputs, fan,
                                 quick)}

if __name__ == "__main__":
    d = Definition()
    d.write(KINDS[sys.argv[1]](d, int(sys.argv[2])))
