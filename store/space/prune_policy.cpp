#include "store/space/prune_policy.hpp"

#include <algorithm>

namespace kiln::store {

filter::lookup fields_of(const usage_record& u) {
  return [&u](std::span<const std::string> path) -> std::optional<std::string> {
    auto present = [](bool is) { return is ? std::optional<std::string>("") : std::nullopt; };
    auto text = [](std::string s) {
      return s.empty() ? std::nullopt : std::optional<std::string>(std::move(s));
    };
    const auto& name = path[0];
    if (name == "id") return text(u.id);
    if (name == "description") return text(u.description);
    if (name == "type") return std::string(to_string(u.type));
    if (name == "inuse") return present(u.in_use);
    if (name == "mutable") return present(u.is_mutable);
    if (name == "immutable") return present(!u.is_mutable);
    if (name == "shared") return present(u.shared);
    if (name == "private") return present(!u.shared);
    if (name == "parents") {
      std::string joined;
      for (const auto& parent : u.parents) joined += (joined.empty() ? "" : ";") + parent;
      return text(std::move(joined));
    }
    return std::nullopt;
  };
}

std::int64_t bytes_to_keep(const prune_rule& rule, std::int64_t total, std::int64_t free) {
  if (rule.max_used_space == 0 && rule.reserved_space == 0 && rule.min_free_space == 0) return 0;
  auto keep = rule.max_used_space;
  auto excess = rule.min_free_space - free;
  if (excess > 0) keep = keep == 0 ? total - excess : std::min(keep, total - excess);
  else if (rule.min_free_space != 0 && keep == 0) keep = total;
  return std::max(keep, rule.reserved_space);
}

void sort_by_worth(std::vector<const usage_record*>& candidates) {
  struct ranked {
    const usage_record* record;
    double age = 0, count = 0;
  };
  std::vector<ranked> all;
  for (const auto* c : candidates) all.push_back({c});
  auto last_used = [](const ranked& r) { return r.record->last_used_at_ns.value_or(0); };
  std::stable_sort(all.begin(), all.end(), [&](auto& a, auto& b) { return last_used(a) < last_used(b); });
  double age = 1;
  std::int64_t previous = 0;
  for (auto& r : all) {
    if (last_used(r) > previous) {
      previous = last_used(r);
      ++age;
    }
    r.age = age;
  }
  std::stable_sort(all.begin(), all.end(),
                   [](auto& a, auto& b) { return a.record->usage_count < b.record->usage_count; });
  double count = 1;
  std::int64_t uses = 0;
  for (auto& r : all) {
    if (r.record->usage_count != uses) {
      uses = r.record->usage_count;
      ++count;
    }
    r.count = count;
  }
  std::stable_sort(all.begin(), all.end(), [&](auto& a, auto& b) {
    return a.age / age + a.count / count < b.age / age + b.count / count;
  });
  for (std::size_t i = 0; i < all.size(); ++i) candidates[i] = all[i].record;
}

}  // namespace kiln::store
