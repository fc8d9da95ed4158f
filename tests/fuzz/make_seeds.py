#!/usr/bin/env python3
"""Writes the seeds that are no text: archives, compressed data, protobuf messages, packets.

  make_seeds.py DIRECTORY      one directory per target is made below it
"""
import bz2
import gzip
import io
import lzma
import pathlib
import subprocess
import sys
import tarfile
import zlib

proto = pathlib.Path(__file__).resolve().parents[2] / "messages" / "proto"
out = pathlib.Path(sys.argv[1])


def write(target, name, data):
    (out / target).mkdir(parents=True, exist_ok=True)
    (out / target / name).write_bytes(data)


def message(file, kind, text):
    """A protobuf message from its text form."""
    return subprocess.run(["protoc", f"-I{proto}", f"--encode={kind}", file], input=text.encode(), check=True,
                          stdout=subprocess.PIPE).stdout


def packet(data):
    return len(data).to_bytes(2, "little") + data


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, check=True, stdout=subprocess.PIPE).stdout


# --- archives -------------------------------------------------------------------------------------------------------

def entry(name, kind=tarfile.REGTYPE, link="", content=b"", **more):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def archive(*entries, form=tarfile.PAX_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue().rstrip(b"\0") + bytes(1024)


plain = archive(entry("./", tarfile.DIRTYPE, mode=0o755), entry("d/", tarfile.DIRTYPE, mode=0o1777),
                entry("d/f", content=b"hello", uid=1, gid=2, mtime=1.5), entry("l", tarfile.SYMTYPE, "d/f"),
                entry("h", tarfile.LNKTYPE, "d/f"), entry("p", tarfile.FIFOTYPE),
                entry("n", tarfile.CHRTYPE, devmajor=1, devminor=3))
archives = {
    "plain": plain,
    "ustar": archive(entry("a/b", content=b"x"), form=tarfile.USTAR_FORMAT),
    "gnu-long": archive(entry("a" * 90 + "/" + "b" * 90, content=b"x"), entry("l", tarfile.SYMTYPE, "c" * 150),
                        form=tarfile.GNU_FORMAT),
    "up": archive(entry("../x", content=b"x"), entry("/y", content=b"x"), entry("a/../../z", content=b"x")),
    "through-links": archive(entry("up/x", content=b"x"), entry("abs/canary", content=b"x"),
                             entry("dangling/x", content=b"x"), entry("loop/x", content=b"x")),
    "own-links": archive(entry("l", tarfile.SYMTYPE, "../outside"), entry("l/x", content=b"x"),
                         entry("l", tarfile.DIRTYPE), entry("l/y", content=b"x")),
    "hard-links": archive(entry("h", tarfile.LNKTYPE, "../outside/canary"), entry("i", tarfile.LNKTYPE, "bird"),
                          entry("i", content=b"changed"), entry("j", tarfile.LNKTYPE, "d")),
    "whiteouts": archive(entry("d/.wh.file"), entry("d/.wh..wh..opq"), entry(".wh.d"), entry(".wh..wh.plnk/x"),
                         entry(".wh..."), entry(".wh."), entry("up/.wh.canary")),
    "root-is-a-link": archive(entry(".", tarfile.SYMTYPE, "/"), entry("/", tarfile.SYMTYPE, "../outside"), entry("x")),
    "xattrs": archive(entry("x", content=b"x", pax_headers={
        "SCHILY.xattr.user.a": "b", "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.security.capability": "\x01", "LIBARCHIVE.xattr.user.c": "ZA==", "mtime": "-1.5"})),
    "sparse": archive(entry("s", content=b"1\n0\n512\n".ljust(512, b"\0") + b"x" * 512, pax_headers={
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "1048576"})),
    "replaced": archive(entry("a", tarfile.DIRTYPE), entry("a/b", content=b"x"), entry("a", content=b"x"),
                        entry("a/b", content=b"x"), entry("d", tarfile.SYMTYPE, "/")),
    "cut": plain[:1800],
    "odd-names": archive(entry("a\nb\xff"), entry("a//b/./c"), entry("-rf"), entry("d/" * 60 + "x")),
}
for name, data in archives.items():
    for how in (0, 1, 2):
        write("unpack", f"{name}-{how}", bytes([how]) + data)
    write("tar_times", name, b"\x3f" + data)
write("unpack", "gzip", b"\x09" + gzip.compress(plain, mtime=0))
write("unpack", "bzip2", b"\x0a" + bz2.compress(plain))
write("unpack", "xz", b"\x08" + lzma.compress(plain))
write("unpack", "zstd", b"\x08" + zstd(plain))
write("unpack", "gzip-in-gzip", b"\x08" + gzip.compress(gzip.compress(plain, mtime=0), mtime=0))
write("unpack", "owned-and-refusing", b"\xd2" + plain)

# --- compressed data ------------------------------------------------------------------------------------------------

text = b"hello " * 50
write("decompress", "gzip", b"\x07" + gzip.compress(text, mtime=0))
write("decompress", "members", b"\xff" + gzip.compress(text, mtime=0) + gzip.compress(b"", mtime=0) + b"\0\0tail")
write("decompress", "zstd", b"\x07" + zstd(text))
write("decompress", "frames", b"\xff" + zstd(text) + b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstd(b""))
write("decompress", "zeros", b"\xff" + gzip.compress(bytes(1 << 20), mtime=0))
write("decompress", "cut", b"\x01" + gzip.compress(text, mtime=0)[:-9])
write("decompress", "plain", b"\x00" + text)
write("decompress", "raw-deflate", b"\x00" + zlib.compress(text))

# --- definitions ----------------------------------------------------------------------------------------------------


def op(text):
    return message("ops.proto", "pb.Op", text)


ops = {
    "source": 'source { identifier: "docker-image://docker.io/library/busybox:latest" attrs { key: "image.resolvemode" '
              'value: "pull" } } platform { OS: "linux" Architecture: "arm" Variant: "v7" } constraints { filter: "a" }',
    "local": 'source { identifier: "local://context" attrs { key: "local.includepattern" value: "[\\"a\\"]" } '
             'attrs { key: "local.followpaths" value: "[\\"b\\"]" } }',
    "git": 'source { identifier: "git://github.com/a/b#main:c" attrs { key: "git.fullurl" '
           'value: "https://github.com/a/b" } }',
    "http": 'source { identifier: "https://h/x" attrs { key: "http.checksum" value: "sha256:aa" } }',
    "exec": 'inputs { } exec { meta { args: "sh" env: "A=b" cwd: "/" user: "a" hostname: "h" '
            'extraHosts { Host: "a" IP: "1.2.3.4" } ulimit { Name: "nofile" Soft: 1 Hard: 2 } } '
            'network: HOST security: INSECURE '
            'mounts { input: 0 dest: "/" output: 0 } mounts { input: -1 dest: "/c" output: -1 mountType: CACHE '
            'cacheOpt { ID: "x" sharing: LOCKED } } mounts { input: -1 dest: "/s" output: -1 mountType: SECRET '
            'secretOpt { ID: "s" uid: 1 mode: 256 optional: true } } mounts { input: -1 dest: "/t" output: -1 '
            'mountType: TMPFS TmpfsOpt { size: 5 } } secretenv { ID: "a" name: "B" } cdiDevices { name: "a.com/b=c" } }',
    "file": 'inputs { } inputs { } file { actions { input: 0 secondaryInput: 1 output: -1 copy { src: "/a/*" dest: "/b/" '
            'mode: 493 followSymlink: true dirCopyContents: true allowWildcard: true createDestPath: true '
            'include_patterns: "*.c" exclude_patterns: "x" } } actions { input: 2 secondaryInput: -1 output: 0 '
            'mkfile { path: "/x" mode: 420 data: "hi" owner { user { byName { name: "a" input: 0 } } } } } }',
    "merge": 'inputs { } inputs { digest: "1" } merge { inputs { input: 0 } inputs { input: 1 } }',
    "diff": 'inputs { } inputs { digest: "1" } diff { lower { input: 0 } upper { input: 1 } }',
    "build": 'inputs { } build { builder: 0 inputs { key: "buildkit.llb.definition" value { input: 0 } } '
             'attrs { key: "llb-filename" value: "x" } }',
    "nowhere": 'inputs { digest: "!" index: 7 } exec { meta { args: "a" cwd: "/" } mounts { input: 5 dest: "/" } }',
}
coded = {name: op(text) for name, text in ops.items()}
policies = {
    "allow": 'version: 1 rules { action: ALLOW selector { identifier: "docker-image://*" } }',
    "deny": 'version: 1 rules { action: DENY selector { identifier: ".*busybox.*" match_type: REGEX constraints '
            '{ key: "a" value: "b" condition: MATCHES } } }',
    "convert": 'version: 1 rules { action: CONVERT selector { identifier: "docker-image://docker.io/library/(*)" } '
               'updates { identifier: "docker-image://docker.io/library/$1x" attrs { key: "c" value: "d" } } }',
}
for name, text in policies.items():
    policy = message("policy.proto", "moby.buildkit.v1.sourcepolicy.Policy", text)
    write("definition", f"policy-{name}", packet(policy) + b"".join(packet(coded[n]) for n in ("source", "exec", "git")))
for name, data in coded.items():
    write("definition", name, packet(b"") + packet(coded["source"]) + packet(coded["local"]) + packet(data))
write("raw_definition", "one", message("ops.proto", "pb.Definition", 'def: "" metadata { key: "sha256:aa" value { '
      'ignore_cache: true caps { key: "source.image" value: true } progress_group { id: "g" } } } Source { locations { '
      'key: "sha256:aa" value { locations { sourceIndex: 0 ranges { start { line: 1 } end { line: 2 } } } } } '
      'infos { filename: "f" data: "x" } }'))

actions = {
    "make": 'actions { mkdir { path: "/a/b" mode: 493 makeParents: true timestamp: -1 } } actions { mkfile { '
            'path: "/up/x" mode: 420 data: "x" timestamp: 5 } } actions { symlink { oldpath: "../outside" newpath: "/l" } }',
    "through-links": 'actions { mkfile { path: "/bird" mode: 511 data: "x" } } actions { mkdir { path: "/up/d" mode: 511 '
                     'makeParents: true } } actions { rm { path: "/up/canary" } } actions { rm { path: "/d/*" '
                     'allowWildcard: true allowNotFound: true } }',
    "copy": 'actions { copy { src: "/d" dest: "/abs/" dirCopyContents: true createDestPath: true mode: -1 '
            'followSymlink: true } } actions { copy { src: "/*" dest: "/new/" allowWildcard: true createDestPath: true '
            'mode: -1 modeStr: "u=rwX,go-w" alwaysReplaceExistingDestPaths: true } }',
    "unpack": 'actions { copy { src: "/d/file" dest: "/up/" attemptUnpackDockerCompatibility: true mode: 420 } }',
    "up": 'actions { copy { src: "../../x" dest: "/../../y" mode: -1 } } actions { rm { path: "/" } } '
          'actions { rm { path: ".." } }',
}
for name, text in actions.items():
    write("file_actions", name, message("ops.proto", "pb.FileOp", text))

# --- sessions -------------------------------------------------------------------------------------------------------


def told(text):
    return packet(message("wire.proto", "fsutil.types.Packet", text))


DIR, LINK, DEVICE = 1 << 31, 1 << 27, 1 << 26


def stat(text):
    return told("type: PACKET_STAT stat { " + text + " }")


end, fin = told("type: PACKET_STAT"), told("type: PACKET_FIN")
transfers = {
    "tree": stat(f'path: "a" mode: {DIR | 0o755}') + stat('path: "a/f" mode: 420 size: 5 modTime: 1 uid: 1 gid: 2 '
            'xattrs { key: "user.a" value: "b" }') + stat(f'path: "l" mode: {LINK | 0o777} linkname: "/etc/passwd"') +
            end + told('type: PACKET_DATA ID: 1 data: "hello"') + told("type: PACKET_DATA ID: 1") + fin,
    "links": stat('path: "a" mode: 420') + stat('path: "b" mode: 420 linkname: "a"') +
             stat('path: "c" mode: 420 linkname: "../outside/canary"') + end + fin,
    "through-links": stat(f'path: "up" mode: {LINK | 0o777} linkname: "../outside"') + stat('path: "up/x" mode: 420') +
                     stat('path: "abs/canary" mode: 420') + end + fin,
    "names": stat('path: "../x" mode: 420') + stat('path: "/y" mode: 420') + stat('path: "a/../z" mode: 420') + end,
    "device": stat(f'path: "n" mode: {DEVICE | 0o666} devmajor: 1 devminor: 3') + end + fin,
    "error": stat('path: "a" mode: 420 size: 3') + told('type: PACKET_ERR data: "no"'),
}
for name, data in transfers.items():
    for how in (0, 1, 6):
        write("receive", f"{name}-{how}", bytes([how]) + data)

service = "containerd.services.content.v1."
write("content_stream", "whole",
      packet(message("content.proto", service + "InfoResponse", "info { size: 5 }")) +
      packet(message("content.proto", service + "ReadContentResponse", 'data: "hel"')) +
      packet(message("content.proto", service + "ReadContentResponse", 'offset: 3 data: "lo"')))

# --- between nodes --------------------------------------------------------------------------------------------------
# CAF 0.17.6's BASP (node/basp_gate.cpp). Node A is ours and its cluster actor 5, node B the other with 50.

def frame(operation, payload, data=0, source=0, dest=0, flags=0):
    return (bytes([operation, 0, 0, flags]) + len(payload).to_bytes(4, "big") + data.to_bytes(8, "big") +
            source.to_bytes(8, "big") + dest.to_bytes(8, "big") + payload)


def number(n, size=8):
    return n.to_bytes(size, "big")


def length(n):
    low = b""
    while n > 0x7f:
        low, n = low + bytes([0x80 | n & 0x7f]), n >> 7
    return low + bytes([n])


def text(s):
    s = s if isinstance(s, bytes) else s.encode()
    return length(len(s)) + s


def texts(*all):
    return length(len(all)) + b"".join(text(s) for s in all)


def atom(name):
    # Six bits a character, after a sentinel. Source: caf/detail/atom_val.hpp.
    table = " 0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
    value = 0xf
    for c in name:
        value = value << 6 | (table.index(c) if c != " " else 0)
    return number(value)


def node(name):
    return atom("default") + number(7, 4) + name * 20


def of(types, rest):
    return b"\0" + b"\0\0" + text("@<>" + types) + rest


normal, response = 1 << 60, 1 << 63
beat = of("+kiln::link_beat", number(7) + number(1, 4) + number(2, 4) + b"\1" + 4 * number(3) + texts("host:1"))
nothing = b"\1" + atom("exit") + b"\0\0" + text("@<>")
run = of("+kiln::run_request+kiln::progress_actor",
         text("sha256:x") + text(message("ops.proto", "pb.Op", 'exec { meta { args: "true" } }')) + text(b"") +
         text("linux") + text("amd64") + text("") + text("") + texts() + text("") + texts("one") + texts("s1") +
         number(60) + node(b"B"))
accepted = b"\0" + b"\1" + packet(frame(0, node(b"A") + texts("generic-caf-app") + number(5) + texts(), 4)) \
    + b"\0" + packet(frame(1, node(b"B")))
their = lambda f: b"\0" + packet(f)
ours = lambda f: b"\1" + packet(f)
write("basp", "beat", accepted + their(frame(2, beat, normal | 1, 50, 5)) + their(frame(2, beat, normal, 50, 5)))
write("basp", "answer", accepted + ours(frame(2, beat, normal | 9, 5, 50)) + their(frame(2, beat, response | normal | 9, 50, 5)))
write("basp", "run", accepted + ours(frame(2, of("+kiln::cache_facts+kiln::peer_worker_actor", b"\0\0" + number(6) + node(b"A")),
                                           response | normal | 1, 5, 50)) + their(frame(2, run, normal | 1, 61, 6)))
write("basp", "failure", accepted + ours(frame(2, beat, normal | 9, 5, 50)) +
      their(frame(2, of("+@error", b"\1" + atom("kiln") + b"\0\0" + text("@<>+kiln::error") + b"\5" + text("why") + length(1) +
                        text("type") + text("value")), response | normal | 9, 50, 5)))
write("basp", "ends", accepted + their(frame(4, node(b"B") + node(b"A"), 0, 0, 5)) +
      their(frame(5, node(b"B") + node(b"A") + nothing, 0, 51)) + their(frame(6, b"")))
write("basp", "dialled", b"\1" + ours(frame(1, node(b"A"))) +
      their(frame(0, node(b"B") + texts("generic-caf-app") + number(50) + texts(), 4)) + their(frame(2, beat, normal, 50, 5)))
write("basp", "nested", accepted + their(frame(2, of("+@error", 20 * (b"\1" + atom("kiln") + b"\0\0" + text("@<>+@error"))),
                                               normal, 50, 5)))


def asked(what, kind, text_form):
    return bytes([what]) + packet(message("kiln_peer.proto", "kiln.v1." + kind, text_form))


get_secret = message("secrets.proto", "moby.buildkit.secrets.v1.GetSecretRequest", 'ID: "secret"')
escaped = "".join("\\%03o" % b for b in get_secret)
write("peer", "describe", asked(0, "DescribeRefRequest", 'id: "k3ad0q9x2"'))
write("peer", "provide", asked(1, "ProvideBlobRequest", 'ref: "k3ad0q9x2" digest: "sha256:' + "ab" * 32 + '"'))
write("peer", "info", asked(2, "SessionInfoRequest", 'id: "s1" wait_ms: 5000'))
write("peer", "secret", asked(3, "SessionFrame", 'open { session: "s1" unary: true request: "' + escaped + '" timeout_ms: 1000 '
                              'method: "/moby.buildkit.secrets.v1.Secrets/GetSecret" }'))
write("peer", "agent", asked(3, "SessionFrame", 'open { session: "s1" method: "/moby.sshforward.v1.SSH/ForwardAgent" '
                             'metadata { key: "buildkit.ssh.id" value: "default" } }'))
blob = ('media_type: "application/vnd.oci.image.layer.v1.tar+zstd" size: 10 digest: "sha256:' + "ab" * 32 + '" diff_id: "sha256:' +
        "cd" * 32 + '" urls: "https://example.com/blob" annotations { key: "key" value: "value" }')
write("peer", "layer", asked(4, "RefLayer", f'origin: "k3ad0q9x2" description: "a step" blobs {{ {blob} }} transport {{ {blob} }}'))
