// What libraries that are not instrumented allocate, and what TSan is not to look at in them.
// - What CAF allocates for itself and frees on another thread: the nodes of its schedulers' queues.
// - What gRPC does within itself is its own; what it hands over is told in grpc_handover.cpp.
// Thread owner: all.
#include "handover.hpp"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <new>

// Suppressions, each with its reason. None of them suppresses a report whose two accesses are of our code.
extern "C" const char* __tsan_default_suppressions() {
  return
      // Ending, a system's main thread waits on a mutex of its own stack that it lends to workers through
      // their queues.
      "race:caf::scheduler::coordinator<caf::policy::work_stealing>::stop\n"
      // What these call of the C library (memmove, sendmsg, epoll_wait, free) is ordered by abseil's mutexes
      // and gRPC's atomics.
      "called_from_lib:libgrpc.so\n"
      "called_from_lib:libgrpc++.so\n"
      "called_from_lib:libgpr.so\n"
      "called_from_lib:libupb.so\n"
      "called_from_lib:libaddress_sorting.so\n"
      "called_from_lib:libcares.so\n"
      "called_from_lib:libabsl_base.so\n"
      "called_from_lib:libabsl_cord.so\n"
      "called_from_lib:libabsl_cord_internal.so\n"
      "called_from_lib:libabsl_cordz_handle.so\n"
      "called_from_lib:libabsl_cordz_info.so\n"
      "called_from_lib:libabsl_graphcycles_internal.so\n"
      "called_from_lib:libabsl_hash.so\n"
      "called_from_lib:libabsl_hashtablez_sampler.so\n"
      "called_from_lib:libabsl_malloc_internal.so\n"
      "called_from_lib:libabsl_random_internal_pool_urbg.so\n"
      "called_from_lib:libabsl_random_internal_randen.so\n"
      "called_from_lib:libabsl_random_internal_seed_material.so\n"
      "called_from_lib:libabsl_random_seed_gen_exception.so\n"
      "called_from_lib:libabsl_raw_hash_set.so\n"
      "called_from_lib:libabsl_status.so\n"
      "called_from_lib:libabsl_statusor.so\n"
      "called_from_lib:libabsl_str_format_internal.so\n"
      "called_from_lib:libabsl_strings.so\n"
      "called_from_lib:libabsl_strings_internal.so\n"
      "called_from_lib:libabsl_synchronization.so\n"
      "called_from_lib:libabsl_time.so\n"
      "called_from_lib:libabsl_time_zone.so\n"
      "called_from_lib:libssl.so\n"
      "called_from_lib:libcrypto.so\n";
}

extern "C" void AnnotateIgnoreWritesBegin(const char* file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char* file, int line);

namespace kiln::handover {

namespace {

enum class owner { other, program, standard, caf, grpc };

struct code_range {
  std::uintptr_t from = 0, to = 0;
  owner of = owner::other;
};

owner owner_of(const char* module) {
  if (*module == '\0') return owner::program;
  if (std::strstr(module, "libcaf_core")) return owner::caf;
  if (std::strstr(module, "libstdc++.so")) return owner::standard;
  // What is named above as called from.
  for (auto* at = __tsan_default_suppressions(); (at = std::strstr(at, "called_from_lib:"));) {
    at += sizeof "called_from_lib:" - 1;
    char name[64] = {};
    std::memcpy(name, at, static_cast<std::size_t>(std::strchr(at, '\n') - at));
    if (std::strstr(module, name)) return owner::grpc;
  }
  return owner::other;
}

/// Where the code of those lies that are asked for.
struct code_map {
  static constexpr int most = 64;
  code_range ranges[most];
  int count = 0;

  code_map() {
    dl_iterate_phdr(
        [](dl_phdr_info* module, std::size_t, void* out) {
          auto of = owner_of(module->dlpi_name);
          if (of == owner::other) return 0;
          auto& map = *static_cast<code_map*>(out);
          for (int i = 0; i < module->dlpi_phnum; ++i)
            if (const auto& part = module->dlpi_phdr[i];
                part.p_type == PT_LOAD && (part.p_flags & PF_X) && map.count < most) {
              auto from = module->dlpi_addr + part.p_vaddr;
              map.ranges[map.count++] = {from, from + part.p_memsz, of};
            }
          return 0;
        },
        this);
  }
};

owner owner_of_code(const void* code) {
  static const code_map map;
  auto at = reinterpret_cast<std::uintptr_t>(code);
  for (int i = 0; i < map.count; ++i)
    if (at >= map.ranges[i].from && at < map.ranges[i].to) return map.ranges[i].of;
  return owner::other;
}

void release(void* memory, const void* caller) {
  if (!memory) return;
  auto of = owner_of_code(caller);
  if (of == owner::caf) taken(memory);
  if (of == owner::grpc) AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  std::free(memory);
  if (of == owner::grpc) AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
}

}  // namespace

bool of_program(const void* code) { return owner_of_code(code) == owner::program; }
bool of_program_or_grpc(const void* code) {
  auto of = owner_of_code(code);
  return of == owner::program || of == owner::grpc;
}

}  // namespace kiln::handover

using namespace kiln::handover;

void* operator new(std::size_t bytes) {
  auto of = owner_of_code(__builtin_return_address(0));
  // A string of the standard library's may be gRPC's: that it was made is no access.
  bool ignored = of == owner::grpc || of == owner::standard;
  if (ignored) AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  auto* memory = std::malloc(bytes > 0 ? bytes : 1);
  if (ignored) AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  if (!memory) throw std::bad_alloc();
  if (of == owner::caf) left(memory);
  return memory;
}

void operator delete(void* memory, std::size_t) noexcept { release(memory, __builtin_return_address(0)); }
void operator delete(void* memory) noexcept { release(memory, __builtin_return_address(0)); }
