// The `--name=value` flags in front of an instruction's arguments. Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln::dockerfile {

/// Declares the flags an instruction knows, then reads those it was given.
class flag_set {
 public:
  flag_set& boolean(std::string name) { return add(std::move(name), kind::boolean); }
  flag_set& string(std::string name) { return add(std::move(name), kind::string); }
  flag_set& strings(std::string name) { return add(std::move(name), kind::strings); }

  /// invalid_argument: unknown (with a suggestion), duplicate or malformed flags, worded as upstream.
  /// Source: instructions/bflag.go.
  status parse(const std::vector<std::string>& args);

  bool used(std::string_view name) const { return flags_.find(name)->second.used; }
  const std::string& value(std::string_view name) const { return flags_.find(name)->second.value; }
  const std::vector<std::string>& values(std::string_view name) const {
    return flags_.find(name)->second.values;
  }
  bool is_true(std::string_view name) const { return value(name) == "true"; }

 private:
  enum class kind { boolean, string, strings };
  struct flag {
    kind type;
    bool used = false;
    std::string value;
    std::vector<std::string> values;
  };
  flag_set& add(std::string name, kind type) {
    flags_.emplace(std::move(name), flag{type, false, {}, {}});
    return *this;
  }
  std::map<std::string, flag, std::less<>> flags_;
};

}  // namespace kiln::dockerfile
