#!/usr/bin/env python3
"""Which source files may be compiled as one: unity_groups.py SIZE FILE... prints "GROUP FILE" lines.

Most of the time a file takes is spent on the headers it shares with its neighbours, and instrumented that is
minutes. Files go into one group unless both have something of the same name at the left margin (private
functions of two files, say). Names are found by the look of a line: one that is missed ends in a compiler error.
"""
import os
import re
import sys

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def names(path):
    """What a file, and the headers of tests, of base/ or beside it that it includes, declare at the left margin, and where; of an alias what it stands for."""
    found = {}
    for line in open(path, encoding="utf-8"):
        if header := re.match(r'#include "((?:tests|base)/.*|[^/]*\.hpp)"', line):
            beside = root if "/" in header[1] else os.path.dirname(path)
            if os.path.exists(os.path.join(beside, header[1])):
                found.update(names(os.path.join(beside, header[1])))
        if not line[:1].isalpha() or line.startswith(("template", "return", "public", "private")):
            continue
        if alias := re.match(r"namespace (\w+) = (.*);", line):
            found[alias[1]] = alias[2]
        elif kind := re.match(r"(?:struct|class|enum class|enum|union) (\w+)|using (\w+) =", line):
            found[kind[1] or kind[2]] = path
        elif not line.startswith(("using", "namespace")):
            head = re.split(r"[({=;]", line)[0].rstrip()
            word = re.search(r"([\w:~]+)(?:\[\w*\])*$", head)
            if word and "::" not in word[1] and not word[1].isupper():
                found[word[1]] = path
    return found


def groups(size, paths):
    made = []
    for path in paths:
        mine = names(path)
        for files, taken in made:
            if len(files) < size and all(taken.get(name, what) == what for name, what in mine.items()):
                break
        else:
            files, taken = [], {}
            made.append((files, taken))
        files.append(path)
        taken.update(mine)
    return [files for files, _ in made]


if __name__ == "__main__":
    for number, files in enumerate(groups(int(sys.argv[1]), sys.argv[2:])):
        for file in files:
            print(number, file)
