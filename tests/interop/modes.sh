#!/usr/bin/env bash
# Modes in builds are what the Dockerfile, the context and the base say, whatever the umask of the daemon and the
# client: everything a build makes, under three umasks, is listed and compared with what it must be.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "needs root"
start_registry

# A base image: its tar has no entry for some directories.
root=$scratch/root
mkdir -p "$root"
tar -xf "$(busybox_tar)" -C "$root"
mkdir -p "$root/implied/deeper" "$root/shared"
chmod 1777 "$root/shared"
echo x >"$root/implied/deeper/file"
chmod 0666 "$root/implied/deeper/file"
tar --numeric-owner --owner=0 --group=0 --no-recursion -C "$root" -cf "$scratch/base.tar" \
  $(cd "$root" && find . ! -path ./implied ! -path ./implied/deeper | cut -c3- | sed '/^$/d')
push_image "$scratch/base.tar" test/modes:latest

context=$scratch/context
mkdir -p "$context/tree/sub"
echo x >"$context/tree/open"
chmod 0666 "$context/tree/open"
echo x >"$context/tree/tight"
chmod 0600 "$context/tree/tight"
echo x >"$context/tree/sub/setuid"
chmod 04755 "$context/tree/sub/setuid"
chmod 0777 "$context/tree"
chmod 02775 "$context/tree/sub"
tar --numeric-owner --owner=0 --group=0 -C "$root" -cf "$context/a.tar" implied/deeper/file

# Files by http, a repository by http.
web=$scratch/web
mkdir "$web"
echo x >"$web/file"
(
  umask 022
  cd "$scratch"
  git init -q -b main work
  cd work
  git config user.email a@example.org
  git config user.name a
  mkdir dir
  echo x >dir/plain
  echo x >dir/program
  chmod 755 dir/program
  git add -A
  git commit -q -m one
  git clone -q --bare . "$web/repo.git"
  git -C "$web/repo.git" update-server-info
)
port=$(free_port)
python3 -m http.server --bind 127.0.0.1 --directory "$web" "$port" >/dev/null 2>&1 &
pids+=($!)
wait_for 10 curl -fsS "http://127.0.0.1:$port/file" -o /dev/null || fail "the web server does not answer"

cat >"$context/Dockerfile" <<DOCKERFILE
FROM $registry/test/modes AS base
WORKDIR /workdir/deep
COPY tree /copied/tree/
COPY --chmod=0604 tree/open /chmod/open
COPY --chmod=u=rw,go=r tree/open /chmod/text
COPY --link tree /linked/
COPY <<TEXT /heredoc/file
x
TEXT
ADD a.tar /unpacked/
ADD http://127.0.0.1:$port/file /fetched/
ADD --chmod=0755 http://127.0.0.1:$port/file /fetched/program
ADD http://127.0.0.1:$port/repo.git#main /cloned/
RUN --mount=type=cache,target=/made/cache --mount=type=tmpfs,target=/made/tmpfs \
    --mount=type=bind,source=tree,target=/made/bind --mount=type=secret,id=s,target=/made/secret,mode=0444 \
    sh -c 'umask; for p in /shared /etc/hosts /etc/resolv.conf /made/* /dev /dev/null /dev/shm; do stat -c "%n %a" \$p; done; \
      mkdir /own; echo x > /own/file; mkdir /made/cache/dir; echo x > /made/cache/file' > /seen
RUN --mount=type=cache,target=/made/cache stat -c "%n %a" /made/cache/dir /made/cache/file >> /seen
FROM scratch
COPY --from=base /workdir /workdir
COPY --from=base /copied /copied
COPY --from=base /chmod /chmod
COPY --from=base /linked /linked
COPY --from=base /heredoc /heredoc
COPY --from=base /unpacked /unpacked
COPY --from=base /fetched /fetched
COPY --from=base /cloned /cloned
COPY --from=base /own /own
COPY --from=base /implied /implied
COPY --from=base /shared /shared
COPY --from=base /seen /seen
DOCKERFILE
echo secret >"$scratch/secret"

expected='chmod 755
chmod/open 604
chmod/text 644
cloned 755
cloned/dir 755
cloned/dir/plain 644
cloned/dir/program 755
copied 755
copied/tree 755
copied/tree/open 666
copied/tree/sub 2775
copied/tree/sub/setuid 4755
copied/tree/tight 600
fetched 755
fetched/file 600
fetched/program 755
heredoc 755
heredoc/file 644
implied 755
implied/deeper 755
implied/deeper/file 666
linked 755
linked/open 666
linked/sub 2775
linked/sub/setuid 4755
linked/tight 600
own 755
own/file 644
seen 644
shared 755
unpacked 755
unpacked/implied 755
unpacked/implied/deeper 755
unpacked/implied/deeper/file 666
workdir 755
workdir/deep 755'
seen='0022
/shared 1777
/etc/hosts 644
/etc/resolv.conf 644
/made/bind 777
/made/cache 755
/made/secret 444
/made/tmpfs 1777
/dev 755
/dev/null 666
/dev/shm 1777
/made/cache/dir 755
/made/cache/file 644'

list() { (cd "$1" && find . -mindepth 1 ! -type l -printf '%P %m\n' | LC_ALL=C sort); }

for mask in 000 022 077; do
  say "umask $mask"
  state=$scratch/state-$mask
  socket=$scratch/kilnd-$mask.sock
  kilnd_config="[registry.\"$registry\"]
http = true"
  umask "$mask"
  start_kilnd
  check_same "umask of the daemon" "$(sed -n 's/^Umask:[[:space:]]*//p' "/proc/$kilnd_pid/status")" 0077
  must_build "$context" --secret id=s,src="$scratch/secret" --output type=local,dest="$scratch/out-$mask"
  umask 022
  check_same "what the step saw" "$(cat "$scratch/out-$mask/seen")" "$seen"
  check_same "what was exported" "$(list "$scratch/out-$mask")" "$expected"
  kilnctl build --progress=plain --frontend dockerfile.v0 --local context="$context" --local dockerfile="$context" \
    --secret id=s,src="$scratch/secret" --output type=tar,dest="$scratch/out-$mask.tar" 2>/dev/null
  mkdir "$scratch/tar-$mask"
  tar -C "$scratch/tar-$mask" -xpf "$scratch/out-$mask.tar"
  check_same "what was exported as a tar" "$(list "$scratch/tar-$mask")" "$expected"
  stop_kilnd
done
