#include "messages/image_reference.hpp"

#include <algorithm>
#include <cctype>

namespace kiln {
namespace {

constexpr std::size_t max_name_length = 255;
constexpr std::size_t max_tag_length = 128;
constexpr std::size_t max_shown_length = 300;
constexpr std::string_view hub = "docker.io";
constexpr std::string_view official = "library/";

bool is_lower_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_alnum(char c) { return is_lower_alnum(c) || is_upper(c); }
bool is_hex(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }

/// alnum+ ((one of . _ __ or dashes) alnum+)*
bool valid_path_component(std::string_view s) {
  std::size_t i = 0;
  auto run = [&] {
    std::size_t begin = i;
    while (i < s.size() && is_lower_alnum(s[i])) ++i;
    return i > begin;
  };
  if (!run()) return false;
  while (i < s.size()) {
    if (s[i] == '.') {
      ++i;
    } else if (s[i] == '_') {
      i += s.substr(i).starts_with("__") ? 2 : 1;
    } else if (s[i] == '-') {
      while (i < s.size() && s[i] == '-') ++i;
    } else {
      return false;
    }
    if (!run()) return false;
  }
  return true;
}

template <class Check>
bool all_parts(std::string_view s, char separator, Check check) {
  for (;;) {
    std::size_t at = s.find(separator);
    if (!check(s.substr(0, at))) return false;
    if (at == s.npos) return true;
    s.remove_prefix(at + 1);
  }
}

bool valid_domain(std::string_view s) {
  if (s.starts_with('[')) {
    std::size_t end = s.find(']');
    if (end == s.npos || end == 1) return false;
    auto inside = s.substr(1, end - 1);
    if (!std::all_of(inside.begin(), inside.end(), [](char c) { return is_hex(c) || c == ':'; }))
      return false;
    s.remove_prefix(end + 1);
    if (s.empty()) return true;
    if (s[0] != ':') return false;
    s.remove_prefix(1);
  } else {
    std::size_t colon = s.find(':');
    bool ok = all_parts(s.substr(0, colon), '.', [](std::string_view part) {
      return !part.empty() && is_alnum(part.front()) && is_alnum(part.back()) &&
             std::all_of(part.begin(), part.end(), [](char c) { return is_alnum(c) || c == '-'; });
    });
    if (!ok) return false;
    if (colon == s.npos) return true;
    s.remove_prefix(colon + 1);
  }
  return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool valid_tag(std::string_view s) {
  auto word = [](char c) { return is_alnum(c) || c == '_'; };
  return !s.empty() && s.size() <= max_tag_length && word(s[0]) &&
         std::all_of(s.begin(), s.end(), [&](char c) { return word(c) || c == '.' || c == '-'; });
}

error malformed(std::string_view why = {}) {
  return make_error(errc::invalid_argument,
                    "invalid reference format" + (why.empty() ? "" : ": " + std::string(why)));
}

}  // namespace

std::string image_reference::str() const {
  std::string out = name();
  if (!tag.empty()) out += ":" + tag;
  if (!digest.empty()) out += "@" + digest.str();
  return out;
}

std::string image_reference::familiar_name() const {
  if (domain != hub) return name();
  if (path.starts_with(official) && path.find('/', official.size()) == path.npos)
    return path.substr(official.size());
  return path;
}

std::string image_reference::familiar() const {
  std::string out = familiar_name();
  if (!tag.empty()) out += ":" + tag;
  if (!digest.empty()) out += "@" + digest.str();
  return out;
}

image_reference image_reference::tagged() const {
  image_reference r = *this;
  if (r.name_only()) r.tag = "latest";
  return r;
}

result<image_reference> parse_image_reference(std::string_view text) {
  auto is_lower_hex = [](char c) { return is_hex(c) && !is_upper(c); };
  if (text.size() == 64 && std::all_of(text.begin(), text.end(), is_lower_hex))
    return make_error(errc::invalid_argument, "invalid repository name (" + std::string(text) +
                                                  "), cannot specify 64-byte hexadecimal strings");
  image_reference out;
  std::string_view rest = text;
  if (std::size_t at = rest.find('@'); at != rest.npos) {
    auto d = digest::parse(rest.substr(at + 1));
    if (!d.ok() || d->algorithm() == "random")
      return malformed(d.ok() ? "unsupported digest" : d.error().message);
    out.digest = *std::move(d);
    rest = rest.substr(0, at);
  }
  // A tag follows the last colon behind the last slash.
  std::size_t slash = rest.rfind('/');
  std::size_t colon = rest.find(':', slash == rest.npos ? 0 : slash);
  if (colon != rest.npos) {
    out.tag = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    if (!valid_tag(out.tag)) return malformed();
  }
  // The first part is a domain when it looks like one.
  slash = rest.find('/');
  std::string_view first = rest.substr(0, slash);
  if (slash != rest.npos && (first.find_first_of(".:") != first.npos || first == "localhost" ||
                             std::any_of(first.begin(), first.end(), is_upper))) {
    if (!valid_domain(first)) return malformed();
    out.domain = first == "index.docker.io" ? hub : first;
    out.path = rest.substr(slash + 1);
  } else {
    out.domain = hub;
    out.path = rest;
  }
  if (out.domain == hub && out.path.find('/') == out.path.npos) out.path.insert(0, official);
  if (std::any_of(out.path.begin(), out.path.end(), is_upper))
    return malformed("repository name (" + out.path + ") must be lowercase");
  if (!all_parts(out.path, '/', valid_path_component)) return malformed();
  if (out.path.size() > max_name_length)
    return make_error(errc::invalid_argument, "repository name must not be more than 255 characters");
  return out;
}

result<image_reference> read_image_reference(std::string_view text) {
  auto r = parse_image_reference(text);
  if (r.ok()) return r;
  return std::move(r).error().with_context("failed to parse reference \"" +
                                           std::string(text.substr(0, max_shown_length)) + "\"");
}

}  // namespace kiln
