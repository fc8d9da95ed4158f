#!/usr/bin/env python3
"""Every setting has an effect that a test shows, or says that it has none.

Settings are taken from the code: the daemon's keys and flags (docs/configuration.md, which a test of the client
compares with configs/daemon_settings.hpp), the attributes that exporters and caches look up, the options that
frontends look up, and the fields of messages that clients and BuildKit's other programs send (descriptors by
protoc). For each of them settings.txt has a verdict. It is a failure when one has none, when a verdict is for
what there is not (any more), when a test that is named does not exist, or does not mention the setting.

Lines of settings.txt, in sections [daemon], [exporter], [cache], [frontend], [proto]:

    name = tests/x/y_test.cpp: name of the test case      its effect is shown there
    name = tests/interop/x.sh                              the same, by a script
    name = refused tests/…    name = warned tests/…        there is no effect: an error, or a warning, shown there
    name = unused: why                                     upstream does not use it either
    name = upstream SUITE testCase                         its effect is shown by a case of upstream's suites
    name = missing: what becomes of it                     said openly, as docs/compatibility.md says it
    … (word)                                               what the test calls it, where not by its last part
    name* = …                                              all that begin so and have no line of their own

`settings_test.py --missing` lists what has no verdict yet.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
own_protos = {"kiln_cluster.proto", "kiln_peer.proto", "store.proto"}  # between Kiln's nodes, or on its disk
served_by_grpc = {"reflection.proto", "reflection_v1alpha.proto", "health.proto"}  # others' services, whole


def text_of(path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def sources(*folders):
    for folder in folders:
        yield from sorted(glob.glob(os.path.join(root, folder, "*.cpp")))


# -- what there is ----------------------------------------------------------------------------------------------

def daemon_settings():
    """`table.key` of every row of the reference page's part on kilnd, or `--flag` where there is no key: one row is
    one setting, however it is given. What Kiln lacks is refused or warned about by its kind, which tests of
    configs/ show for all of them."""
    page = text_of("docs/configuration.md").split("\n# kilnctl\n")[0]
    table, names = "", []
    for line in page.splitlines():
        if line.startswith("## "):
            table = line[3:].strip("`[] ").replace("Before any table", "")
        if not line.startswith("| ") or line.startswith("| key "):
            continue
        if "| **refused**: " in line or "| **without effect**: " in line:
            continue
        key, flag = line[2:].split(" | ")[:2]
        names += [f"{table}.{k}" if table else k for k in re.findall(r"`([^`]+)`", key)] or re.findall(
            r"`(--[^`]+)`", flag)
    return names


# How readers look attributes and options up: what is read in no such way would not be seen here, so these are
# the ways there are.
attribute = r'"([a-z][\w.-]*)"'
option = r'"([\w:-]+)"'
exporter_lookups = [rf"\battrs\.(?:find|contains|at)\({attribute}", rf"\bflag\({attribute}", rf"\{{{attribute}, s\.\w+\}}"]
cache_lookups = [rf"\bcache_(?:text|setting|bool|positive)\(\s*\w+,\s*{attribute}",
                 rf"\b(?:attrs|attributes)\.(?:find|contains|at)\({attribute}", rf"\b(?:prefix_or|folder)\({attribute}"]
option_lookups = [rf"\bvalue_of\([\w.]+,\s*{option}", rf"\boptions\.(?:find|contains|at)\({option}",
                  rf"\bwith_prefix\(\w+,\s*{option}", rf"\b(?:number|cpus)\({option}"]


def looked_up(patterns, *folders):
    found = set()
    for path in sources(*folders):
        with open(path, encoding="utf-8") as file:
            code = file.read()
        for pattern in patterns:
            found.update(re.findall(pattern, code))
    return sorted(found)


def wire_fields(message):
    """(number, value) of each field of an encoded message."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = varint()
        kind = tag & 7
        if kind == 0:
            value = varint()
        else:
            size = varint() if kind == 2 else 8 if kind == 1 else 4
            value = message[at:at + size]
            at += size
        yield tag >> 3, value


def fields_of(descriptor, outer=""):
    """`Message.field` of a DescriptorProto and those in it, but for the entries of maps."""
    parts = list(wire_fields(descriptor))
    name = outer + next(v for n, v in parts if n == 1).decode()
    if any(n == 7 and any(k == 7 for k, _ in wire_fields(v)) for n, v in parts):
        return
    for number, value in parts:
        if number == 2:
            yield name + "." + next(v for k, v in wire_fields(value) if k == 1).decode()
        if number == 3:
            yield from fields_of(value, name + ".")


