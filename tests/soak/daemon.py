"""The daemon under test: started, killed, stopped, measured, and searched for what it has left behind."""
import collections
import json
import os
import re
import signal
import socket
import stat
import subprocess
import time

START_SECONDS = 30
STOP_SECONDS = 45
CGROUPS = '/sys/fs/cgroup'

# Beside snapshots and layers there are manifests and configs, of a few blocks each, and what history keeps.
DISK_TOLERANCE_PART = 0.02
DISK_TOLERANCE_BYTES = 2 << 20
FD_TOLERANCE = 6
MADE_WITH_FIRST_STEP = ('executor/hosts', 'executor/resolv.conf')
# Connections to registries are kept for the next time: at most 32 (configs/registry.hpp), each with a pair to wake
# it. Those of the last clients may be closing.
SOCKET_TOLERANCE = 32 * 3 + 6


def until(seconds, done, step=0.02):
    """Polls what has no event to wait for."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(step)
    return True


def bytes_on_disk(root, seen=None):
    """Allocated bytes, each inode once."""
    seen, total = set() if seen is None else seen, 0
    for directory, names, files in os.walk(root):
        for path in [directory] + [os.path.join(directory, name) for name in names + files]:
            try:
                info = os.lstat(path)
            except FileNotFoundError:
                continue
            if info.st_ino not in seen:
                seen.add(info.st_ino)
                total += info.st_blocks * 512
    return total


def allocated(paths):
    return sum(os.lstat(path).st_blocks * 512 for path in paths if os.path.lexists(path))


def entries(directory):
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []


class Daemon:
    def __init__(self, kilnd, kilnctl, scratch, tag, mirror):
        self.kilnd, self.kilnctl, self.scratch = kilnd, kilnctl, scratch
        self.state = os.path.join(scratch, 'state')
        self.socket = os.path.join(scratch, 'kilnd.sock')
        self.log_path = os.path.join(scratch, 'kilnd.log')
        self.cgroup = f'kiln-soak-{tag}'
        self.networks = os.path.join(scratch, 'networks')
        self.process = None
        self.baseline = None
        self._write_network_plugin()
        with open(os.path.join(scratch, 'soak.toml'), 'w') as f:
            f.write(f'[worker.oci]\ndefaultCgroupParent = "/{self.cgroup}"\n'
                    f'networkMode = "cni"\ncniConfigPath = "{self.plugins}/net.json"\n'
                    f'cniBinaryPath = "{self.plugins}"\n'
                    f'[registry."docker.io"]\nmirrors = ["{mirror}"]\n')

    def _write_network_plugin(self):
        """A CNI plugin that gives no network but remembers what was lent: a file a namespace, gone with its DEL."""
        self.plugins = os.path.join(self.scratch, 'plugins')
        os.makedirs(self.plugins)
        os.makedirs(self.networks)
        program = os.path.join(self.plugins, 'remember')
        with open(program, 'w') as f:
            f.write(f'''#!/bin/sh
cat >/dev/null
case $CNI_COMMAND in
  ADD) : >"{self.networks}/$CNI_CONTAINERID" ;;
  DEL) rm -f "{self.networks}/$CNI_CONTAINERID" ;;
esac
echo '{{"cniVersion": "1.0.0", "interfaces": [{{"name": "eth0", "sandbox": "'"$CNI_NETNS"'"}}],'
echo '"ips": [{{"address": "10.0.0.2/32", "interface": 0}}]}}'
''')
        os.chmod(program, 0o755)
        with open(os.path.join(self.plugins, 'net.json'), 'w') as f:
            json.dump({'cniVersion': '1.0.0', 'name': 'soak', 'type': 'remember'}, f)

    # ---------------------------------------------------------------- life

    def start(self):
        with open(self.log_path, 'ab') as log:
            self.process = subprocess.Popen(
                [self.kilnd, '--config', os.path.join(self.scratch, 'soak.toml'), '--root', self.state,
                 '--addr', f'unix://{self.socket}'], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if not until(START_SECONDS, lambda: self.process.poll() is not None or self._answers()):
            raise RuntimeError(f'the daemon does not answer after {START_SECONDS} s')
        if self.process.poll() is not None:
            raise RuntimeError(f'the daemon ended at its start with {self.process.returncode}')

    def _answers(self):
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(self.socket)
            except OSError:
                return False
        return self.control('debug', 'info').returncode == 0

    def kill(self):
        self.process.kill()
        self.process.wait()

    def signal(self, which):
        self.process.send_signal(which)

    def ended(self, seconds=STOP_SECONDS):
        """Whether it ended in time and well, after a signal."""
        try:
            return self.process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            self.kill()
            return False

    def stop(self):
        self.signal(signal.SIGTERM)
        return self.ended()

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def command(self, arguments):
        return [self.kilnctl, '--addr', f'unix://{self.socket}'] + arguments

    def control(self, *arguments, seconds=120):
        return subprocess.run(self.command(list(arguments)), capture_output=True, text=True, timeout=seconds)

    # ---------------------------------------------------------------- measures

    def status(self, key):
        with open(f'/proc/{self.process.pid}/status') as f:
            for line in f:
                if line.startswith(key + ':'):
                    return int(line.split()[1])
        return 0

    def memory(self):
        """Bytes of memory that are its own; pages of the database, which the kernel may drop, not counted."""
        return self.status('RssAnon') * 1024

    def descriptors(self):
        """Kinds of what it has open, and how many of each."""
        kinds = collections.Counter()
        for fd in entries(f'/proc/{self.process.pid}/fd'):
            try:
                target = os.readlink(f'/proc/{self.process.pid}/fd/{fd}').replace(self.scratch, '')
                kinds[re.sub(r'\d+', 'N', target)] += 1
            except FileNotFoundError:
                pass
        return kinds

    def usage(self):
        answer = self.control('du', '--format', '{{json .}}')
        if answer.returncode != 0:
            raise RuntimeError('du: ' + answer.stderr)
        return json.loads(answer.stdout) or []

    def mounts(self):
        with open(f'/proc/{self.process.pid}/mountinfo') as f:
            return sorted(line.split()[4] for line in f if self.scratch in line.split()[4])

    # ---------------------------------------------------------------- what is left

    def idle(self, seconds=60):
        """Waits until nothing is in use: True when that came about."""
        return until(seconds, lambda: not any(r['inUse'] for r in self.usage())
                     and not self.groups() and not self.processes(), 0.1)

    def groups(self):
        found = []
        for hierarchy in [CGROUPS] + [os.path.join(CGROUPS, name) for name in entries(CGROUPS)]:
            own = os.path.join(hierarchy, self.cgroup, 'buildkit')
            found += [os.path.join(own, name) for name in entries(own) if os.path.isdir(os.path.join(own, name))]
        return found

    def drop_groups(self):
        """The parent of its groups is ours, so it goes with us."""
        for hierarchy in [CGROUPS] + [os.path.join(CGROUPS, name) for name in entries(CGROUPS)]:
            for directory, _, _ in os.walk(os.path.join(hierarchy, self.cgroup), topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:
                    pass  # what still runs there has been told of

    def processes(self):
        """Whatever runs in our control groups or names our state directory; not the dead that wait for a parent."""
        found = []
        for pid in entries('/proc'):
            if not pid.isdigit() or int(pid) in (os.getpid(), self.process.pid if self.process else 0):
                continue
            try:
                with open(f'/proc/{pid}/stat') as f:
                    if f.read().rpartition(')')[2].split()[0] == 'Z':
                        continue
                with open(f'/proc/{pid}/cgroup') as f:
                    ours = f'/{self.cgroup}/' in f.read()
                with open(f'/proc/{pid}/cmdline') as f:
                    words = f.read().replace('\0', ' ')
            except (FileNotFoundError, ProcessLookupError):
                continue
            if ours or self.state + '/' in words:
                found.append(f'{pid} {words[:120]}')
        return found

    def files(self):
        """All paths of the state but for what the cache is, snapshots and blobs, and what each container gets."""
        found = set()
        for directory, names, files in os.walk(self.state):
            place = os.path.relpath(directory, self.state)
            found.update(os.path.normpath(os.path.join(place, name)) for name in names + files)
            if place == '.':
                names[:] = [name for name in names if name not in ('snapshots', 'blobs')]
        return found - set(MADE_WITH_FIRST_STEP)

    def remember(self):
        """Takes what a fresh daemon has as the measure for later."""
        self.baseline = {'mounts': self.mounts(), 'descriptors': self.descriptors(),
                         'networks': entries(self.networks), 'files': self.files()}

    def leftovers(self):
        """What an idle daemon has that it should not; an empty list is good."""
        left = []
        if not self.idle():
            left += [f'lease: {r["id"]} is in use' for r in self.usage() if r['inUse']]
        left += [f'process: {p}' for p in self.processes()]
        left += [f'cgroup: {g}' for g in self.groups()]
        left += [f'mount: {m}' for m in self.mounts() if m not in self.baseline['mounts']]
        with open('/proc/self/mountinfo') as f:
            left += [f'mount on the host: {line.split()[4]}' for line in f if self.scratch in line]
        left += [f'network namespace: {n}' for n in entries(self.networks) if n not in self.baseline['networks']]
        def new_files():
            return self.files() - self.baseline['files']
        if not until(10, lambda: not new_files(), 0.1):
            left += [f'file: {name}' for name in sorted(new_files())]
        blobs = os.path.join(self.state, 'blobs')
        left += [f'label without a blob: {name}' for name in entries(os.path.join(blobs, 'labels'))
                 if not os.path.exists(os.path.join(blobs, name.replace('-', '/', 1)))]
        # What was not brought to its end may wait for more, if the ledger has it.
        known = {r['id'].replace(':', '-') for r in self.usage()}
        partial = entries(os.path.join(self.state, 'blobs/ingest'))
        left += [f'file: blobs/ingest/{name}' for name in partial if name not in known]
        def more():
            return self.descriptors() - self.baseline['descriptors']
        if not until(10, lambda: more()['socket:[N]'] <= SOCKET_TOLERANCE
                     and more().total() - more()['socket:[N]'] <= FD_TOLERANCE, 0.1):
            left.append(f'file descriptors, more than when it was new: {dict(more())}')
        return left

    def history(self):
        """Files of documents that the history keeps, each with its label. They are bounded by number and bytes of
        their own and no part of the ledger."""
        found = []
        blobs = os.path.join(self.state, 'blobs')
        for name in entries(os.path.join(blobs, 'labels')):
            label = os.path.join(blobs, 'labels', name)
            try:
                with open(label) as f:
                    if 'kiln.keep.history' in f.read():
                        found += [label, os.path.join(blobs, name.replace('-', '/', 1))]
            except FileNotFoundError:
                pass
        return found

    def documents(self):
        """Manifests, configs and statements, which are JSON: they go an hour after nothing names them."""
        found = []
        for name in entries(os.path.join(self.state, 'blobs/sha256')):
            path = os.path.join(self.state, 'blobs/sha256', name)
            try:
                with open(path, 'rb') as f:
                    if f.read(1) == b'{':
                        found.append(path)
            except FileNotFoundError:
                pass
        return found

    def disk(self):
        """Bytes in the ledger; bytes on disk, of snapshots and of blobs but for documents and the history's."""
        return (sum(r['size'] for r in self.usage()), bytes_on_disk(os.path.join(self.state, 'snapshots')),
                bytes_on_disk(os.path.join(self.state, 'blobs')) - allocated({*self.history(), *self.documents()}))

    def shared(self):
        """Bytes that several snapshots have by hard links: they are on disk once, in the ledger with each."""
        root = os.path.join(self.state, 'snapshots')
        return sum(bytes_on_disk(os.path.join(root, name)) for name in entries(root)) - bytes_on_disk(root)

    def disk_difference(self):
        """What of the disk the ledger has wrong; an empty list is good."""
        ledger, snapshots, blobs = self.disk()
        disk = snapshots + blobs
        allowed = DISK_TOLERANCE_BYTES + DISK_TOLERANCE_PART * disk
        if disk - allowed <= ledger <= disk + self.shared() + allowed:
            return []
        return [f'disk: {snapshots} bytes of snapshots and {blobs} of blobs are there, du says {ledger}']
