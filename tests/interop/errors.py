"""errors.py REGISTRY CLIENT [FLAGS…]: builds every case of errors.txt and compares what the client says at the end.

A case of errors.txt: `== name`, then lines of
  | …   the Dockerfile (none: there is none)          $ …   arguments of `build`, as a shell splits them
  + FILE TEXT   a file beside it                      > …   what the client must end with: code (in front, unless
  ~ …   what BuildKit's daemon says where we say more       unknown) and text; {any} stands for anything
{reg} is the registry, {dir} the build's directory, {zeros} 64 zeros.
"""
import os
import re
import shlex
import subprocess
import sys
import tempfile

registry, command = sys.argv[1], sys.argv[2:]


def read_cases(path):
    cases = []
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        line = line.rstrip("\n")
        if not line or line.startswith("#"):
            continue
        kind, _, text = line.partition(" ")
        if kind == "==":
            cases.append({"name": text, "dockerfile": None, "arguments": [], "files": {}, "expected": None})
        elif kind == "|":
            cases[-1]["dockerfile"] = (cases[-1]["dockerfile"] or "") + (text + "\n" if text else "")
        elif kind == "$":
            cases[-1]["arguments"] = text
        elif kind == "+":
            name, _, content = text.partition(" ")
            cases[-1]["files"][name] = content
        elif kind == ">":
            cases[-1]["expected"] = text
        elif kind != "~":
            sys.exit(f"{path}:{number}: what is this? {line}")
    return cases


def run(case, directory):
    def filled(text):
        return text.replace("{reg}", registry).replace("{dir}", directory).replace("{zeros}", "0" * 64)

    if case["dockerfile"] is not None:
        case["files"]["Dockerfile"] = case["dockerfile"]
    for name, content in case["files"].items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(filled(content))
    arguments = shlex.split(filled(case["arguments"] or ""))
    frontend = [] if "--frontend" in arguments else ["--frontend", "dockerfile.v0"]
    done = subprocess.run(
        command + ["build", "--progress=plain", *frontend, "--local", "context=" + directory, "--local",
                   "dockerfile=" + directory, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120, check=False)
    said = done.stderr.decode(errors="replace")
    ends = [line for line in said.splitlines() if line.startswith("error: ")]
    told = ends[-1][len("error: "):] if ends else f"no error, status {done.returncode}"
    if done.returncode != 1 and ends:
        told = f"status {done.returncode}: {told}"
    pattern = re.escape(filled(case["expected"])).replace(re.escape("{any}"), ".*")
    return told if not re.fullmatch(pattern, told) else None


failed = 0
for case in read_cases(os.path.join(os.path.dirname(os.path.abspath(__file__)), "errors.txt")):
    with tempfile.TemporaryDirectory() as directory:
        told = run(case, directory)
    if told is None:
        print("ok", case["name"])
    else:
        failed += 1
        print(f"FAILED {case['name']}\n  expected {case['expected']}\n  got      {told}")
sys.exit(1 if failed else 0)