def proto_fields():
    folder = os.path.join(root, "messages/proto")
    found = []
    with tempfile.NamedTemporaryFile() as out:
        files = sorted(glob.glob(folder + "/*.proto"))
        subprocess.check_call(["protoc", "-I" + folder, "--descriptor_set_out=" + out.name, *files])
        for _, file in wire_fields(out.read()):
            parts = list(wire_fields(file))
            name = os.path.basename(next(v for n, v in parts if n == 1).decode())
            if name in own_protos | served_by_grpc:
                continue
            for number, value in parts:
                if number == 4:
                    found += [f"{name[:-6]}.{field}" for field in fields_of(value)]
    return found


def settings():
    return {"daemon": daemon_settings(),
            "exporter": looked_up(exporter_lookups, "exporters"),
            "cache": looked_up(cache_lookups, "exporters/cache"),
            "frontend": looked_up(option_lookups, "frontends", "frontends/*"),
            "proto": proto_fields()}


# -- what is said of it -----------------------------------------------------------------------------------------

def case_name(text):
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', text)).replace('\\"', '"')


def cases_of(path):
    """Test cases of a file by name, with what they do. Helpers above the first one belong to all, others to the
    case after them."""
    code = text_of(path)
    begins = list(re.finditer(r'TEST_CASE(?:_METHOD)?\(\s*(?:[\w:]+\s*,\s*)?((?:"(?:[^"\\]|\\.)*"\s*)+)', code))
    helpers = code[:begins[0].start()] if begins else ""
    ends = [b.start() for b in begins[1:]] + [len(code)]
    return {case_name(b.group(1)): helpers + code[code.rfind("\n}\n", 0, b.start()) + 1:end] for b, end in zip(begins, ends)}


def mentions(name, body):
    """Whether a test says a setting's name: as it is, or as protobuf's code for C++ has it."""
    word = re.escape(name.lstrip("-"))
    return re.search(rf"(?<![A-Za-z]){word}(?![A-Za-z])", body) or re.search(
        rf"\b(?:set_|mutable_|add_|has_|clear_)?{word.lower()}_?(?:_size)?\(", body)


class verdict:
    def __init__(self, text):
        self.text = text
        self.what, _, rest = text.partition(" ") if re.match(r"(refused|warned) ", text) else ("shown", "", text)
        word = re.search(r" \(([^()]+)\)$", rest)
        self.word = word.group(1) if word else None
        self.place = rest[:word.start()] if word else rest

    def fault(self, name):
        if re.match(r"(unused|missing): \S", self.text) or re.fullmatch(
                r"upstream (client|dockerfile|gateway) [tT]est\w+", self.text):
            return None
        path, _, case = self.place.partition(": ")
        if not os.path.isfile(os.path.join(root, path)):
            return f"names {path}, which does not exist"
        body = text_of(path)
        if path.endswith(".cpp"):
            cases = cases_of(path)
            if case not in cases:
                return f'names the test "{case}", which is not in {path}'
            body = cases[case]
        word = self.word or name.rstrip("*:").rsplit(".", 1)[-1]
        return None if mentions(word, body) else f'"{word}" is not mentioned by {self.place}'


def verdicts():
    found, section = {}, None
    for line in text_of("tests/settings/settings.txt").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
            continue
        name, _, text = line.partition(" = ")
        if name in section:
            yield_error(f"{name} has two lines")
        section[name.strip()] = verdict(text.strip())
    return found


errors = []


def yield_error(text):
    errors.append(text)


def main():
    told = verdicts()
    for family, names in settings().items():
        own = told.get(family, {})
        patterns = [n for n in own if n.endswith("*")]
        used = set()
        for name in names:
            line = name if name in own else next((p for p in patterns if name.startswith(p[:-1])), None)
            if line is None:
                yield_error(f"[{family}] {name}: no line in tests/settings/settings.txt")
                continue
            used.add(line)
            if fault := own[line].fault(name if line == name or not own[line].word else line):
                yield_error(f"[{family}] {name}: {fault}")
        for line in own.keys() - used:
            yield_error(f"[{family}] {line}: there is no such setting")
    if "--missing" in sys.argv:
        print("\n".join(e.split("] ", 1)[1].rsplit(": no line", 1)[0] for e in errors if "no line" in e))
        return 0
    print("\n".join(errors) if errors else f"{sum(map(len, settings().values()))} settings have their tests")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
