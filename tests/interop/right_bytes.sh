#!/usr/bin/env bash
# Builds whose result was wrong without a word: archives that spoke of the destination, modes told as text, links that
# lead upwards, names that are no UTF-8, the home of unknown users, hard links among several sources, mistyped paths.
. "$(dirname "$0")/lib.sh"

start_registry
push_image "$(busybox_tar)" library/busybox:latest
kilnd_config="[registry.\"docker.io\"]
mirrors = [\"$registry\"]
[registry.\"$registry\"]
http = true"
start_kilnd

context() { dir=$scratch/$1; made=$scratch/made.$1; mkdir -p "$dir" "$made"; cd "$dir"; }
result() { cat "$made/out/$1"; }
run_to_files() { rm -rf "$made/out"; must_build "$dir" --output "type=local,dest=$made/out"; }

say "what an archive says of its root does not change the destination"
context archive_root
mkdir -p tree/d
echo x >tree/f
chmod 700 tree
chown -R 1234:2345 tree
tar cf dot.tar -C tree .
tar czf slash.tgz -P --transform 's,^\./*,/,' -C tree ./
rm -r tree
cat >Dockerfile <<'D'
FROM busybox AS b
RUN mkdir -m 711 /old /other && chown 3:4 /old /other
ADD --chown=8:9 dot.tar /old/
ADD slash.tgz /other/
ADD --chown=8:9 dot.tar /new/
ADD dot.tar /
RUN stat -c '%n %a %u:%g' / /old /old/f /other /other/f /new /new/d /d > /r
FROM scratch
COPY --from=b /r /
D
run_to_files
check_same "owners and modes" "$(result r)" "/ 755 0:0
/old 711 3:4
/old/f 644 8:9
/other 711 3:4
/other/f 644 1234:2345
/new 755 8:9
/new/d 755 8:9
/d 755 1234:2345"

say "a pulled layer's root entry does not either"
context pulled_root
mkdir tree
touch tree/marker
chmod 700 tree
chown 1234:2345 tree
tar cf layer.tar -C tree .
push_image layer.tar odd/root:latest
printf 'FROM busybox AS b\nFROM %s/odd/root\nCOPY --from=b /bin /bin\nRUN stat -c "%%a %%u:%%g" / > /r\n' "$registry" >Dockerfile
run_to_files
check_same "the root directory" "$(result r)" "755 0:0"

say "modes told as text"
context modes
mkdir -p t/d
touch t/plain t/exe t/d/in
chmod 640 t/plain
chmod 751 t/exe
chmod 600 t/d/in
chmod 700 t/d
cat >Dockerfile <<'D'
FROM busybox AS b
COPY --chmod=u=rwX,go=rX t /new/deep
COPY --chmod=a=r,u+w,+X t/exe /x
COPY --chmod=u+s,g+s,o+t t/exe /s
COPY --chmod=go-rwx t /g
RUN cd /; stat -c '%n %a' new new/deep new/deep/d new/deep/d/in new/deep/exe new/deep/plain x s g/d g/exe > /r
FROM scratch
COPY --from=b /r /
D
run_to_files
check_same "modes" "$(tr '\n' ' ' <"$made/out/r")" \
  "new 755 new/deep 755 new/deep/d 755 new/deep/d/in 644 new/deep/exe 755 new/deep/plain 644 x 755 s 6751 g/d 700 g/exe 700 "

say "links in archives are text, wherever they lead"
context links
mkdir -p t/bin
ln -s ../../etc/app t/conf
ln -s ../../../../../../etc/group t/bin/up
ln -s /etc/passwd t/abs
tar czf a.tgz -C t .
rm -r t
mkdir t
ln -s ../../../../../../../../../../../../../../.."$scratch/canary" t/out
tar cf through.tar -C t out
rm t/out
mkdir t/out
echo dead >t/out/file
tar rf through.tar -C t out/file
mkdir "$scratch/canary"
cat >Dockerfile <<'D'
FROM busybox AS b
RUN mkdir -p /etc/app && echo c > /etc/app/c
ADD a.tgz /opt/app/
ADD a.tgz /
RUN for l in conf bin/up abs; do readlink /opt/app/$l; readlink /$l; done > /r; cat /opt/app/conf/c >> /r
FROM scratch
COPY --from=b /r /
D
run_to_files
check_same "targets" "$(tr '\n' ' ' <"$made/out/r")" \
  "../../etc/app ../../etc/app ../../../../../../etc/group ../../../../../../etc/group /etc/passwd /etc/passwd c "
printf 'FROM busybox AS b\nADD through.tar /opt/\n' >Dockerfile
must_fail "$dir"
check_contains "a link to nowhere is no directory" "$out" 'archive entry "out/file": open directory out: no such file or directory'
printf 'FROM busybox AS b\nRUN mkdir -p /opt%s\nADD through.tar /opt/\nRUN mv /opt%s/file /r\nFROM scratch\nCOPY --from=b /r /\n' \
  "$scratch/canary" "$scratch/canary" >Dockerfile
run_to_files
check_same "the destination is the root of links" "$(result r)" "dead"
check "nothing was written outside" test -z "$(ls "$scratch/canary")"

say "names that are no UTF-8"
context names
mkdir sub skipped
printf 1 >$'latin\xe9.txt'
printf 2 >$'sub/\xff\xfe'
printf 3 >$'sub/ignored\xe8'
printf 4 >$'skipped/\xe9'
ln -s $'latin\xe9.txt' link
printf $'sub/ignored\xe8\nskipped/*\n' >.dockerignore
cat >Dockerfile <<'D'
FROM busybox AS b
COPY . /all/
RUN mkdir /made && cd /all && for f in lat*; do cp "$f" "/made/$f"; ln -s "$f" /made/ln; done
FROM scratch
COPY --from=b /all /all
COPY --from=b /made/l* /made/
D
printf $'COPY latin\xe9.txt /one/\nCOPY --from=b /all/sub/\xff? /two\xe9/\nCOPY lati*.txt /three/\n' >>Dockerfile
run_to_files
must_build "$dir" --output "type=tar,dest=$made/fs.tar" --output "type=oci,dest=$made/image.tar" \
  --opt attest:provenance=mode=max,version=v1
mkdir "$made/untar" "$made/image"
tar xf "$made/fs.tar" -C "$made/untar"
check "tar and local are the same" diff -r -x provenance.json "$made/untar" "$made/out"
check_same "what is there" "$(cd "$made/out" && find . ! -type d | LC_ALL=C sort | cat -v | tr '\n' ' ')" \
  "./all/.dockerignore ./all/Dockerfile ./all/latinM-i.txt ./all/link ./all/sub/M-^?M-~ ./made/latinM-i.txt ./made/ln ./one/latinM-i.txt ./three/latinM-i.txt ./twoM-i/M-^?M-~ "
check_same "content" "$(cat "$made"/out/all/link "$made"/out/made/ln "$made"/out/one/* "$made"/out/two*/*)" 1112
tar xf "$made/image.tar" -C "$made/image"
for blob in "$made"/image/blobs/sha256/*; do
  case $(head -c 1 "$blob") in "{") check "JSON of the image is valid UTF-8 and parses" python3 -c \
    'import json, sys; json.loads(open(sys.argv[1], "rb").read().decode("utf-8"))' "$blob" ;; esac
done
mv $'latin\xe9.txt' $'latin\xe8.txt'
must_fail "$dir"
check_contains "the other name is another file" "$out" "not found"

if [ -x "$cache_dir/buildx/usr/libexec/docker/cli-plugins/docker-buildx" ]; then
  say "the same by a client written in Go"
  mv $'latin\xe8.txt' $'latin\xe9.txt'
  buildx=$cache_dir/buildx/usr/libexec/docker/cli-plugins/docker-buildx
  export BUILDX_CONFIG=$scratch/buildx BUILDX_BAKE_ENTITLEMENTS_FS=0
  "$buildx" create --name kiln --driver remote "unix://$socket" --use >/dev/null
  check "buildx builds it" "$buildx" build --progress=plain --output "type=local,dest=$made/go" "$dir" 2>"$scratch/buildx.log"
  check "and gets the same files" diff -r "$made/go" "$made/out"
fi

say "homes"
context homes
cat >Dockerfile <<'D'
FROM busybox AS b
RUN mkdir -m 777 /r; echo 'known:x:77:77::/home/known:/bin/sh' >> /etc/passwd
USER 12345
RUN echo "$HOME" > /r/1
USER 12345:77
RUN echo "$HOME" > /r/2
USER known
RUN echo "$HOME" > /r/3
USER 0
RUN echo "$HOME" > /r/4
ENV HOME=/set
USER 12345
RUN echo "$HOME" > /r/5
FROM scratch AS bare
COPY --from=b /bin /bin
USER 9
WORKDIR /w
RUN echo "$HOME" > /w/6 && stat -c '%a' /dev /proc /sys >> /w/6
FROM scratch
COPY --from=b /r /
COPY --from=bare /w /
D
run_to_files
check_same "homes" "$(cat "$made"/out/[1-5] | tr '\n' ' ')" "/ / /home/known /root /set "
check_same "without any passwd file" "$(head -n 1 "$made/out/6")" "/"
printf 'FROM busybox AS b\nFROM scratch\nCOPY --from=b /bin /bin\nRUN true\n' >Dockerfile
must_build "$dir" --output "type=tar,dest=$made/fs.tar"
check_same "mount points left on scratch" "$(tar tvf "$made/fs.tar" dev proc sys | awk '{print $1}' | sort -u)" "drwxr-xr-x"

check_same "those that go again" "$(tar tf "$made/fs.tar" | grep -c '^etc')" 0
echo q >secret
printf 'FROM busybox\nRUN --mount=type=secret,id=s --mount=type=secret,id=t --mount=type=tmpfs,target=/x/a --mount=type=tmpfs,target=/x/b true\n' >Dockerfile
must_build "$dir" --secret id=s,src=secret --secret id=t,src=secret --output "type=tar,dest=$made/stubs.tar"
check_same "several mount points in one directory" "$(tar tf "$made/stubs.tar" | grep -E '^(run|x)/')" ""

say "modes of file systems in memory, programs with privileges in a context, users with too many colons"
context privileges
echo x >program
python3 -c 'import os; os.setxattr("program", "security.capability", b"\1\0\0\2\0\x20" + bytes(14))'
cat >Dockerfile <<'D'
FROM busybox AS b
RUN mkdir /d && chown 5:6 /d && chmod 2710 /d
RUN --mount=type=tmpfs,target=/d --mount=type=tmpfs,target=/n stat -c '%n %a %u' /d /n >/modes
USER 1:2:3
RUN id -u >/tmp/ids && id -g >>/tmp/ids
FROM scratch
COPY --from=b /modes /tmp/ids /
COPY --chown=3 program /
D
must_build "$dir" --output "type=tar,dest=$made/fs.tar"
mkdir "$made/out" && tar -C "$made/out" -xf "$made/fs.tar"
check_same "modes" "$(result modes)" "/d 2710 0
/n 1777 0"
check_same "user and group" "$(result ids)" "1
2"
check_absent "the program's attributes" "$(tar --xattrs --xattrs-include='*' -tvvf "$made/fs.tar")" "security.capability"

say "hard links among several sources"
context hard_links
mkdir x y
echo one >x/n
echo two >y/n
ln x/n y/z
cat >Dockerfile <<'D'
FROM busybox AS s
RUN mkdir -p /s/x /s/y && echo one > /s/x/n && echo two > /s/y/n && ln /s/x/n /s/y/z
FROM scratch
COPY */* /a/
COPY --from=s /s/*/* /b/
D
run_to_files
check_same "content" "$(cd "$made/out" && cat a/n a/z b/n b/z | tr '\n' ' ')" "two one two one "

say "a wildcard below what does not exist"
context mistyped
mkdir there
echo x >there/x.c
printf 'FROM scratch\nCOPY *.none there/x.c /\n' >Dockerfile
must_build "$dir"
printf 'FROM scratch\nCOPY there/*.c /c/\n' >Dockerfile
must_build "$dir"
printf 'FROM scratch\nCOPY dist/*.js /js/\n' >Dockerfile
must_fail "$dir"
check_contains "the error" "$out" "lstat /dist: no such file or directory"
printf 'FROM busybox AS b\nRUN mkdir /dist\nFROM scratch\nCOPY --from=b /dist/*.js /js/\n' >Dockerfile
must_build "$dir"
printf 'FROM busybox AS b\nFROM scratch\nCOPY --from=b /dist/*.js /js/\n' >Dockerfile
must_fail "$dir"
check_contains "the error" "$out" "lstat /dist: no such file or directory"

stop_kilnd
