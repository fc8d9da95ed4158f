#include "workers/sources/header_values.hpp"

#include <algorithm>

#include "base/url.hpp"

namespace kiln::workers {

void add_header(call_metadata& metadata, const std::string& key, const std::vector<std::string>& values) {
  bool encode = std::any_of(values.begin(), values.end(), [](const std::string& v) {
    return std::any_of(v.begin(), v.end(), [](char c) { return static_cast<unsigned char>(c) > 0x7F; });
  });
  for (const auto& v : values) metadata.emplace_back(key, encode ? query_escape(v) : v);
  if (encode) metadata.emplace_back(key + "-encoded", "1");
}

}  // namespace kiln::workers
