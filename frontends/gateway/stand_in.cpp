#include "frontends/gateway/stand_in.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

#include "base/text.hpp"
#include "configs/version.hpp"

namespace kiln::frontends {

namespace {

/// The numbers of "1", "1.9" or "1.9.0"; nothing for any other text.
std::optional<std::vector<int>> version_of(std::string_view text) {
  std::vector<int> out;
  for (auto part : split_views(text, '.')) {
    int n = 0;
    auto [end, failed] = std::from_chars(part.data(), part.data() + part.size(), n);
    bool number = failed == std::errc{} && end == part.data() + part.size() && part.front() != '-';
    if (!number || out.size() == 3) return std::nullopt;
    out.push_back(n);
  }
  return out;
}

}  // namespace

bool stands_in_for(const image_reference& image) {
  if (image.digest || image.domain != "docker.io") return false;
  if (image.path != "docker/dockerfile" && image.path != "docker/dockerfile-upstream") return false;
  std::string_view tag = image.tag;
  // What these channels try out beside a release is built in as well.
  for (std::string_view channel : {"-labs", "-experimental"})
    if (tag.ends_with(channel)) tag.remove_suffix(channel.size());
  auto wanted = version_of(tag), ours = version_of(configs::dockerfile_version);
  if (!wanted || !ours) return false;
  // A tag of fewer numbers names all releases that begin so.
  ours->resize(std::min(ours->size(), wanted->size()));
  return *wanted <= *ours;
}

}  // namespace kiln::frontends
