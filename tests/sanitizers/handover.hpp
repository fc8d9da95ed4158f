// What those that tell ThreadSanitizer of hand-overs share. Debian's libraries are not instrumented: TSan
// sees none of their atomics, and would call all that passes through them a race. Definitions of ours stand
// before a library's, which calls them through its own jump table, tell, and pass on to it. Thread owner:
// all.
#pragma once

#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <cstdlib>

namespace kiln::handover {

/// All that this thread did so far is seen by who takes the same later.
inline void left(const void* what) { __tsan_release(const_cast<void*>(what)); }
inline void taken(const void* what) { __tsan_acquire(const_cast<void*>(what)); }

/// What a function of ours stands before.
template <class Function>
Function* in_library(const char* symbol) {
  auto* found = dlsym(RTLD_NEXT, symbol);
  if (!found) std::abort();  // another version: what is said of it would be wrong
  return reinterpret_cast<Function*>(found);
}

/// Whether this code is of the program itself, and not of a library.
bool of_program(const void* code);

/// Whether this is code of the program, or of a library that is called by it here: gRPC.
bool of_program_or_grpc(const void* code);

}  // namespace kiln::handover
