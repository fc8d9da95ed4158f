#include "solver/linux_resources.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <sstream>
#include <string>

#include "base/text.hpp"

namespace kiln::solver {

namespace {

/// "0-3,7" as numbers; nothing when it is not such a list, or a longer one than any machine has.
std::optional<std::set<unsigned>> numbers_of(const std::string& list) {
  constexpr unsigned most = 65'536;
  std::set<unsigned> out;
  for (auto part : split(list, ',')) {
    std::istringstream in{std::string(part)};
    unsigned first = 0, last = 0;
    if (!(in >> first)) return std::nullopt;
    last = first;
    if (in.peek() == '-' && !(in.ignore() >> last)) return std::nullopt;
    if (in.peek() != std::istringstream::traits_type::eof() || last < first || last >= most)
      return std::nullopt;
    for (unsigned n = first; n <= last; ++n) out.insert(n);
  }
  return out;
}

std::string list_of(const std::set<unsigned>& numbers) {
  std::string out;
  for (auto n = numbers.begin(); n != numbers.end();) {
    auto first = *n, last = first;
    while (++n != numbers.end() && *n == last + 1) last = *n;
    out += (out.empty() ? "" : ",") + std::to_string(first);
    if (last != first) out += "-" + std::to_string(last);
  }
  return out;
}

std::string laxest_set(const std::string& a, const std::string& b) {
  if (a.empty() || b.empty()) return "";
  auto left = numbers_of(a), right = numbers_of(b);
  if (!left || !right) return left ? a : right ? b : a;  // the runtime refuses what is no list
  left->insert(right->begin(), right->end());
  return list_of(*left);
}

template <class Number>
Number larger_said(Number a, Number b) {
  return a == 0 ? b : b == 0 ? a : std::max(a, b);
}

/// Which of two bounds of processor time lets through more: quota of each period. Periods are not mixed with
/// the other's quota; of equal ones the shorter period waits less.
const pb::LinuxResources& laxer_time(const pb::LinuxResources& a, const pb::LinuxResources& b) {
  auto period = [](const pb::LinuxResources& r) {
    constexpr std::uint64_t kernels_own_us = 100'000;
    return static_cast<double>(r.cpuperiod() != 0 ? r.cpuperiod() : kernels_own_us);
  };
  if (a.cpuquota() <= 0 || b.cpuquota() <= 0) return a.cpuquota() <= 0 ? a : b;
  auto left = static_cast<double>(a.cpuquota()) * period(b),
       right = static_cast<double>(b.cpuquota()) * period(a);
  if (left != right) return left > right ? a : b;
  return period(a) <= period(b) ? a : b;
}

}  // namespace

pb::LinuxResources laxest(const pb::LinuxResources& a, const pb::LinuxResources& b) {
  pb::LinuxResources out;
  out.set_memory(a.memory() == 0 || b.memory() == 0 ? 0 : std::max(a.memory(), b.memory()));
  constexpr std::int64_t endless = -1;
  bool any_endless = a.memoryswap() == endless || b.memoryswap() == endless;
  out.set_memoryswap(any_endless ? endless : larger_said(a.memoryswap(), b.memoryswap()));
  out.set_cpushares(larger_said(a.cpushares(), b.cpushares()));
  const auto& time = laxer_time(a, b);
  if (a.cpuquota() != 0 || b.cpuquota() != 0) {
    out.set_cpuperiod(time.cpuperiod());
    out.set_cpuquota(time.cpuquota());
  }
  out.set_cpusetcpus(laxest_set(a.cpusetcpus(), b.cpusetcpus()));
  out.set_cpusetmems(laxest_set(a.cpusetmems(), b.cpusetmems()));
  return out;
}

}  // namespace kiln::solver
