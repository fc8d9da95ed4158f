#!/usr/bin/env python3
"""What a process has opened: device_opens.py TRACE NAME… < threads

TRACE is of `strace -f -y`; on standard input are the threads the process had when tracing began. Prints its opens of
what has one of these names, not those of its children. Opens with O_PATH open nothing.
"""
import re
import sys

trace = sys.argv[1]
opened = re.compile(r"= [0-9]+<(.*/)?(" + "|".join(re.escape(name) for name in sys.argv[2:]) + ")(<.*>)?>$")
ours, pending = {int(word) for word in sys.stdin.read().split()}, {}
with open(trace, errors="replace") as lines:
    for line in lines:
        match = re.match(r"^(\d+) +(.*)$", line)
        if not match:
            continue
        thread, call = int(match[1]), match[2]
        if call.endswith("<unfinished ...>"):
            pending[thread] = call[: -len("<unfinished ...>")]
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)$", call)
        if resumed:
            call = pending.pop(thread, "") + resumed[1]
        made = re.match(r"clone3?\(.*CLONE_THREAD.*= (\d+)", call)
        if made and thread in ours:
            ours.add(int(made[1]))
        if thread in ours and call.startswith("open") and "O_PATH" not in call and opened.search(call):
            print(call)
