#include "workers/platforms/tiny_programs.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kiln::workers {

namespace {

using namespace std::string_view_literals;

struct machine {
  std::string_view architecture;
  std::uint16_t number;  // e_machine
  bool is_64;
  bool is_big;  // the higher byte first
  std::uint32_t flags;
  std::string_view code;  // ends the process
};

// exit(0), in as few instructions as it takes. The one of amd64 asks the processor first: with all of SSE3,
// SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT and LAHF it is of level 2.
constexpr machine machines[] = {
    {"amd64", 62, true, false, 0,
     "\x31\xc0\x0f\xa2\x83\xf8\x07\x72\x3a\xb8\x00\x00\x00\x80\x0f\xa2\x3d\x01\x00\x00\x80\x72\x2c\xb8\x01"
     "\x00"
     "\x00\x00\x31\xc9\x0f\xa2\x81\xe1\x01\x22\x98\x00\x81\xf9\x01\x22\x98\x00\x75\x15\xb8\x01\x00\x00\x80"
     "\x31"
     "\xc9\x0f\xa2\x83\xe1\x01\x74\x07\xbf\x42\x00\x00\x00\xeb\x05\xbf\x41\x00\x00\x00\xb8\x3c\x00\x00\x00"
     "\x0f"
     "\x05"sv},
    // mov x0, 0; mov x8, 93; svc 0
    {"arm64", 183, true, false, 0, "\x00\x00\x80\xd2\xa8\x0b\x80\xd2\x01\x00\x00\xd4"sv},
    // li a0, 0; li a7, 93; ecall
    {"riscv64", 243, true, false, 0, "\x13\x05\x00\x00\x93\x08\xd0\x05\x73\x00\x00\x00"sv},
    // li r0, 1; li r3, 0; sc. The flag: the entry is no descriptor of a function.
    {"ppc64", 21, true, true, 2, "\x38\x00\x00\x01\x38\x60\x00\x00\x44\x00\x00\x02"sv},
    {"ppc64le", 21, true, false, 2, "\x01\x00\x00\x38\x00\x00\x60\x38\x02\x00\x00\x44"sv},
    // lghi %r2, 0; svc 1
    {"s390x", 22, true, true, 0, "\xa7\x29\x00\x00\x0a\x01"sv},
    // mov eax, 1; xor ebx, ebx; int 0x80
    {"386", 3, false, false, 0, "\xb8\x01\x00\x00\x00\x31\xdb\xcd\x80"sv},
    // li v0, 5058; move a0, zero; syscall
    {"mips64le", 8, true, false, 0x80000000, "\xc2\x13\x02\x24\x25\x20\x00\x00\x0c\x00\x00\x00"sv},
    {"mips64", 8, true, true, 0x80000000, "\x24\x02\x13\xc2\x00\x00\x20\x25\x00\x00\x00\x0c"sv},
    // ori $a0, $zero, 0; ori $a7, $zero, 93; syscall 0
    {"loong64", 258, true, false, 0, "\x04\x00\x80\x03\x0b\x74\x81\x03\x00\x00\x2b\x00"sv},
    // mov r0, 0; mov r7, 1; svc 0
    {"arm", 40, false, false, 0x05000000, "\x00\x00\xa0\xe3\x01\x70\xa0\xe3\x00\x00\x00\xef"sv},
};

/// Numbers one after the other in a machine's byte order; what is an address has its machine's width.
class elf_fields {
 public:
  explicit elf_fields(const machine& m) : machine_(m) {}
  elf_fields& half(std::uint64_t v) { return put(v, 2); }
  elf_fields& word(std::uint64_t v) { return put(v, 4); }
  elf_fields& wide(std::uint64_t v) { return put(v, machine_.is_64 ? 8 : 4); }
  std::string out;

 private:
  elf_fields& put(std::uint64_t v, int bytes) {
    for (int i = 0; i < bytes; ++i)
      out += static_cast<char>(v >> (8 * (machine_.is_big ? bytes - 1 - i : i)) & 0xff);
    return *this;
  }
  const machine& machine_;
};

constexpr std::uint64_t load_address = 0x400000;
constexpr std::uint64_t alignment = 0x10000;  // the largest page any of them has

std::string elf_file(const machine& m) {
  const std::uint64_t header = m.is_64 ? 64 : 52, segment = m.is_64 ? 56 : 32;
  const std::uint64_t size = header + segment + m.code.size();
  constexpr std::uint64_t executable = 2, loaded = 1, read_and_run = 5;
  elf_fields f(m);
  f.out =
      "\x7f"
      "ELF";
  f.out += static_cast<char>(m.is_64 ? 2 : 1);
  f.out += static_cast<char>(m.is_big ? 2 : 1);
  f.out += '\x01';
  f.out.resize(16);
  f.half(executable).half(m.number).word(1).wide(load_address + header + segment).wide(header).wide(0);
  f.word(m.flags).half(header).half(segment).half(1).half(0).half(0).half(0);
  f.word(loaded);
  if (m.is_64) f.word(read_and_run);
  f.wide(0).wide(load_address).wide(load_address).wide(size).wide(size);
  if (!m.is_64) f.word(read_and_run);
  f.wide(alignment);
  return f.out.append(m.code);
}

}  // namespace

std::string tiny_program(std::string_view architecture) {
  for (const auto& m : machines)
    if (m.architecture == architecture) return elf_file(m);
  return {};
}

const std::vector<std::string>& tiny_program_architectures() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> names;
    for (const auto& m : machines) names.emplace_back(m.architecture);
    return names;
  }();
  return all;
}

}  // namespace kiln::workers
