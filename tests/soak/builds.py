"""The builds of a soak: what they read, how they are asked for, and what their results are known by.

Each is deterministic: the same variant gives the same answer, whatever was cached, killed or pruned before. The
file `turn` of the context decides which steps run again; it is mounted, never copied, so it changes no result.
"""
import hashlib
import io
import json
import os
import random
import tarfile
import urllib.request
from dataclasses import dataclass, field
from typing import Callable

EPOCH = '1700000000'
MOUNT_TURN = '--mount=type=bind,source=turn,target=/turn'


class Wrong(Exception):
    """A result that is not what it should be."""


@dataclass
class World:
    """What builds can reach: addresses on loopback, and files that clients hand in."""
    registry: str  # host:port
    files_url: str  # an HTTP server's
    secret: str
    ssh_agent: str
    ask_agent: str  # program
    tiny_frontend: str = ''  # references of frontend images, if there are any
    frontend: str = ''


@dataclass
class Job:
    """One run of a build: its own context and output directories."""
    world: World
    variant: int
    context: str
    out: str
    rng: random.Random
    turn: str = ''

    def path(self, name):
        return os.path.join(self.out, name)

    def log(self):
        with open(self.path('log'), errors='replace') as f:
            return f.read()


@dataclass
class Build:
    name: str
    dockerfile: str
    flags: Callable[[Job], list]
    answer: Callable[[Job], str]
    files: Callable[[Job], None] = lambda job: None
    fails_with: str = ''  # the error that is its right result
    frontend: Callable[[Job], list] = lambda job: ['--frontend', 'dockerfile.v0']

    def prepare(self, job):
        os.makedirs(job.context)
        os.makedirs(job.out)
        put(job, 'Dockerfile', self.dockerfile.format(variant=job.variant, turn=MOUNT_TURN, w=job.world))
        put(job, 'turn', job.turn)
        self.files(job)

    def command(self, job):
        common = ['--progress=plain', '--local', f'context={job.context}', '--local', f'dockerfile={job.context}',
                  '--opt', f'build-arg:SOURCE_DATE_EPOCH={EPOCH}', '--metadata-file', job.path('metadata.json')]
        return ['build'] + common + self.frontend(job) + self.flags(job)


# ------------------------------------------------------------------ contexts

def put(job, name, data):
    """A file of the context. Its time tells its content, as a transfer takes files of one size and time for the same,
    and contexts that are written at once have equal times."""
    path = os.path.join(job.context, name)
    data = data if isinstance(data, bytes) else data.encode()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as f:
        f.write(data)
    time = 1_000_000_000 + int(hashlib.sha256(data).hexdigest()[:7], 16)
    os.utime(path, (time, time))


def content(job, salt, size):
    """Bytes that differ from variant to variant, and do not compress."""
    return random.Random(f'{salt}/{job.variant}').randbytes(size)


def tree(job):
    for i in range(120):
        put(job, f'tree/{i % 7}/file{i}', f'{job.variant} {i}\n' * (1 + i % 50))
    put(job, 'tree/big', content(job, 'big', 3_000_000))
    os.symlink('0/file0', os.path.join(job.context, 'tree/link'))
    os.link(os.path.join(job.context, 'tree/1/file1'), os.path.join(job.context, 'tree/hard'))
    os.chmod(os.path.join(job.context, 'tree/2/file2'), 0o4751)
    put(job, '.dockerignore', '**/ignored\n!tree\n')
    put(job, 'ignored', job.turn)


def archive(job):
    tree(job)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode='w:gz', compresslevel=1) as tar:
        for i in range(40):
            info = tarfile.TarInfo(f'packed/{i}')
            info.size, info.mtime, info.mode = 1000, 1_600_000_000 + i, 0o640
            tar.addfile(info, io.BytesIO(content(job, i, 1000)))
    # gzip's header has the time of day
    put(job, 'packed.tar.gz', packed.getvalue()[:4] + bytes(4) + packed.getvalue()[8:])


# ------------------------------------------------------------------ answers

def metadata(job, key):
    with open(job.path('metadata.json')) as f:
        return json.load(f)[key]


