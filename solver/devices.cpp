#include "solver/devices.hpp"

#include <algorithm>

namespace kiln::solver {

namespace {

bool has_vendor(std::string_view kind) {
  auto slash = kind.find('/');
  return slash != std::string_view::npos && slash > 0 && slash + 1 < kind.size();
}

std::vector<std::string> matches(std::span<const device> all, const std::string& wanted) {
  auto kind = kind_of(wanted);
  auto name =
      wanted.size() > kind.size() ? std::string_view(wanted).substr(kind.size() + 1) : std::string_view{};
  std::vector<std::string> out;
  if (has_vendor(kind)) {
    for (const auto& d : all) {
      bool meant = name.empty() || name == "*" ? kind_of(d.name) == kind : d.name == wanted;
      if (!meant) continue;
      out.push_back(d.name);
      if (name != "*") break;
    }
  }
  if (!out.empty()) return out;
  for (const auto& d : all)
    if (auto group = d.annotations.find(device_class_annotation);
        group != d.annotations.end() && group->second == wanted)
      out.push_back(d.name);
  return out;
}

}  // namespace

std::string_view kind_of(std::string_view device_name) {
  return device_name.substr(0, device_name.find('='));
}

result<std::vector<std::string>> find_devices(std::span<const device> all,
                                              std::span<const pb::CDIDevice> wanted) {
  std::vector<std::string> out;
  for (const auto& w : wanted) {
    auto found = matches(all, w.name());
    if (found.empty() && !w.optional())
      return make_error(errc::not_found, "required device \"" + w.name() + "\" is not registered");
    for (auto& name : found)
      if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(std::move(name));
  }
  return out;
}

}  // namespace kiln::solver
