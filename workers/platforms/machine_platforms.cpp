#include "workers/platforms/machine_platforms.hpp"

#include <algorithm>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "workers/platforms/tiny_programs.hpp"

namespace kiln::workers {

#if defined(__x86_64__)

namespace {

struct registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

registers ask_cpu(unsigned leaf) {
  registers r;
  if (__get_cpuid_count(leaf, 0, &r.a, &r.b, &r.c, &r.d) == 0) return {};
  return r;
}

/// Which registers the kernel keeps for programs (XCR0).
unsigned kept_registers() {
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

constexpr unsigned bits(std::initializer_list<int> numbers) {
  unsigned out = 0;
  for (int n : numbers) out |= 1u << n;
  return out;
}

bool has(unsigned value, unsigned wanted) { return (value & wanted) == wanted; }

}  // namespace

// Source: the x86-64 psABI, "micro-architecture levels".
int native_amd64_level() {
  auto basic = ask_cpu(1), more = ask_cpu(7), extended = ask_cpu(0x80000001);
  // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF
  if (!has(basic.c, bits({0, 9, 13, 19, 20, 23})) || !has(extended.c, bits({0}))) return 1;
  // FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT
  if (!has(basic.c, bits({12, 22, 27, 28, 29})) || !has(more.b, bits({3, 5, 8})) ||
      !has(extended.c, bits({5})))
    return 2;
  auto kept = kept_registers();
  if (!has(kept, bits({1, 2}))) return 2;
  // AVX512 F, DQ, CD, BW, VL
  if (!has(more.b, bits({16, 17, 28, 30, 31})) || !has(kept, bits({5, 6, 7}))) return 3;
  return 4;
}

#else

int native_amd64_level() { return 1; }

#endif

std::vector<platform> find_platforms(const program_probe& probe, const platform& native, int amd64_level) {
  std::vector<platform> out{normalize(native)};
  for (const auto& architecture : tiny_program_architectures()) {
    bool is_native = architecture == out.front().architecture;
    int level = amd64_level;
    if (!is_native) {
      auto end = probe(tiny_program(architecture));
      if (!end.ok()) continue;
      if (architecture == "amd64") level = *end - amd64_level_base;
      else if (*end != 0) continue;
      if (architecture == "amd64" && level < 1) continue;
      out.push_back(normalize({"linux", architecture, "", "", {}}));
    }
    if (architecture == "amd64")
      for (int n = 2; n <= level; ++n)
        out.push_back({"linux", architecture, "v" + std::to_string(n), "", {}});
    if (architecture == "arm") out.push_back({"linux", architecture, "v6", "", {}});
  }
  return out;
}

std::vector<platform> offered_platforms(const std::vector<platform>& configured,
                                        const std::vector<platform>& found) {
  auto out = configured;
  for (const auto& p : found)
    if (std::none_of(configured.begin(), configured.end(),
                     [&](const auto& c) { return match_rank(c, p) >= 0; }))
      out.push_back(p);
  return out;
}

bool runs_among(const std::vector<platform>& found, const platform& wanted) {
  return std::any_of(found.begin(), found.end(), [&](const auto& p) { return matches(p, wanted); });
}

machine_platforms::machine_platforms(program_probe probe, std::chrono::nanoseconds max_age)
    : probe_(std::move(probe)), max_age_(max_age) {}

void machine_platforms::find() const {
  found_ = find_platforms(probe_, host_platform(), native_amd64_level());
  when_ = clock::now();
}

std::vector<platform> machine_platforms::known() const {
  std::lock_guard lock(mutex_);
  if (found_.empty()) find();
  return found_;
}

void machine_platforms::refresh() {
  std::lock_guard lock(mutex_);
  if (found_.empty() || (max_age_.count() >= 0 && clock::now() - when_ >= max_age_)) find();
}

status machine_platforms::why_not(const platform& wanted) const {
  auto p = normalize(wanted);
  if (p.os != host_platform().os || runs_among(known(), p)) return {};
  auto name = format_platform(p);
  auto program = tiny_program(p.architecture);
  if (program.empty()) return {};
  if (p.architecture == host_platform().architecture)
    return make_error(errc::unimplemented,
                      name + " does not run here: this processor has less than it asks for");
  auto end = probe_(program);
  if (end.ok()) return make_error(errc::unimplemented, name + " does not run here");
  return std::move(end).error().with_context(name + " does not run here");
}

}  // namespace kiln::workers
