// The ordered environment of a state: setting a name again moves it to the end, as clients' LLB does.
// A plain value; not thread-safe.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kiln::llb {

class env_list {
 public:
  /// Sets `key`; an older value is dropped and the key moves to the end. Source: client/llb/meta.go EnvList.
  void set(std::string_view key, std::string value) {
    erase(key);
    entries_.emplace_back(std::string(key), std::move(value));
  }
  void erase(std::string_view key) {
    std::erase_if(entries_, [&](const auto& e) { return e.first == key; });
  }
  std::optional<std::string> get(std::string_view key) const {
    for (const auto& [name, value] : entries_)
      if (name == key) return value;
    return std::nullopt;
  }
  const std::vector<std::pair<std::string, std::string>>& entries() const noexcept { return entries_; }
  bool empty() const noexcept { return entries_.empty(); }

 private:
  std::vector<std::pair<std::string, std::string>> entries_;
};

}  // namespace kiln::llb
