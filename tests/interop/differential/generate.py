"""A build context made from a seed: files of all kinds, a .dockerignore, a Dockerfile of several stages.

A case is plain data (a dict of texts and a list of entries), so that it can be made smaller and written to disk again.
"""
import random

NAMES = ["a", "b.txt", "c.o", "d", "keep.o", ".hidden", "a b", "é", "-x", "x[1]", "sub", "deep", "lib.so", "Makefile"]
MODES = [0o644, 0o755, 0o600, 0o4755, 0o664, 0o400]
OWNERS = ["0:0", "1:2", "1000", "nobody", "nobody:bin", "root", "0:7"]
CHMODS = ["755", "0640", "u=rwX,go=rX", "a+x", "go-r", "1777", "+t", "u=rw,g=u,o="]
TIME = 1_600_000_000


def entries(rng):
    """Files, directories and links of a context: (path, kind, content or target, mode)."""
    out, directories = [], [""]
    for _ in range(rng.randint(4, 14)):
        parent = rng.choice(directories)
        path = (parent + "/" if parent else "") + rng.choice(NAMES)
        if any(e[0] == path for e in out):
            continue
        kind = rng.choice(["file"] * 5 + ["dir"] * 3 + ["link"] * 2 + ["hard"])
        if kind == "dir" and path.count("/") < 3:
            directories.append(path)
            out.append((path, "dir", "", rng.choice([0o755, 0o700, 0o1777, 0o2755])))
        elif kind == "link":
            out.append((path, "link", rng.choice(["a", "b.txt", "sub", "../a", "/etc/passwd", "nowhere", "."]), 0o777))
        elif kind == "hard" and any(e[1] == "file" for e in out):
            out.append((path, "hard", rng.choice([e[0] for e in out if e[1] == "file"]), 0))
        else:
            out.append((path, "file", rng.choice(["", "x\n", path, "line\n" * rng.randint(1, 50)]), rng.choice(MODES)))
    return out


def pattern(rng, paths):
    """A path of the context, or something like one."""
    path = rng.choice(paths) if paths else "a"
    parts = path.split("/")
    form = rng.randint(0, 9)
    if form == 0:
        return "/".join(parts[:-1] + ["*"])
    if form == 1:
        return "*." + rng.choice(["o", "txt"])
    if form == 2:
        return "/" + path
    if form == 3:
        return "?" + path[1:]
    if form == 4:
        return "[a-d]*"
    if form == 5 and len(parts) > 1:
        return "/".join(["*"] + parts[1:])
    if form == 6:
        return path + "/"
    return path


def ignore(rng, paths):
    lines = []
    for _ in range(rng.choice([0, 0, 1, 2, 4])):
        line = rng.choice(["", "", "", "!", "**/", "!**/", "./", "# "]) + pattern(rng, paths)
        lines.append(rng.choice([line, line, line + "  ", line + "/**"]))
    return "".join(line + "\n" for line in lines)


