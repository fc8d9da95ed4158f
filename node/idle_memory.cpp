#include "node/idle_memory.hpp"

#include <malloc.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

#include "configs/daemon.hpp"

namespace kiln::node {

namespace {

std::chrono::nanoseconds cpu_time() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return std::chrono::seconds{t.tv_sec} + std::chrono::nanoseconds{t.tv_nsec};
}

/// Unmaps the pages of every file mapping that nobody wrote to. Those with pages of their own (relocated
/// data made read-only, a debugger's breakpoints) hold what the file does not, and stay.
void drop_file_pages() {
  std::ifstream maps{"/proc/self/smaps"};
  std::uintptr_t begin = 0, end = 0;
  bool of_file = false;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t from = 0, to = 0;
    char permissions[5] = {};
    unsigned long inode = 0;
    unsigned long kilobytes = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %4s %*x %*x:%*x %lu", &from, &to, permissions, &inode) == 4) {
      begin = from;
      end = to;
      of_file = inode != 0 && permissions[1] == '-';
    } else if (of_file && std::sscanf(line.c_str(), "Anonymous: %lu kB", &kilobytes) == 1 && kilobytes == 0) {
      madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }
  }
}

}  // namespace

void limit_heaps() {
  mallopt(M_ARENA_MAX, static_cast<int>(std::max(2u, std::thread::hardware_concurrency())));
}

void release_unused_memory() {
  malloc_trim(0);
  drop_file_pages();
}

void idle_memory::check() {
  auto now = cpu_time();
  bool idle = now - before_ < configs::idle_cpu_time;
  before_ = now;
  if (!idle || now - released_ < configs::idle_work_before) return;
  release_unused_memory();
  before_ = released_ = cpu_time();
}

}  // namespace kiln::node
