#!/usr/bin/env python3
"""What a process has opened: device_opens.py TRACE MAJOR:MINOR… < threads

TRACE is of `strace -f -yy`; on standard input are the threads the process had when tracing began. Prints its opens of
these devices, and of FIFOs whose name is fifo, not those of its children. Opens with O_PATH open nothing.
"""
import re
import sys

trace = sys.argv[1]
wanted = [re.compile("= [0-9]+<.*<(char|block) " + re.escape(device)) for device in sys.argv[2:]]
wanted.append(re.compile(r"= [0-9]+<.*/fifo>"))
line_of = re.compile(r"^(\d+) +(.*)$")
ours, pending = {int(word) for word in sys.stdin.read().split()}, {}
with open(trace, errors="replace") as lines:
    for line in lines:
        match = line_of.match(line)
        if not match:
            continue
        thread, call = int(match[1]), match[2]
        if call.endswith("<unfinished ...>\n") or call.endswith("<unfinished ...>"):
            pending[thread] = call.split("<unfinished ...>")[0]
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)$", call)
        if resumed:
            call = pending.pop(thread, "") + resumed[1]
        made = re.match(r"(clone3?|v?fork)\(.*= (\d+)", call)
        if made and "CLONE_THREAD" in call and thread in ours:
            ours.add(int(made[2]))
        if thread in ours and call.startswith("open") and "O_PATH" not in call and any(w.search(call) for w in wanted):
            print(call.strip())
