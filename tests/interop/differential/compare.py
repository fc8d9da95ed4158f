#!/usr/bin/env python3
"""Builds generated cases through Kiln, twice, and through a reference daemon if there is one, and compares what
comes out: the files (names, kinds, modes, owners, sizes, digests, links), the image's config, and whether there
was an error at all.
"""
import argparse
import copy
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import generate  # noqa: E402

TIMEOUT = 120  # seconds of one build


def write_case(case, directory):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for path, kind, text, mode in case["entries"]:
        at = directory / path
        at.parent.mkdir(parents=True, exist_ok=True)
        try:
            if kind == "dir":
                at.mkdir()
            elif kind == "link":
                at.symlink_to(text)
            elif kind == "hard":
                os.link(directory / text, at)
            else:
                at.write_text(text)
        except OSError:
            continue  # a case made smaller lacks what this stands on
        if kind in ("dir", "file"):
            at.chmod(mode)
    for base, names, files in os.walk(directory, topdown=False):
        for name in names + files:
            os.utime(os.path.join(base, name), (generate.TIME, generate.TIME), follow_symlinks=False)
    (directory / ".dockerignore").write_text(case["ignore"])
    (directory / "Dockerfile").write_text("\n".join(case["dockerfile"]) + "\n")
    for name in (".dockerignore", "Dockerfile", "."):
        os.utime(directory / name, (generate.TIME, generate.TIME))


def files_of(tar_bytes):
    out = {}
    with tarfile.open(fileobj=io.BytesIO(tar_bytes)) as tar:
        for m in tar:
            content = hashlib.sha256(tar.extractfile(m).read()).hexdigest()[:16] if m.isreg() else ""
            kind = {tarfile.REGTYPE: "f", tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.LNKTYPE: "h",
                    tarfile.FIFOTYPE: "p"}.get(m.type, m.type.decode())
            # Of the context, or of the build: when exactly, no two builds agree.
            age = "old" if int(m.mtime) == generate.TIME else "new"
            device = f"{m.devmajor}:{m.devminor}" if m.isdev() else ""
            name = "/" + m.name.removeprefix("./").strip("/")
            out[name] = f"{kind} {m.mode & 0o7777:o} {m.uid}:{m.gid} {m.size} {m.linkname} {content}{device} {age}"
    return out


def config_of(tar_bytes):
    with tarfile.open(fileobj=io.BytesIO(tar_bytes)) as tar:
        def load(name):
            return json.load(tar.extractfile(name))

        def blob(d):
            return load("blobs/" + d["digest"].replace(":", "/"))
        manifest = blob(load("index.json")["manifests"][0])
        while "manifests" in manifest:
            manifest = blob(manifest["manifests"][0])
        config = blob(manifest["config"])
    layers = len(config["rootfs"].pop("diff_ids", None) or [])
    config.pop("created", None)
    for entry in config.get("history", []):
        entry.pop("created", None)
    return {**config, "layers": layers}


class daemon:
    def __init__(self, client, address, scratch):
        self.client, self.address, self.scratch = client, address, scratch

    def build(self, case, directory, cached):
        """("ok", files, config) or ("error", text)."""
        tree, image = self.scratch / "tree.tar", self.scratch / "image.tar"
        command = [self.client, "--addr", self.address, "build", "--progress=plain", "--frontend=dockerfile.v0",
                   f"--local=context={directory}", f"--local=dockerfile={directory}"]
        for option in case["options"]:
            command += option
        if not cached:
            command.append("--no-cache")
        for file, kind in ((tree, "tar"), (image, "oci")):
            file.unlink(missing_ok=True)
            done = subprocess.run(command + ["--output", f"type={kind},dest={file}"], capture_output=True, timeout=TIMEOUT)
            if done.returncode != 0:
                return ("error", done.stderr.decode(errors="replace")[-600:])
            if "--no-cache" in command:
                command.remove("--no-cache")
        return ("ok", files_of(tree.read_bytes()), config_of(image.read_bytes()))


def difference(one, other):
    """What differs, as lines; nothing when they are the same."""
    if one[0] != other[0]:
        return [f"{one[0]} / {other[0]}: {(one if one[0] == 'error' else other)[1]}"]
    if one[0] == "error":
        return []
    lines = []
    for a, b in ((one[1], other[1]), ({k: json.dumps(v, sort_keys=True) for k, v in one[2].items()},
                                      {k: json.dumps(v, sort_keys=True) for k, v in other[2].items()})):
        for key in sorted(a.keys() | b.keys()):
            if a.get(key) != b.get(key):
                lines.append(f"{key}: {a.get(key)} / {b.get(key)}")
    return lines


def without_touched(outcome):
    """Without the times of directories, which the reference touches where Kiln does not: for mount stubs, by
    COPY --parents, and where a context is sent a second time and has other files."""
    if outcome[0] == "error":
        return outcome
    files = {name: line.rsplit(" ", 1)[0] if line.startswith("d ") else line for name, line in outcome[1].items()}
    return (outcome[0], files, outcome[2])


def examine(case, directory, kiln, reference):
    write_case(case, directory)
    first = kiln.build(case, directory, cached=False)
    lines = ["kiln without and with cache: " + line for line in difference(first, kiln.build(case, directory, cached=True))]
    if not lines:
        if reference:
            other = without_touched(reference.build(case, directory, cached=False))
            lines = [f"kiln / reference: {line}" for line in difference(without_touched(first), other)]
        else:
            once_more = kiln.build(case, directory, cached=False)
            lines = [f"kiln / once more: {line}" for line in difference(first, once_more)]
    return lines, first


def smaller(case):
    """The case with one thing less, in every way."""
    for key in ("dockerfile", "entries", "options"):
        for at in reversed(range(len(case[key]))):
            less = copy.deepcopy(case)
            del less[key][at]
            yield less
    lines = case["ignore"].splitlines(keepends=True)
    for at in range(len(lines)):
        yield {**case, "ignore": "".join(lines[:at] + lines[at + 1:])}


def reduce(case, check):
    """Makes it smaller as long as it still differs. Errors are not traded for other errors."""
    found = check(case)
    again = True
    while again:
        again = False
        for less in smaller(case):
            lines = check(less)
            if lines and lines[0].split(":")[0] == found[0].split(":")[0]:
                case, found, again = less, lines, True
                break
    return case, found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", required=True)
    parser.add_argument("--kiln", required=True)
    parser.add_argument("--reference")
    parser.add_argument("--scratch", required=True, type=pathlib.Path)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--no-reduce", action="store_true")
    args = parser.parse_args()
    args.scratch.mkdir(parents=True, exist_ok=True)
    kiln = daemon(args.client, args.kiln, args.scratch)
    reference = daemon(args.client, args.reference, args.scratch) if args.reference else None
    directory = args.scratch / "context"
    differ = built = 0
    for seed in range(args.first, args.first + args.count):
        case = generate.case(seed)
        lines, outcome = examine(case, directory, kiln, reference)
        built += outcome[0] == "ok"
        if not lines:
            continue
        differ += 1
        if not args.no_reduce:
            case, lines = reduce(case, lambda c: examine(c, directory, kiln, reference)[0])
        print(f"=== seed {seed}")
        print("\n".join(case["dockerfile"]))
        print("--- .dockerignore", case["ignore"], "--- context", *case["entries"], *case["options"], "--- differs", *lines,
              sep="\n", flush=True)
    print(f"{args.count} cases, {built} of them built, {differ} differ")
    sys.exit(1 if differ or built * 4 < args.count else 0)


if __name__ == "__main__":
    main()
