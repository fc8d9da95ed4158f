#include "workers/executor/environment.hpp"

#include <algorithm>
#include <string_view>
#include <unordered_set>

namespace kiln::workers {

result<std::vector<std::string>> process_environment(const std::vector<std::string>& env,
                                                     const std::string& home) {
  std::vector<std::string> out;
  std::unordered_set<std::string_view> names;
  for (auto entry = env.rbegin(); entry != env.rend(); ++entry) {
    auto equals = entry->find('=');
    if (equals == std::string::npos)
      return make_error(errc::invalid_argument, "invalid environment variable: \"" + *entry + "\"");
    auto name = std::string_view(*entry).substr(0, equals);
    bool no_home = name == "HOME" && equals + 1 == entry->size();
    if (!no_home && names.insert(name).second) out.push_back(*entry);
  }
  std::reverse(out.begin(), out.end());
  if (!names.contains("HOME")) out.push_back("HOME=" + home);
  return out;
}

}  // namespace kiln::workers
