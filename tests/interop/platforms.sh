#!/usr/bin/env bash
# Steps of other platforms, run by Debian's emulators: first as programs that a step gets into its container
# (buildkit-qemu-*), then by the kernel (binfmt_misc), which the daemon finds out while it runs.
. "$(dirname "$0")/lib.sh"

foreign="arm64:aarch64:0xb7 riscv64:riscv64:0xf3"
for p in $foreign; do
  IFS=: read -r arch machine _ <<<"$p"
  [ -x /usr/bin/qemu-$machine-static ] || skip "no /usr/bin/qemu-$machine-static (qemu-user-static)"
  command -v ${machine}-linux-gnu-gcc >/dev/null || skip "no ${machine}-linux-gnu-gcc (gcc-${machine/_/-}-linux-gnu)"
done

# binfmt_misc is one for the whole machine: names of our own, which go again.
binfmt=
registered=()
forget_formats() {
  for name in "${registered[@]}"; do echo -1 >"$binfmt/$name" || true; done
  registered=()
  [ -z "$binfmt" ] || { umount "$binfmt" && rmdir "$binfmt" && binfmt=; }
}
trap 's=$?; set +e; forget_formats; (exit $s); on_exit' EXIT

# A shell for RUN that knows one word: what uname -m says.
cat >"$scratch/sh.c" <<'C'
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
int main(int n, char** args) {
  struct utsname u;
  uname(&u);
  if (n == 3 && !strcmp(args[1], "-c") && !strcmp(args[2], "uname -m")) return printf("this is %s\n", u.machine) < 0;
  return 9;
}
C
start_registry
for p in $foreign; do
  IFS=: read -r arch machine _ <<<"$p"
  root=$scratch/$arch
  mkdir -p "$root/bin"
  ${machine}-linux-gnu-gcc -static -O1 -o "$root/bin/sh" "$scratch/sh.c"
  tar -C "$root" -cf "$root.tar" .
  layout=$scratch/layout.$arch
  umoci init --layout "$layout" >/dev/null
  umoci new --image "$layout:latest" >/dev/null
  umoci raw add-layer --image "$layout:latest" "$root.tar" >/dev/null
  umoci config --image "$layout:latest" --architecture $arch --os linux >/dev/null
  skopeo copy -q --dest-tls-verify=false "oci:$layout:latest" "docker://$registry/$arch"
done
mkdir "$scratch/context" "$scratch/path"
run_of() {  # run_of ARCH: its log in $out
  printf 'FROM %s/%s\nRUN uname -m\n' "$registry" "$1" >"$scratch/context/Dockerfile"
  build "$scratch/context" --opt "platform=linux/$1" --no-cache
}
listed() { kilnctl debug workers -v; }

# Where nothing runs them, the daemon says so at its start, for what it was told to offer, and in the build.
kilnd_config='[worker.oci]
platforms = ["linux/amd64", "linux/riscv64"]
[system]
platformsCacheMaxAge = "1ms"
[registry."'$registry'"]
http = true'
export PATH=$scratch/path:$PATH
start_kilnd
check_contains "a platform that cannot run is warned of" "$(cat "$scratch/kilnd.log")" "linux/riscv64 does not run here"
workers=$(listed)
case "$workers" in *linux/arm64*) skip "this machine runs arm64 already" ;; esac
check_contains "levels of the processor" "$workers" "linux/amd64/v2"
run_of arm64
[ "$status" != 0 ] || fail "arm64 ran without an emulator: $out"
check_contains "why it failed" "$out" "linux/arm64 does not run here"
check_contains "what could be done" "$out" "buildkit-qemu-aarch64"

say "emulators on PATH"
for p in $foreign; do
  IFS=: read -r arch machine _ <<<"$p"
  install -m 0700 /usr/bin/qemu-$machine-static "$scratch/path/buildkit-qemu-$machine"  # a copy for everybody is made
  run_of $arch
  check_contains "RUN of $arch" "$out" "this is $machine"
  rm "$scratch/path/buildkit-qemu-$machine"
done

say "emulators of the kernel"
grep -q binfmt_misc /proc/filesystems || modprobe binfmt_misc 2>/dev/null || skip "no binfmt_misc"
binfmt=$(mktemp -d)
mount -t binfmt_misc binfmt_misc "$binfmt" || { rmdir "$binfmt"; binfmt=; skip "binfmt_misc cannot be mounted"; }
for p in $foreign; do
  IFS=: read -r arch machine number <<<"$p"
  name=kiln-test-$arch-$$
  magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x'${number#0x}'\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  printf '%s' ":$name:M::$magic:$mask:/usr/bin/qemu-$machine-static:F" >"$binfmt/register"
  registered+=("$name")
  check_contains "$arch is found" "$(listed)" "linux/$arch"
  run_of $arch
  check_contains "RUN of $arch" "$out" "this is $machine"
done
forget_formats
check_absent "what is gone is not offered" "$(listed)" "linux/arm64"
