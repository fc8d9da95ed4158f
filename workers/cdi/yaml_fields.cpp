#include "workers/cdi/yaml_fields.hpp"

#include <algorithm>

namespace kiln::workers::cdi {

namespace {

// Unquoted, these are truth values to YAML 1.1, which Go's reader speaks.
std::optional<bool> truth(const YAML::Node& node) {
  if (node.Tag() != "?") return std::nullopt;
  for (const char* word : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
    if (node.Scalar() == word) return true;
  for (const char* word : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
    if (node.Scalar() == word) return false;
  return std::nullopt;
}

}  // namespace

error yaml_fields::wrong(const YAML::Node& node, const std::string& where, const std::string& what) {
  return make_error(errc::invalid_argument, "line " + std::to_string(node.Mark().line + 1) + ": " +
                                                (where.empty() ? "" : where + ": ") + what);
}

result<yaml_fields> yaml_fields::of(const YAML::Node& node, std::string where) {
  yaml_fields out;
  out.where_ = std::move(where);
  if (node.IsNull()) return out;
  if (!node.IsMap()) return wrong(node, out.where_, "expected a mapping");
  for (const auto& entry : node) {
    const auto& key = entry.first;
    if (!key.IsScalar()) return wrong(key, out.where_, "expected a name");
    const auto& name = key.Scalar();
    if (std::any_of(out.left_.begin(), out.left_.end(), [&](const field& f) { return f.first == name; }))
      return wrong(key, out.path(name), "given twice");
    out.left_.emplace_back(name, entry.second);
  }
  return out;
}

std::optional<YAML::Node> yaml_fields::take(const std::string& name) {
  auto found = std::find_if(left_.begin(), left_.end(), [&](const field& f) { return f.first == name; });
  if (found == left_.end()) return std::nullopt;
  YAML::Node node = found->second;
  left_.erase(found);
  if (node.IsNull()) return std::nullopt;
  return node;
}

status yaml_fields::finish() const {
  if (left_.empty()) return {};
  return wrong(left_.front().second, path(left_.front().first), "unknown field");
}

status yaml_fields::to_text(const YAML::Node& node, const std::string& where, std::string& out) {
  if (!node.IsScalar()) return wrong(node, where, "expected a text");
  auto flag = truth(node);
  out = flag ? (*flag ? "true" : "false") : node.Scalar();
  return {};
}

status yaml_fields::to_integer(const YAML::Node& node, const std::string& where, std::int64_t& out) {
  if (!node.IsScalar()) return wrong(node, where, "expected a number");
  std::string digits = node.Scalar();
  std::erase(digits, '_');
  std::string_view rest = digits;
  bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  int base = 10;
  auto prefixed = [&](std::string_view lower, std::string_view upper) {
    return rest.starts_with(lower) || rest.starts_with(upper);
  };
  if (prefixed("0x", "0X")) base = 16;
  else if (prefixed("0o", "0O")) base = 8;
  else if (prefixed("0b", "0B")) base = 2;
  if (base != 10) {
    rest.remove_prefix(2);
  } else if (rest.size() > 1 && rest.front() == '0') {
    base = 8;
  }
  std::int64_t value = 0;
  auto [end, failed] = std::from_chars(rest.data(), rest.data() + rest.size(), value, base);
  if (failed != std::errc{} || end != rest.data() + rest.size() || value < 0)
    return wrong(node, where, "\"" + node.Scalar() + "\" is not a number");
  out = negative ? -value : value;
  return {};
}

status yaml_fields::text(const char* name, std::string& out) {
  auto node = take(name);
  return node ? to_text(*node, path(name), out) : status{};
}

status yaml_fields::texts(const char* name, std::vector<std::string>& out) {
  return each_node(name, [&](const YAML::Node& node, const std::string& where) {
    return to_text(node, where, out.emplace_back());
  });
}

status yaml_fields::text_map(const char* name, std::map<std::string, std::string>& out) {
  auto node = take(name);
  if (!node) return {};
  KILN_TRY(auto entries, of(*node, path(name)));
  for (const auto& [key, value] : entries.left_) KILN_CHECK(to_text(value, path(name) + "." + key, out[key]));
  return {};
}

status yaml_fields::flag(const char* name, bool& out) {
  auto node = take(name);
  if (!node) return {};
  auto value = node->IsScalar() ? truth(*node) : std::nullopt;
  if (!value) return wrong(*node, path(name), "expected true or false");
  out = *value;
  return {};
}

}  // namespace kiln::workers::cdi
