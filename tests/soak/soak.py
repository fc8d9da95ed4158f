#!/usr/bin/env python3
"""The soak: mixed builds by several clients while others cancel, prune, kill and restart; then what is left is
looked for.

Three stages. First every build runs once on a quiet daemon: its answer is the one expected for the rest. Then builds
and faults by chance, most of the time. Then one daemon for the last part, with cancels and prunes but no kill, whose
memory is measured while it is idle. All chance comes from the seed; the processes' own timing does not.

`kills N` instead: the daemon is killed at N random points of builds and exports, its cache kept.
"""
import argparse
import collections
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

import builds
from daemon import Daemon, allocated, until

CLIENTS = 3  # builds at a time
VARIANTS = 2  # of every build
BUILD_SECONDS = 180  # after which one counts as hanging
PRUNE_SECONDS = 600  # hundreds of thousands of files, on a disk that others use
END_SECONDS = 30  # from a fault to the end of the client it hits
QUIET_PART = 0.4  # of the time, without kills
SAMPLES_MIN = 6  # of memory, or nothing is said about it
# Memory of the idle daemon: how much its median may grow from the first to the last third of the quiet part.
MEMORY_GROWTH_BYTES = 12 << 20
MEMORY_GROWTH_PART = 0.15
# On disk but not in the ledger when all is pruned: directories, which never shrink.
EMPTY_DISK_BYTES = 2 << 20
CHECK_EVERY = 50  # kills between two looks at everything

CLEAR = re.compile(r'error: .*(unavailable|cancell?ed|closed|reset|refused|broken pipe|no such file|stopping|'
                   r'shutting down|eof|terminated|connect)', re.IGNORECASE | re.DOTALL)