def tree_digest(root):
    """Of names, kinds, modes, owners, contents; not of times."""
    lines = []
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(directory, name)
            info = os.lstat(path)
            what = os.readlink(path) if os.path.islink(path) else ''
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, 'rb') as f:
                    what = hashlib.sha256(f.read()).hexdigest()
            lines.append(f'{os.path.relpath(path, root)} {info.st_mode:o} {info.st_uid}:{info.st_gid} {what}')
    if not lines:
        raise Wrong(f'{root} is empty')
    return hashlib.sha256('\n'.join(sorted(lines)).encode()).hexdigest()


def local_tree(job):
    return tree_digest(job.path('tree'))


def tar_listing(job):
    lines = []
    with tarfile.open(job.path('out.tar')) as tar:
        for m in tar:
            data = tar.extractfile(m).read() if m.isreg() else b''
            digest = hashlib.sha256(data).hexdigest()
            lines.append(f'{m.name} {m.type} {m.mode:o} {m.uid}:{m.gid} {m.linkname} {digest}')
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


def archive_blobs(path):
    """All blobs of an image archive, each checked against its name."""
    blobs, names = {}, {}
    with tarfile.open(path) as tar:
        for m in tar:
            if not m.isreg():
                continue
            data = tar.extractfile(m).read()
            if m.name.startswith('blobs/sha256/'):
                digest = m.name.removeprefix('blobs/sha256/')
                if hashlib.sha256(data).hexdigest() != digest:
                    raise Wrong(f'{path}: blob {digest} has other bytes')
                blobs['sha256:' + digest] = data
            else:
                names[m.name] = data
    return blobs, names


def referenced(descriptor, read):
    """Walks an image; read(digest) fails for what is not there. Yields what the walk meets."""
    data = read(descriptor['digest'])
    yield descriptor
    if 'manifest' not in descriptor['mediaType'] and 'index' not in descriptor['mediaType']:
        return
    document = json.loads(data)
    for child in document.get('manifests', []):
        yield from referenced(child, read)
    for leaf in [document.get('config')] + document.get('layers', []):
        if leaf:
            read(leaf['digest'])


def image_archive(job):
    blobs, names = archive_blobs(job.path('image.tar'))
    root = json.loads(names['index.json'])['manifests'][0]
    try:
        list(referenced(root, blobs.__getitem__))
    except KeyError as missing:
        raise Wrong(f'the archive lacks {missing}') from None
    told = metadata(job, 'containerimage.digest')
    if root['digest'] != told:
        raise Wrong(f'the archive has {root["digest"]}, the answer said {told}')
    return root['digest']


def image_layers(job):
    """For images whose other parts tell times: provenance does."""
    image_archive(job)
    blobs, names = archive_blobs(job.path('image.tar'))
    root = json.loads(names['index.json'])['manifests'][0]
    manifests = [json.loads(blobs[d['digest']]) for d in referenced(root, blobs.__getitem__)
                 if 'index' not in d['mediaType']]
    return json.dumps([[layer['digest'] for layer in m['layers']] for m in manifests
                       if not any('in-toto' in layer['mediaType'] for layer in m['layers'])])


def registry_get(job, repository, path):
    request = urllib.request.Request(f'http://{job.world.registry}/v2/{repository}/{path}')
    request.add_header('Accept', ', '.join(
        ['application/vnd.oci.image.index.v1+json', 'application/vnd.oci.image.manifest.v1+json',
         'application/vnd.docker.distribution.manifest.v2+json']))
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read(), answer.headers.get('Content-Type', '')


def pushed_image(job, repository='soak/pushed'):
    """The image is in the registry, whole."""
    digest = metadata(job, 'containerimage.digest')

    def read(d):
        kind = 'manifests' if d == digest else 'blobs'
        data, _ = registry_get(job, repository, f'{kind}/{d}')
        if 'sha256:' + hashlib.sha256(data).hexdigest() != d:
            raise Wrong(f'the registry has other bytes for {d}')
        return data
    list(referenced({'digest': digest, 'mediaType': 'manifest'}, read))
    return digest


