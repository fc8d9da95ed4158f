// What a target can be given: arguments, secrets, SSH agents.
#include <algorithm>

#include "frontends/dockerfile/converter.hpp"

namespace kiln::dockerfile {

namespace {

// The arguments used, and those their values are made of.
std::set<std::string> all_used(const usage& u) {
  std::set<std::string> out;
  std::vector<std::string> todo(u.used_args.begin(), u.used_args.end());
  while (!todo.empty()) {
    auto name = std::move(todo.back());
    todo.pop_back();
    if (!out.insert(name).second) continue;
    if (auto at = u.all_args.find(name); at != u.all_args.end())
      todo.insert(todo.end(), at->second.deps.begin(), at->second.deps.end());
  }
  return out;
}

void collect_uses(const std::map<std::string, required_use>& uses, std::vector<outline_use>& out) {
  for (const auto& [name, use] : uses) {
    bool known =
        std::any_of(out.begin(), out.end(), [&name = name](const auto& o) { return o.name == name; });
    if (!known) out.push_back({name, use.required, use.location});
  }
}

template <class List>
void sort_by_line(List& list) {
  auto line = [](const auto& x) { return x.location.empty() ? 0 : x.location.front().start; };
  std::stable_sort(list.begin(), list.end(), [&](const auto& a, const auto& b) { return line(a) < line(b); });
}

}  // namespace

outline converter::outline_for(stage_state& target) const {
  outline out;
  out.name = target.definition.name;
  out.description = target.definition.description;
  std::set<const stage_state*> seen;
  std::vector<const stage_state*> todo{&target};  // the next last
  while (!todo.empty()) {
    const auto* s = todo.back();
    todo.pop_back();
    if (s == nullptr || !seen.insert(s).second) continue;
    auto used = all_used(s->used);
    for (const auto& name : used) {
      auto at = s->used.all_args.find(name);
      if (at == s->used.all_args.end()) continue;
      bool known =
          std::any_of(out.args.begin(), out.args.end(), [&](const auto& a) { return a.name == name; });
      const auto& info = at->second;
      if (!known)
        out.args.push_back({info.definition.key, info.definition.description, info.value, info.location});
    }
    collect_uses(s->used.secrets, out.secrets);
    collect_uses(s->used.ssh, out.ssh);
    for (auto dep = s->deps.rbegin(); dep != s->deps.rend(); ++dep) todo.push_back(dep->first);
    todo.push_back(s->base);
  }
  sort_by_line(out.args);
  sort_by_line(out.secrets);
  sort_by_line(out.ssh);
  return out;
}

}  // namespace kiln::dockerfile
