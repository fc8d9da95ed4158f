#!/usr/bin/env bash
# What overruns and planted pointers find in the built programs: no fixed addresses, nothing writable that is run or
# jumped through, stacks and buffers that check themselves.
set -euo pipefail
build_dir=${KILN_BINARY_DIR:-$(cd "$(dirname "$0")/../.." && pwd)/build}
command -v readelf >/dev/null || { echo "SKIPPED: needs readelf"; exit 77; }

failures=0
# expect PROGRAM WHAT PATTERN TEXT: a line of the text matches.
expect() { grep -qE "$3" <<<"$4" || { echo "FAILED: $1: $2"; failures=$((failures + 1)); }; }
expect_none() { ! grep -qE "$3" <<<"$4" || { echo "FAILED: $1: $2"; failures=$((failures + 1)); }; }

check() {
  local program=$1 file=$2 header segments dynamic symbols
  [ -x "$file" ] || { echo "FAILED: no $file"; failures=$((failures + 1)); return; }
  header=$(readelf -Wh "$file")
  segments=$(readelf -Wl "$file")
  dynamic=$(readelf -Wd "$file")
  symbols=$(readelf -W --dyn-syms "$file")
  expect "$program" "not position-independent" 'Type: +DYN' "$header"
  expect "$program" "not marked as a position-independent program" 'FLAGS_1.* PIE' "$dynamic"
  expect "$program" "no read-only relocations" 'GNU_RELRO' "$segments"
  expect "$program" "relocations are not all made at the start" '(FLAGS.* BIND_NOW|BIND_NOW)' "$dynamic"
  expect "$program" "not linked with -z now" 'FLAGS_1.* NOW' "$dynamic"
  expect "$program" "no word about its stack" 'GNU_STACK' "$segments"
  expect_none "$program" "its stack can be run" 'GNU_STACK.* RWE ' "$segments"
  expect_none "$program" "a segment that is writable can be run" 'LOAD.* RWE ' "$segments"
  expect "$program" "no stack protector" '__stack_chk_fail' "$symbols"
  expect "$program" "no fortified calls" '__(mem|str|sn?printf|read|pread|readlink|snprintf|vsnprintf|fd)[a-z]*_chk' "$symbols"
}

for program in kilnd kilnctl; do check "$program" "$build_dir/$program"; done
# The check must be able to fail: this program has none of it.
if command -v cc >/dev/null; then
  soft=$(mktemp)
  echo 'int main(void) { return 0; }' | cc -x c - -o "$soft" -no-pie -fno-stack-protector -z norelro -z lazy -z execstack 2>/dev/null
  before=$failures
  check soft "$soft" >/dev/null
  rm -f "$soft"
  [ $((failures - before)) -ge 7 ] || { echo "FAILED: a program without any hardening passes"; exit 1; }
  failures=$before
fi
[ $failures -eq 0 ] || exit 1
echo "2 programs checked"
