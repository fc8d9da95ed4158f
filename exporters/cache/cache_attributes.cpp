#include "exporters/cache/cache_attributes.hpp"

#include <charconv>
#include <cstdlib>
#include <limits>

#include "base/numbers.hpp"

namespace kiln::exporters {
namespace {

std::string syntax_error(const std::string& value) {
  return "strconv.ParseBool: parsing \"" + value + "\": invalid syntax";
}

}  // namespace

std::string cache_text(const attributes& attrs, const char* name) {
  auto it = attrs.find(name);
  return it == attrs.end() ? std::string() : it->second;
}

std::optional<std::string> cache_setting(const attributes& attrs, const char* name, const char* variable) {
  if (auto it = attrs.find(name); it != attrs.end()) return it->second;
  if (const char* value = std::getenv(variable)) return value;
  return {};
}

std::string environment(const char* variable, const std::string& otherwise) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

result<int> cache_positive(const attributes& attrs, const char* name, int when_absent) {
  auto it = attrs.find(name);
  if (it == attrs.end()) return when_absent;
  int value = 0;
  const auto& v = it->second;
  auto [end, failure] = std::from_chars(v.data(), v.data() + v.size(), value);
  if (failure != std::errc() || end != v.data() + v.size() || value <= 0)
    return make_error(errc::invalid_argument, std::string(name) + " must be a positive integer");
  return value;
}

result<bool> cache_bool(const attributes& attrs, const char* name, bool when_absent) {
  auto it = attrs.find(name);
  if (it == attrs.end()) return when_absent;
  auto value = kiln::parse_bool(it->second);
  if (!value)
    return make_error(errc::invalid_argument,
                      "failed to parse " + std::string(name) + ": " + syntax_error(it->second));
  return *value;
}

result<image_reference> cache_ref(const attributes& attrs) {
  auto text = cache_text(attrs, "ref");
  if (text.empty()) return make_error(errc::invalid_argument, "missing ref");
  KILN_TRY(auto ref, read_image_reference(text));
  return ref.tagged();
}

result<compression_options> cache_compression(const attributes& attrs) {
  compression_options out;
  if (auto it = attrs.find("compression"); it != attrs.end()) {
    KILN_TRY(out.kind, store::parse_compression(it->second));
  }
  if (auto it = attrs.find("force-compression"); it != attrs.end()) {
    auto force = it->second.empty() ? std::optional<bool>(true) : kiln::parse_bool(it->second);
    if (!force)
      return make_error(
          errc::invalid_argument,
          "non-bool value " + it->second + " specified for force-compression: " + syntax_error(it->second));
    out.force = *force;
  }
  if (auto it = attrs.find("compression-level"); it != attrs.end()) {
    const auto& v = it->second;
    auto level = parse_int(v);
    if (!level || *level < std::numeric_limits<int>::min() || *level > std::numeric_limits<int>::max())
      return make_error(errc::invalid_argument,
                        "non-integer value " + v +
                            " specified for compression-level: strconv.ParseInt: parsing \"" + v +
                            "\": invalid syntax");
    out.level = static_cast<int>(*level);
  }
  return out;
}

}  // namespace kiln::exporters