def two_outputs(job):
    return image_archive(job) + ' ' + local_tree(job)


def said(*texts):
    def answer(job):
        log = job.log()
        for text in texts:
            if text not in log:
                raise Wrong(f'no "{text}" in the client\'s output')
        return ' '.join(texts)
    return answer


# ------------------------------------------------------------------ outputs

def out_oci(job, more=''):
    return ['--output', f'type=oci,dest={job.path("image.tar")},rewrite-timestamp=true{more}']


def out_local(job):
    return ['--output', f'type=local,dest={job.path("tree")}']


def out_tar(job):
    return ['--output', f'type=tar,dest={job.path("out.tar")}']


def registry_cache(job):
    ref = f'ref={job.world.registry}/soak/cache:{job.variant}'
    flags = out_oci(job)
    if job.rng.random() < 0.7:
        flags += ['--import-cache', f'type=registry,{ref}']
    if job.rng.random() < 0.7:
        flags += ['--export-cache', f'type=registry,mode=max,{ref}']
    return flags


def local_cache(job):
    # A directory of its own: clients write into it, not the daemon.
    return out_local(job) + ['--export-cache', f'type=local,mode=max,dest={job.path("cache")}']


def inline_cache(job):
    ref = f'{job.world.registry}/soak/inline:{job.variant}'
    return ['--output', f'type=image,name={ref},push=true,rewrite-timestamp=true', '--export-cache', 'type=inline',
            '--import-cache', f'type=registry,ref={ref}']


# ------------------------------------------------------------------ the list

STAGES = '''FROM busybox AS numbers
RUN {turn} i=0; while [ $i -lt 150 ]; do i=$((i+1)); echo $i > /n$i; done
FROM busybox AS sums
COPY tree /tree
RUN {turn} cd /tree && find . -type f | sort | xargs sha256sum > /sums
FROM busybox AS slow
RUN {turn} sleep 0.3; mkdir -p /slow/a/b && ln -s b /slow/a/c && echo {variant} > /slow/a/b/d && chmod 700 /slow/a
FROM scratch
COPY --from=numbers /n* /numbers/
COPY --from=sums /sums /
COPY --from=slow --chown=12:34 /slow /slow
COPY --link tree/3 /linked
COPY tree/link tree/hard tree/2/file2 /
'''

UNPACK = '''FROM busybox
ADD packed.tar.gz /unpacked
COPY <<-EOF /note
  variant {variant}
EOF
RUN {turn} rm -r /bin/vi /unpacked/packed/1*; mkdir /unpacked/packed/10; echo {variant} > /unpacked/packed/10/new
WORKDIR /unpacked
COPY --chmod=640 tree/4 four/
ENV V={variant}
CMD ["sh"]
'''

MOUNTS = '''FROM busybox
RUN --mount=type=cache,target=/shared --mount=type=cache,target=/locked,sharing=locked \\
    --mount=type=cache,id=own,target=/private,sharing=private --mount=type=tmpfs,target=/tmp {turn} \\
    echo x >> /shared/all; echo x >> /locked/all; echo x >> /private/all; \\
    head -c 100000 /dev/zero > /shared/zeros; head -c 1000000 /dev/zero > /tmp/big; echo {variant} > /made
'''

SECRETS = '''FROM busybox
RUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN {turn} \\
    sha256sum < /run/secrets/token > /sum; echo "$TOKEN" | wc -c >> /sum; echo {variant} >> /sum
'''

SSH = '''FROM busybox
COPY ask_agent /
RUN --mount=type=ssh {turn} \\
    /ask_agent > /keys; for i in 1 2 3 4 5; do /ask_agent & done; wait; echo {variant} >> /keys
'''

SOURCES = '''FROM busybox AS a
ADD {w.files_url}/file{variant} /file
ADD {w.files_url}/repository.git#v{variant} /repository
RUN {turn} cat /file /repository/data | sha256sum > /sum
FROM scratch
COPY --from=a /sum /repository /
'''

FAILS = '''FROM busybox
RUN {turn} echo about to fail; echo lost > /lost; exit 7
COPY turn /never
'''