class Soak:
    def __init__(self, options, world, daemon):
        self.options, self.world, self.daemon = options, world, daemon
        self.rng = random.Random(options.seed)
        self.list = builds.builds_of(world)
        self.expected = {}
        self.wrong = []  # what must not be
        self.counts = collections.Counter()
        self.errors = collections.Counter()  # how clients said that they were hit
        self.numbers = iter(range(1 << 30))
        self.lock = threading.Condition()
        self.up = False
        self.faults = 0  # kills and second signals so far
        self.stops = 0  # first signals so far
        self.running = {}  # number → process
        self.fate = random.Random(f'{options.seed}/trouble')  # which faults there are, and when

    # ---------------------------------------------------------------- one build

    def make_job(self, number, variant, turn):
        directory = os.path.join(self.options.scratch, f'job{number}')
        return builds.Job(self.world, variant, os.path.join(directory, 'context'), os.path.join(directory, 'out'),
                          random.Random(f'{self.options.seed}/{number}'), turn)

    def blame(self, what):
        with self.lock:
            self.wrong.append(what)
        print(f'WRONG {what}', flush=True)

    def run_client(self, build, job, number):
        """Runs the client to its end: its exit code, and what hit it meanwhile."""
        with self.lock:
            self.lock.wait_for(lambda: self.up)
            faults, stops = self.faults, self.stops
            log = open(job.path('log'), 'wb')
            process = subprocess.Popen(self.daemon.command(build.command(job)), stdout=log, stderr=log,
                                       stdin=subprocess.DEVNULL)
            log.close()
            process.cancelled = None
            self.running[number] = process
        hit_at = None
        started = time.monotonic()
        while True:
            try:
                code = process.wait(0.5)
                break
            except subprocess.TimeoutExpired:
                now = time.monotonic()
                with self.lock:
                    hit = self.faults != faults or process.cancelled
                hit_at = hit_at or (now if hit else None)
                if now - started > BUILD_SECONDS or hit_at and now - hit_at > END_SECONDS:
                    code = None
                    process.kill()
                    process.wait()
                    break
        with self.lock:
            del self.running[number]
            self.lock.notify_all()
            return code, self.faults != faults, self.stops != stops, process.cancelled

    def run(self, build, variant, turn, expected=None):
        """One build and its verdict. Without an expected answer it must succeed, and its answer is returned."""
        number, blamed = next(self.numbers), len(self.wrong)
        job = self.make_job(number, variant, turn)
        build.prepare(job)
        code, hit, stopped, cancelled = self.run_client(build, job, number)
        name = f'build {number}, {build.name} ({variant})'
        answer = None
        good = code == 0 or code == 1 and build.fails_with and build.fails_with in job.log()
        if code is None:
            self.blame(f'{name}: did not end\n{job.log()[-2000:]}')
        elif good:
            try:
                answer = build.answer(job)
                if expected is not None and answer != expected:
                    self.blame(f'{name}: the result is {answer}, not {expected}')
                self.counts['ended with their own error' if build.fails_with else 'ended with the right result'] += 1
            except (builds.Wrong, OSError, KeyError) as e:
                self.blame(f'{name}: {type(e).__name__} {e}\n{job.log()[-2000:]}')
        elif cancelled and code == -cancelled:  # SIGINT before it had a handler, too
            self.counts['client killed'] += 1
        elif cancelled or hit or stopped:
            text = job.log()
            last = text[text.rfind('error: '):].strip() if 'error: ' in text else text[-300:]
            self.errors[re.sub(r'[0-9a-f]{12,}|/\S+|\d+', '…', last)[:160]] += 1
            how = 'cancelled by the client' if cancelled else 'ended with a clear error by a kill or stop'
            self.counts[how] += 1
            if not CLEAR.search(text):
                self.blame(f'{name}: not a clear error\n{text[-2000:]}')
        else:
            self.blame(f'{name}: failed without a fault\n{job.log()[-3000:]}')
        if len(self.wrong) == blamed:
            shutil.rmtree(os.path.dirname(job.context), ignore_errors=True)
        return answer

    # ---------------------------------------------------------------- stages

    def learn(self):
        """What every build gives when nothing disturbs it."""
        work = [(b, v) for b in self.list for v in range(VARIANTS)]
        def client():
            while True:
                with self.lock:
                    if not work:
                        return
                    build, variant = work.pop()
                answer = self.run(build, variant, 'learn')
                with self.lock:
                    self.expected[build.name, variant] = answer
        self.in_threads([client] * CLIENTS)
        if self.wrong:
            raise RuntimeError('the builds do not even run on a quiet daemon')

    def clients_until(self, deadline, trouble):
        """Builds by several clients until the deadline, with trouble beside them."""
        def client():
            while time.monotonic() < deadline:
                with self.lock:
                    build, variant = self.rng.choice(self.list), self.rng.randrange(VARIANTS)
                    # Some turns come again: then the steps are cached, unless somebody pruned.
                    turn = str(self.rng.randrange(3) if self.rng.random() < 0.3 else self.rng.random())
                self.run(build, variant, turn, self.expected[build.name, variant])
        self.in_threads([client] * CLIENTS + [lambda: trouble(deadline)])

    def in_threads(self, functions):
        failures = []
        def guarded(f):
            try:
                f()
            except BaseException as e:  # a fault of the soak itself ends it, below
                failures.append(e)
        threads = [threading.Thread(target=guarded, args=(f,), daemon=True) for f in functions]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if failures:
            raise failures[0]

    def pause(self, seconds):
        """Chance is what this waits for."""
        time.sleep(max(0, seconds))

    def trouble(self, deadline, kinds):
        rng = self.fate
        kinds = [k for k in kinds if not self.options.faults or k in self.options.faults.split(',')]
        if not kinds:
            return
        while time.monotonic() < deadline:
            self.pause(min(rng.uniform(0.2, 4), deadline - time.monotonic()))
            kind = rng.choice(kinds)
            self.counts['fault: ' + kind] += 1
            getattr(self, 'do_' + kind)(rng)

    def somebody(self, rng, which):
        with self.lock:
            free = [p for p in self.running.values() if not p.cancelled]
            if free:
                process = rng.choice(free)
                process.cancelled = which
                process.send_signal(which)

    def do_cancel(self, rng):
        self.somebody(rng, signal.SIGINT)

    def do_client_kill(self, rng):
        self.somebody(rng, signal.SIGKILL)

    def do_prune(self, rng):
        self.prune(rng.choice([[], ['--keep-storage', '20'], ['--all']]))

    def prune(self, flags):
        answer = self.daemon.control('prune', *flags, seconds=PRUNE_SECONDS)
        if answer.returncode != 0:
            self.blame(f'prune {" ".join(flags)}: {answer.stderr}')

    def do_forget(self, rng):
        answer = self.daemon.control('prune-histories', seconds=PRUNE_SECONDS)
        if answer.returncode != 0 and 'is running' not in answer.stderr:  # what runs has no history yet
            self.blame(f'prune-histories: {answer.stderr}')

    def restarted(self):
        self.daemon.start()
        with self.lock:
            self.up = True
            self.lock.notify_all()

    def do_kill(self, rng):
        with self.lock:
            self.up = False
            self.faults += 1
            self.daemon.kill()
        self.restarted()

    def do_stop(self, rng):
        """SIGTERM; builds may end, or a second signal cuts them short."""
        with self.lock:
            self.up = False
            self.stops += 1
            self.daemon.signal(signal.SIGTERM)
        if rng.random() < 0.5:
            self.pause(rng.uniform(0, 1))
            with self.lock:
                self.faults += 1
                if self.daemon.alive():
                    self.daemon.signal(signal.SIGTERM)
        if not self.daemon.ended(BUILD_SECONDS):
            self.blame('the daemon did not end well after SIGTERM')
        self.restarted()

    # ---------------------------------------------------------------- memory

    def idle_memory(self):
        """The least of what it has while nothing runs: it gives memory back when it finds itself idle."""
        if not self.daemon.idle():
            return
        least, since = self.daemon.memory(), time.monotonic()
        while time.monotonic() - since < 2.5:
            now = self.daemon.memory()
            if now < least:
                least, since = now, time.monotonic()
            time.sleep(0.1)
        self.samples.append((time.monotonic(), least, self.counts.total()))

    def quiet_part(self, deadline):
        """Without kills: the same daemon, measured between rounds of builds."""
        self.samples = []
        began = time.monotonic()
        rounds = max(SAMPLES_MIN, int((deadline - began) / 20))
        for i in range(rounds):
            self.clients_until(began + (deadline - began) * (i + 1) / rounds,
                               lambda end: self.trouble(end, ['cancel', 'cancel', 'client_kill', 'prune', 'forget']))
            self.idle_memory()
        values = [s[1] for s in self.samples]
        third = len(values) // 3
        if len(values) < SAMPLES_MIN:
            self.blame(f'only {len(values)} samples of memory: the daemon is never idle')
            return
        # The first third is when pools and caches fill.
        first, last = (int(statistics.median(part)) for part in (values[third:2 * third], values[-third:]))
        self.memory = first, last
        if last - first > max(MEMORY_GROWTH_BYTES, MEMORY_GROWTH_PART * first):
            self.blame(f'memory grows: {first >> 10} KiB, later {last >> 10} KiB')

    # ---------------------------------------------------------------- in the end

    def last_look(self):
        for left in self.daemon.leftovers() + self.daemon.disk_difference():
            self.blame(left)
        self.figures['documents'] = f'{allocated(self.daemon.documents())} bytes'
        self.figures['kept by the history'] = f'{allocated(self.daemon.history())} bytes'
        self.figures['ledger / snapshots + blobs, cache kept'] = '{} / {} + {} bytes'.format(*self.daemon.disk())
        # Everything is there still, or is made again: the right results come from either.
        for build in self.list:
            self.run(build, 0, 'last', self.expected[build.name, 0])
        self.daemon.idle()  # what is in use is not pruned; what stays so is found below
        self.do_forget(None)
        if not until(END_SECONDS, lambda: not self.daemon.history()):
            self.blame(f'{len(self.daemon.history())} files of the history are left after prune-histories')
        for flags in [], ['--all']:
            self.prune(flags)
            command = ' '.join(['prune'] + flags)
            ledger, snapshots, blobs = self.daemon.disk()
            self.figures[f'ledger / snapshots + blobs, after {command}'] = f'{ledger} / {snapshots} + {blobs} bytes'
            if snapshots + blobs - ledger > EMPTY_DISK_BYTES or flags and ledger:
                self.blame(f'after {command} du says {ledger} bytes, but there are {snapshots} of snapshots and '
                           f'{blobs} of blobs')
        for left in self.daemon.leftovers() + self.daemon.documents():
            self.blame('after prune --all: ' + left)
        if not self.daemon.stop():
            self.blame('the daemon did not end well')

    def soak(self):
        began = time.monotonic()
        self.figures = {}
        self.restarted()
        self.daemon.remember()
        self.learn()
        deadline = began + self.options.seconds
        turn = deadline - (deadline - time.monotonic()) * QUIET_PART
        self.clients_until(turn, lambda end: self.trouble(
            end, ['cancel', 'cancel', 'client_kill', 'prune', 'kill', 'kill', 'stop']))
        self.do_kill(None)
        self.quiet_part(deadline)
        self.last_look()
        self.figures['time'] = f'{time.monotonic() - began:.0f} s'
        if getattr(self, 'memory', None):
            first, last = (m >> 10 for m in self.memory)
            self.figures['memory, idle'] = (f'{first} KiB in the second third, {last} KiB in the last, '
                                            f'of {len(self.samples)} samples')

    # ---------------------------------------------------------------- kills

    def kills(self):
        began = time.monotonic()
        self.figures = {}
        self.restarted()
        self.daemon.remember()
        self.learn()
        longest = {}
        for i in range(1, self.options.kills + 1):
            build, variant = self.rng.choice(self.list), self.rng.randrange(VARIANTS)
            delay = self.rng.uniform(0, longest.get(build.name, 1.5))
            killer = threading.Timer(delay, lambda: self.do_kill(None))
            faults, started = self.faults, time.monotonic()
            killer.start()
            self.run(build, variant, str(i), self.expected[build.name, variant])
            if self.faults == faults:  # it was quicker: aim better the next time
                longest[build.name] = time.monotonic() - started
                self.counts['kills after the end'] += 1
            killer.join()
            if i % CHECK_EVERY == 0 or i == self.options.kills:
                for left in self.daemon.leftovers() + self.daemon.disk_difference():
                    self.blame(f'after {i} kills: {left}')
                check = self.list[(i // CHECK_EVERY) % len(self.list)]
                self.run(check, 0, 'learn', self.expected[check.name, 0])
                print('{} kills: {} bytes in the ledger, {} + {} on disk, {:.0f} s'.format(
                    i, *self.daemon.disk(), time.monotonic() - began), flush=True)
        self.last_look()
        self.figures['time'] = f'{time.monotonic() - began:.0f} s'

    # ---------------------------------------------------------------- what came of it

    def table(self):
        rows = list(sorted(self.counts.items())) + list(self.figures.items())
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            print(f'{name:<{width}}  {value}')
        for text, count in self.errors.most_common():
            print(f'  {count} × {text}')
        print(f'seed {self.options.seed}, {len(self.wrong)} wrong')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--seconds', type=float, default=180)
    parser.add_argument('--kills', type=int, default=0)
    parser.add_argument('--seed', type=int, default=0)
    for name in ('scratch', 'kilnd', 'kilnctl', 'registry', 'files-url', 'secret', 'ssh-agent', 'ask-agent'):
        parser.add_argument('--' + name, required=True)
    parser.add_argument('--tiny-frontend', default='')
    parser.add_argument('--frontend', default='')
    parser.add_argument('--faults', default='', help='only these, separated by commas')
    o = parser.parse_args()
    world = builds.World(o.registry, o.files_url, o.secret, o.ssh_agent, o.ask_agent, o.tiny_frontend, o.frontend)
    daemon = Daemon(o.kilnd, o.kilnctl, o.scratch, str(os.getpid()), o.registry)
    soak = Soak(o, world, daemon)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('told to stop'))  # the daemon ends with us
    try:
        soak.kills() if o.kills else soak.soak()
    finally:
        if daemon.alive():
            daemon.kill()
        daemon.drop_groups()
        soak.table()
    return 1 if soak.wrong else 0


if __name__ == '__main__':
    sys.exit(main())
