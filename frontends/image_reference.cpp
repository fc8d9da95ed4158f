#include "frontends/image_reference.hpp"

#include <algorithm>

#include "messages/digest.hpp"

namespace kiln::frontends {

namespace {

constexpr std::size_t max_name_length = 255;
constexpr std::size_t max_tag_length = 128;

error malformed() { return make_error(errc::invalid_argument, "invalid reference format"); }

bool is_lower_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool is_alnum(char c) { return is_lower_alnum(c) || (c >= 'A' && c <= 'Z'); }
bool is_word(char c) { return is_alnum(c) || c == '_'; }

// Alphanumerics joined by ".", "_", "__" or dashes.
bool is_path_component(std::string_view text) {
  std::size_t i = 0;
  while (true) {
    auto start = i;
    while (i < text.size() && is_lower_alnum(text[i])) ++i;
    if (i == start) return false;
    if (i == text.size()) return true;
    if (text[i] == '.') {
      ++i;
    } else if (text[i] == '_') {
      i += text.substr(i).starts_with("__") ? 2 : 1;
    } else if (text[i] == '-') {
      while (i < text.size() && text[i] == '-') ++i;
    } else {
      return false;
    }
  }
}

bool is_path(std::string_view text) {
  for (;;) {
    auto slash = text.find('/');
    if (!is_path_component(text.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    text.remove_prefix(slash + 1);
  }
}

bool is_domain(std::string_view text) {
  auto colon = text.starts_with('[') ? text.find(':', text.find(']')) : text.find(':');
  auto host = text.substr(0, colon);
  if (colon != std::string_view::npos) {
    auto port = text.substr(colon + 1);
    if (port.empty() || port.find_first_not_of("0123456789") != std::string_view::npos) return false;
  }
  if (host.starts_with('[') && host.ends_with(']') && host.size() > 2)
    return host.substr(1, host.size() - 2).find_first_not_of("0123456789abcdefABCDEF:") ==
           std::string_view::npos;
  while (true) {
    auto dot = host.find('.');
    auto label = host.substr(0, dot);
    if (label.empty() || !is_alnum(label.front()) || !is_alnum(label.back())) return false;
    if (!std::all_of(label.begin(), label.end(), [](char c) { return is_alnum(c) || c == '-'; }))
      return false;
    if (dot == std::string_view::npos) return true;
    host.remove_prefix(dot + 1);
  }
}

bool is_tag(std::string_view text) {
  return !text.empty() && text.size() <= max_tag_length && is_word(text[0]) &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_word(c) || c == '.' || c == '-'; });
}

bool has_upper(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}

}  // namespace

std::string image_reference::str() const {
  auto out = name();
  if (!tag.empty()) out += ":" + tag;
  if (!digest.empty()) out += "@" + digest;
  return out;
}

std::string image_reference::familiar() const {
  auto out = name();
  if (domain == "docker.io")
    out = path.starts_with("library/") && path.find('/', 8) == std::string::npos ? path.substr(8) : path;
  if (!tag.empty()) out += ":" + tag;
  if (!digest.empty()) out += "@" + digest;
  return out;
}

image_reference image_reference::with_default_tag() const {
  auto out = *this;
  if (out.tag.empty() && out.digest.empty()) out.tag = "latest";
  return out;
}

result<image_reference> parse_image_reference(std::string_view text) {
  if (text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos)
    return make_error(errc::invalid_argument, "invalid repository name (" + std::string(text) +
                                                  "), cannot specify 64-byte hexadecimal strings");
  image_reference out;
  auto slash = text.find('/');
  auto first = text.substr(0, slash);
  auto remainder = text;
  if (slash == std::string_view::npos ||
      (first.find_first_of(".:") == std::string_view::npos && first != "localhost" && !has_upper(first))) {
    out.domain = "docker.io";
  } else {
    out.domain = first == "index.docker.io" ? "docker.io" : std::string(first);
    remainder = text.substr(slash + 1);
  }
  auto rest = remainder;
  if (auto at = rest.find('@'); at != std::string_view::npos) {
    out.digest = rest.substr(at + 1);
    rest = rest.substr(0, at);
    auto parsed = kiln::digest::parse(out.digest);
    if (!parsed) return malformed();
  }
  auto last_slash = rest.rfind('/');
  auto colon = rest.find(':', last_slash == std::string_view::npos ? 0 : last_slash);
  if (colon != std::string_view::npos) {
    out.tag = rest.substr(colon + 1);
    if (!is_tag(out.tag)) return malformed();
    rest = rest.substr(0, colon);
  }
  if (has_upper(rest)) {
    bool is_short = out.domain == "docker.io" && rest.find('/') == std::string_view::npos;
    return make_error(errc::invalid_argument, "invalid reference format: repository name (" +
                                                  std::string(is_short ? "library/" : "") +
                                                  std::string(rest) + ") must be lowercase");
  }
  if (!is_domain(out.domain) || !is_path(rest)) return malformed();
  if (out.domain == "docker.io" && rest.find('/') == std::string_view::npos) out.path = "library/";
  out.path += rest;
  if (out.path.size() > max_name_length)
    return make_error(errc::invalid_argument, "repository name must not be more than 255 characters");
  return out;
}

}  // namespace kiln::frontends