LINKS = ('FROM busybox\n' + ''.join(f'COPY --link tree/{i} /links/{i}\n' for i in range(7))
         + 'RUN {turn} ls -R /links > /list\n')

CHAIN = 'FROM busybox\n' + ''.join(f'RUN {{turn}} echo {{variant}} > /step{i}\n' for i in range(8))

UNIQUE = '''FROM busybox AS made
RUN {turn} cat /turn > /dev/null; echo {variant} > /made
FROM scratch
COPY --from=made /made /
'''

BUILDS = [
    Build('stages to an OCI archive', STAGES, out_oci, image_archive, tree),
    Build('stages to files', STAGES, out_local, local_tree, tree),
    Build('stages to a tar', STAGES, out_tar, tar_listing, tree),
    Build('an archive unpacked, to a docker tar', UNPACK,
          lambda j: ['--output', f'type=docker,name=soak,dest={j.path("image.tar")},rewrite-timestamp=true,'
                     'compression=gzip,force-compression=true'],
          image_archive, archive),
    Build('pushed with zstd', UNPACK,
          lambda j: ['--output', f'type=image,name={j.world.registry}/soak/pushed:{j.variant},push=true,'
                     'compression=zstd,force-compression=true,oci-mediatypes=true,rewrite-timestamp=true'],
          pushed_image, archive),
    Build('two outputs', STAGES, lambda j: out_oci(j) + out_local(j), two_outputs, tree),
    Build('cache mounts', MOUNTS, out_oci, image_archive),
    Build('secrets', SECRETS, lambda j: out_oci(j) + ['--secret', f'id=token,src={j.world.secret}'], image_archive),
    Build('ssh', SSH, lambda j: out_local(j) + ['--ssh', f'default={j.world.ssh_agent}'], local_tree,
          lambda j: put_program(j)),
    Build('registry cache', STAGES, registry_cache, image_archive, tree),
    Build('local cache', CHAIN, local_cache, local_tree),
    Build('inline cache', UNIQUE, inline_cache, lambda j: metadata(j, 'containerimage.digest') and 'pushed'),
    Build('http and git sources', SOURCES, out_oci, image_archive),
    Build('linked copies', LINKS, out_oci, image_archive, tree),
    Build('a chain of steps, kept', CHAIN, lambda j: ['--output', 'type=image,name=kept,rewrite-timestamp=true'],
          lambda j: metadata(j, 'containerimage.config.digest')),
    Build('provenance', CHAIN, lambda j: out_oci(j) + ['--opt', 'attest:provenance=mode=max'], image_layers),
    Build('a failing step', FAILS, out_oci, said('exit code: 7'), fails_with='exit code: 7'),
    Build('no output, no cache', CHAIN, lambda j: ['--no-cache'], said()),
    Build('lint', UNPACK, lambda j: ['--opt', 'requestid=frontend.lint',
                                     '--opt', 'frontend.caps=moby.buildkit.frontend.subrequests'], said(), archive),
]


def tiny(mode):
    return lambda j: ['--frontend', 'gateway.v0', '--opt', f'source={j.world.tiny_frontend}',
                      '--opt', f'mode={mode}']


TINY_BUILDS = [
    Build('a frontend image', '', out_local, local_tree, frontend=tiny('file')),
    Build('a frontend image that asks for more', '', out_local, local_tree, frontend=tiny('nested')),
    Build('a frontend image that crashes', '', out_local, said('exit code: 3'), fails_with='exit code: 3',
          frontend=tiny('crash')),
]
FRONTEND_BUILDS = [
    Build('a Dockerfile with a syntax line', '# syntax={w.frontend}\n' + CHAIN, out_oci, image_archive),
]


def builds_of(world):
    return (BUILDS + (TINY_BUILDS if world.tiny_frontend else [])
            + (FRONTEND_BUILDS if world.frontend else []))


def put_program(job):
    with open(job.world.ask_agent, 'rb') as f:
        put(job, 'ask_agent', f.read())
    os.chmod(os.path.join(job.context, 'ask_agent'), 0o755)
