#!/usr/bin/env python3
"""Source files compiled as one: unity_groups.py FOLDER SIZE ALONE FILE... writes FOLDER/*.cpp, each including up to SIZE of
these files (ALONE: a ;-list of those that must not), and prints a ;-list of what is to be compiled.

Most of the time a file takes is spent on the headers it shares with its neighbours, and instrumented that is minutes.
Neighbours in one folder go together, unless both have something of the same name at the left margin (private functions of
two files, say). Names are found by the look of a line: one that is missed ends in a compiler error.
"""
import collections
import functools
import os
import re
import sys

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@functools.cache
def names(path):
    """What a file has at the left margin: names only it sees, with what they stand for; names others see, those of all headers of ours it
    includes too; namespaces it opens for all that comes after (kiln, which every test opens, and std aside)."""
    private, seen, opened, hidden = {}, set(), set(), False
    for line in open(path, encoding="utf-8"):
        if header := re.match(r'#include "(.*)"', line):
            for folder in (os.path.dirname(path), root):
                if os.path.exists(other := os.path.join(folder, header[1])):
                    _, theirs, _ = names(other)
                    seen |= theirs
                    break
        hidden = hidden and not line.startswith("}  // namespace") or line.startswith("namespace {")
        if not line[:1].isalpha() or line.startswith(("template", "return", "public", "private")):
            continue
        if directive := re.match(r"using namespace (?!kiln;|std\b)([\w:]+);", line):
            opened.add(directive[1])
        elif alias := re.match(r"namespace (\w+) = (.*);", line):
            private[alias[1]] = alias[2]
        elif kind := re.match(r"(?:struct|class|enum class|enum|union) (\w+)|using (\w+) =", line):
            name = kind[1] or kind[2]
            private.update({name: path}) if hidden else seen.add(name)
        elif not line.startswith(("using", "namespace")):
            head = re.split(r"[({=;]", line)[0].rstrip()
            word = re.search(r"([\w:~]+)(?:\[\w*\])*$", head)
            if word and "::" not in word[1] and not word[1].isupper():
                private.update({word[1]: path}) if hidden or line.startswith("static") else seen.add(word[1])
    return private, seen, opened


def groups(size, paths):
    made = []
    for path in paths:
        private, seen, opened = names(path)
        for files, privates, all_seen, all_opened in made:
            if (len(files) < size and opened == all_opened
                    and all(privates.get(name, what) == what and name not in all_seen for name, what in private.items())
                    and privates.keys().isdisjoint(seen)):
                break
        else:
            files, privates, all_seen = [], {}, set()
            made.append((files, privates, all_seen, opened))
        files.append(path)
        privates.update(private)
        all_seen |= seen
    return [files for files, *_ in made]


def main(folder, size, alone, *paths):
    os.makedirs(folder, exist_ok=True)
    wanted, compiled = {}, []
    alone = [os.path.join(root, path) for path in alone.split(";")]
    by_folder = collections.defaultdict(list)
    for path in paths:
        if path in alone:
            compiled.append(path)
        else:
            by_folder[os.path.dirname(path)].append(path)
    for where, files in by_folder.items():
        for number, group in enumerate(groups(int(size), files)):
            if len(group) == 1:
                compiled += group
                continue
            name = f"{os.path.relpath(where, root).replace('/', '_')}_{number}.cpp"
            wanted[name] = "".join(f'#include "{os.path.relpath(path, root)}"\n' for path in group)
            compiled.append(os.path.join(folder, name))
    for name in set(os.listdir(folder)) - wanted.keys():
        os.remove(os.path.join(folder, name))
    for name, text in wanted.items():
        path = os.path.join(folder, name)
        if not os.path.exists(path) or open(path, encoding="utf-8").read() != text:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
    print(";".join(compiled), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
