#include "configs/provenance_environment.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "base/json_text.hpp"

namespace kiln::configs {

result<std::string> read_provenance_environment(const std::string& directory) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(directory, failed))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  if (failed && failed != std::errc::no_such_file_or_directory)
    return make_error(errc::internal, "failed to read " + directory + ": " + failed.message());
  std::sort(files.begin(), files.end());
  auto all = nlohmann::ordered_json::object();
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    auto one = json_or_null<nlohmann::ordered_json>(text);
    if (!one.is_object())
      return make_error(errc::invalid_argument,
                        "failed to parse provenance environment file " + file.string());
    for (const auto& [key, value] : one.items()) {
      for (const char* ours : {"buildConfig", "builderPlatform", "platform"})
        if (key == ours)
          return make_error(
              errc::invalid_argument,
              "key \"" + key + "\" is builtin and not allowed to be modified in provenance config");
      all[key] = value;
    }
  }
  return json_text(all);
}

}  // namespace kiln::configs