class writer:
    def __init__(self, rng, files):
        self.rng, self.stages, self.arguments = rng, [], ["A"]
        self.paths = [e[0] for e in files]
        self.solid = [e[0] for e in files if e[1] in ("file", "dir")]

    def word(self):
        """A word with or without variables in it."""
        rng, name = self.rng, self.rng.choice(self.arguments + ["PATH", "UNSET"])
        return rng.choice([
            "plain", "two\\ words", '"quoted $%s"' % name, "'single $%s'" % name, "$%s" % name, "${%s}x" % name,
            "${%s:-dflt}" % name, "${%s:+set}" % name, "${%s-}" % name, "${%s#v}" % name, "${%s%%%%e*}" % name,
            "${%s/a/b}" % name, "${%s//l/$A}" % name, "\\$%s" % name, '"a\\"b"', "é"])

    def sources(self):
        return [pattern(self.rng, self.paths) for _ in range(self.rng.choice([1, 1, 1, 2]))]

    def copy(self):
        rng, flags = self.rng, []
        sources = self.sources()
        if self.stages and rng.random() < .3:
            flags.append("--from=" + rng.choice(self.stages))
            sources = [rng.choice(["/out", "/out/*", "/etc/passwd", "/w", "/dst/."])]
        if rng.random() < .3:
            flags.append("--chown=" + rng.choice(OWNERS if self.based else ["0:0", "1:2", "1000"]))
        if rng.random() < .3:
            flags.append("--chmod=" + rng.choice(CHMODS))
        if rng.random() < .2:
            flags.append("--link")
        if rng.random() < .15:
            # Of links that lead nowhere the reference copies those in directories and refuses others.
            flags.append("--parents")
            sources = [rng.choice(self.solid)] if self.solid and "--from" not in "".join(flags) else sources
        if rng.random() < .15:
            flags.append("--exclude=" + pattern(rng, self.paths))
        destination = rng.choice(["/dst/", "/dst/", "/dst/new", "rel/", ".", "/out/", "/dst/$A/", "/l/"])
        words = sources + [destination]
        keyword = rng.choice(["COPY", "COPY", "COPY", "ADD"]) if "--from" not in "".join(flags) else "COPY"
        if keyword == "ADD":
            flags = [f for f in flags if not f.startswith("--parents")]
        if any(" " in w for w in words) or rng.random() < .2:
            quoted = ", ".join('"%s"' % w.replace("\\", "\\\\").replace('"', '\\"') for w in words)
            return " ".join([keyword] + flags + ["[%s]" % quoted])
        return " ".join([keyword] + flags + words)

    def heredoc(self):
        rng = self.rng
        name = rng.choice(["EOF", "E", '"EOF"', "'E'", "-EOF"])
        end = name.strip("-\"'")
        body = "".join("\t" * rng.randint(0, 1) + self.word() + "\n" for _ in range(rng.randint(0, 3)))
        if self.based and rng.random() < .5:
            return f"RUN <<{name}\nmkdir -p /out\necho \"$A\" >/out/h\n{end}"
        return f"COPY <<{name} /dst/{rng.choice(['here', 'here.txt', 'h/'])}\n{body}{end}"

    def run(self):
        return "RUN " + self.rng.choice([
            "mkdir -p /out/d && echo hi >/out/d/f && ln -s d /out/s", "rm -rf /dst", "chmod 700 /tmp; true",
            "echo $A-${A:-x} >/w", "mkdir -p /l && cd /l && touch a && ln a b", "ln -sfn /out /l; true",
            "mkdir -p /out && chown -R 5:6 /out", "--mount=type=bind,target=/m mkdir -p /out && ls -A /m >/out/ls",
            "--mount=type=tmpfs,target=/t touch /t/x", '["/bin/sh", "-c", "echo json >/w"]', "rm -f /etc/group",
            "mkfifo /p; true", "mv /out /moved 2>/dev/null; true", "pwd >/w; id -u >>/w",
            "--network=none env | sort | grep -vE '^(HOSTNAME|TRACEPARENT|OTEL)' >/w"])

    def instruction(self):
        rng = self.rng
        kind = rng.choice(["copy"] * 6 + ["run"] * 4 + ["heredoc", "arg", "env", "env", "workdir", "label", "config", "onbuild"])
        if kind == "run" and not self.based:
            kind = "copy"
        if kind == "copy":
            return self.copy()
        if kind == "run":
            return self.run()
        if kind == "heredoc":
            return self.heredoc()
        if kind == "arg":
            self.arguments.append(rng.choice("BCD"))
            return f"ARG {self.arguments[-1]}" + rng.choice(["", "=" + self.word()])
        if kind == "env":
            self.arguments.append(rng.choice("EFG"))
            return f"ENV {self.arguments[-1]}" + rng.choice(["=" + self.word(), " " + self.word() + " tail"])
        if kind == "workdir":
            return "WORKDIR " + rng.choice(["/w/d", "rel", "$A", "/", "..", "/dst"])
        if kind == "label":
            return f"LABEL l{rng.randint(0, 3)}={self.word()}"
        if kind == "onbuild":
            return "ONBUILD " + rng.choice(["COPY . /onb/", "ENV O=1", "LABEL o=$A"])
        return rng.choice(["EXPOSE 80 443/udp", "VOLUME /v $A", "USER nobody", "USER 5:6", "CMD echo $A", 'CMD ["a", "$A"]',
                           'ENTRYPOINT ["/x"]', "STOPSIGNAL 9", "HEALTHCHECK --interval=3s CMD true", "HEALTHCHECK NONE",
                           'SHELL ["/bin/sh", "-ec"]', "MAINTAINER me <m@e>", "USER root"])

    def stage(self, number):
        rng = self.rng
        base = rng.choice(["scratch", "busybox", "busybox"] + self.stages)
        self.based = base != "scratch" and self.bases.get(base, True)
        self.bases[f"s{number}"] = self.based
        lines = [f"FROM {base} AS s{number}"]
        if rng.random() < .7:
            lines.append("ARG A")
        lines += [self.instruction() for _ in range(rng.randint(1, 7))]
        self.stages.append(f"s{number}")
        return lines

    def dockerfile(self):
        self.bases, lines = {}, ["ARG A=value"]
        for number in range(self.rng.choice([1, 1, 2, 3])):
            lines += self.stage(number)
        return lines


def case(seed):
    rng = random.Random(seed)
    files = entries(rng)
    paths = [e[0] for e in files]
    options = []
    if rng.random() < .2:
        options.append(["--opt", "build-arg:A=" + rng.choice(["", "vale", "a/b"])])
    return {"entries": files, "ignore": ignore(rng, paths), "dockerfile": writer(rng, files).dockerfile(), "options": options}
