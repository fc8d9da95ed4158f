// The environment's variables as a test wants them, and afterwards as they were.
#pragma once

#include <cstdlib>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace kiln::test {

class environment_of {
 public:
  /// An empty value unsets the variable.
  environment_of(std::initializer_list<std::pair<const std::string, std::string>> variables)
      : environment_of(std::map<std::string, std::string>(variables)) {}
  explicit environment_of(const std::map<std::string, std::string>& variables) {
    for (const auto& [name, value] : variables) {
      const char* before = std::getenv(name.c_str());
      before_[name] = before ? std::optional<std::string>(before) : std::nullopt;
      put(name, value.empty() ? std::nullopt : std::optional(value));
    }
  }
  ~environment_of() {
    for (const auto& [name, value] : before_) put(name, value);
  }
  environment_of(const environment_of&) = delete;
  environment_of& operator=(const environment_of&) = delete;

 private:
  static void put(const std::string& name, const std::optional<std::string>& value) {
    if (value) ::setenv(name.c_str(), value->c_str(), 1);
    else ::unsetenv(name.c_str());
  }

  std::map<std::string, std::optional<std::string>> before_;
};

}  // namespace kiln::test
