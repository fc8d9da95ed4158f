// Reads YAML mappings field by field, strictly: a field nobody asks for, one given twice and one of the wrong
// form are errors that name line and field. Pure.
#pragma once

#include <charconv>
#include <concepts>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <yaml-cpp/yaml.h>

#include "base/result.hpp"

namespace kiln::workers::cdi {

/// One mapping. Fields that are missing or null leave what they would fill as it is.
class yaml_fields {
 public:
  /// `where` names the mapping in errors, "" at the top.
  static result<yaml_fields> of(const YAML::Node& node, std::string where);

  status text(const char* name, std::string& out);
  status texts(const char* name, std::vector<std::string>& out);
  status text_map(const char* name, std::map<std::string, std::string>& out);
  status flag(const char* name, bool& out);

  template <std::integral T>
  status number(const char* name, T& out) {
    auto node = take(name);
    if (!node) return {};
    return to_number(*node, path(name), out);
  }
  template <std::integral T>
  status number(const char* name, std::optional<T>& out) {
    if (auto node = take(name)) {
      out.emplace();
      return to_number(*node, path(name), *out);
    }
    return {};
  }
  template <std::integral T>
  status numbers(const char* name, std::vector<T>& out) {
    return each_node(name, [&](const YAML::Node& node, const std::string& where) {
      return to_number(node, where, out.emplace_back());
    });
  }

  /// `read(yaml_fields&)` is called for the mapping of that name, or for each one of the list.
  template <class Read>
  status one(const char* name, Read read) {
    auto node = take(name);
    return node ? read_fields(*node, path(name), read) : status{};
  }
  template <class Read>
  status each(const char* name, Read read) {
    return each_node(name, [&](const YAML::Node& node, const std::string& where) {
      return read_fields(node, where, read);
    });
  }

  /// An error when there is a field nobody asked for.
  status finish() const;

 private:
  using field = std::pair<std::string, YAML::Node>;

  std::string path(const std::string& name) const { return where_.empty() ? name : where_ + "." + name; }
  std::optional<YAML::Node> take(const std::string& name);
  static error wrong(const YAML::Node& node, const std::string& where, const std::string& what);
  static status to_text(const YAML::Node& node, const std::string& where, std::string& out);
  /// As Go reads integers: 0x, 0o, 0b and a leading 0 tell the base.
  static status to_integer(const YAML::Node& node, const std::string& where, std::int64_t& out);

  template <std::integral T>
  static status to_number(const YAML::Node& node, const std::string& where, T& out) {
    std::int64_t wide = 0;
    KILN_CHECK(to_integer(node, where, wide));
    if (!std::in_range<T>(wide)) return wrong(node, where, std::to_string(wide) + " is out of range");
    out = static_cast<T>(wide);
    return {};
  }

  template <class Read>
  static status read_fields(const YAML::Node& node, const std::string& where, Read& read) {
    KILN_TRY(auto fields, of(node, where));
    KILN_CHECK(read(fields));
    return fields.finish();
  }

  template <class Read>
  status each_node(const char* name, Read read) {
    auto node = take(name);
    if (!node) return {};
    if (!node->IsSequence()) return wrong(*node, path(name), "expected a list");
    std::size_t n = 0;
    for (const auto& item : *node) KILN_CHECK(read(item, path(name) + "[" + std::to_string(n++) + "]"));
    return {};
  }

  std::string where_;
  std::list<field> left_;  // never assigned: assigning a node changes the document
};

}  // namespace kiln::workers::cdi
