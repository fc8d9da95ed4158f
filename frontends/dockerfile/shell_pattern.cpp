// Pattern operators of ${variable}: # ## % %% / //. A pattern is a list of fixed segments between stars, so
// leftmost and rightmost packing give the shortest and longest match in linear passes.
#include <algorithm>

#include "base/utf8.hpp"
#include "configs/frontends.hpp"
#include "frontends/dockerfile/shell_words.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

constexpr char32_t any_char = 0xffffffff;
using glyphs = std::u32string;

glyphs to_glyphs(std::string_view text) {
  glyphs out;
  for (std::size_t i = 0; i < text.size();) {
    auto c = first_code_point(text.substr(i));
    // A malformed byte keeps its identity beyond Unicode.
    out += c.width == 1 && c.value >= 0x80 ? 0x110000 + c.value : c.value;
    i += c.width;
  }
  return out;
}

std::string from_glyphs(std::u32string_view text) {
  std::string out;
  for (auto c : text) {
    if (c >= 0x110000) out += static_cast<char>(c - 0x110000);
    else append_utf8(out, c);
  }
  return out;
}

// segments.size() - 1 stars. One segment: no star.
struct compiled {
  std::vector<glyphs> segments{glyphs{}};
};

result<compiled> compile(std::string_view pattern, std::string_view value) {
  if (pattern.size() > configs::dockerfile_max_pattern_size ||
      value.size() > configs::dockerfile_max_pattern_text)
    return make_error(errc::invalid_argument, "pattern or text is too long");
  compiled out;
  auto text = to_glyphs(pattern);
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto c = text[i];
    if (c == '*') {
      out.segments.emplace_back();
    } else if (c == '?') {
      out.segments.back() += any_char;
    } else if (c == '\\') {
      // An escaped } or / belongs to the syntax around the pattern.
      if (i + 1 < text.size() && (text[i + 1] == '}' || text[i + 1] == '/')) continue;
      auto next = i + 1 < text.size() ? text[i + 1] : U'\0';
      if (next != '*' && next != '?' && next != '\\')
        return make_error(
            errc::invalid_argument,
            "invalid escape '\\" + (i + 1 < text.size() ? from_glyphs({&next, 1}) : "\xef\xbf\xbd") + "'");
      out.segments.back() += next;
      ++i;
    } else {
      out.segments.back() += c;
    }
  }
  return out;
}

bool fits(const glyphs& segment, std::u32string_view text, std::size_t at) {
  if (at + segment.size() > text.size()) return false;
  for (std::size_t i = 0; i < segment.size(); ++i)
    if (segment[i] != any_char && segment[i] != text[at + i]) return false;
  return true;
}

constexpr auto npos = std::u32string_view::npos;

std::size_t find_first(const glyphs& segment, std::u32string_view text, std::size_t from) {
  for (auto at = from; at + segment.size() <= text.size(); ++at)
    if (fits(segment, text, at)) return at;
  return npos;
}

std::size_t find_last(const glyphs& segment, std::u32string_view text, std::size_t from) {
  if (text.size() < segment.size()) return npos;
  for (auto at = text.size() - segment.size() + 1; at-- > from;)
    if (fits(segment, text, at)) return at;
  return npos;
}

// The end of the match that begins at `start`, or npos.
std::size_t match_at(const compiled& pattern, std::u32string_view text, std::size_t start, bool longest) {
  const auto& first = pattern.segments.front();
  if (!fits(first, text, start)) return npos;
  auto end = start + first.size();
  for (std::size_t i = 1; i < pattern.segments.size(); ++i) {
    bool last = i + 1 == pattern.segments.size();
    const auto& segment = pattern.segments[i];
    auto at = last && longest ? find_last(segment, text, end) : find_first(segment, text, end);
    if (at == npos) return npos;
    end = at + segment.size();
  }
  return end;
}

error bad_pattern(std::string_view pattern, const error& why) {
  return make_error(errc::invalid_argument,
                    "invalid pattern (" + std::string(pattern) + ") in substitution: " + why.message);
}

}  // namespace

result<std::string> trim_prefix_pattern(std::string_view pattern, std::string_view value, bool longest) {
  auto compiled_pattern = compile(pattern, value);
  if (!compiled_pattern) return bad_pattern(pattern, compiled_pattern.error());
  auto text = to_glyphs(value);
  auto end = match_at(*compiled_pattern, text, 0, longest);
  return end == npos ? std::string(value) : from_glyphs(std::u32string_view(text).substr(end));
}

result<std::string> trim_suffix_pattern(std::string_view pattern, std::string_view value, bool longest) {
  auto forward = compile(pattern, value);
  if (!forward) return bad_pattern(pattern, forward.error());
  // The same search from the right: both sides reversed.
  auto backward = *std::move(forward);
  std::reverse(backward.segments.begin(), backward.segments.end());
  for (auto& segment : backward.segments) std::reverse(segment.begin(), segment.end());
  auto text = to_glyphs(value);
  std::reverse(text.begin(), text.end());
  auto end = match_at(backward, text, 0, longest);
  if (end == npos) return std::string(value);
  auto rest = text.substr(end);
  std::reverse(rest.begin(), rest.end());
  return from_glyphs(rest);
}

result<std::string> replace_pattern(std::string_view pattern, std::string_view replacement,
                                    std::string_view value, bool all) {
  auto compiled_pattern = compile(pattern, value);
  if (!compiled_pattern) return bad_pattern(pattern, compiled_pattern.error());
  auto text = to_glyphs(value);
  std::u32string_view view = text;
  std::string out;
  std::size_t kept = 0;
  bool after_match = false;
  for (std::size_t start = 0; start <= view.size();) {
    auto end = match_at(*compiled_pattern, view, start, true);
    // When what follows the first piece is not found, it is not found further on either.
    if (end == npos && fits(compiled_pattern->segments.front(), view, start)) break;
    if (end == npos || (end == start && after_match)) {
      after_match = false;
      ++start;
      continue;
    }
    out += from_glyphs(view.substr(kept, start - kept));
    out += replacement;
    kept = end;
    if (!all) break;
    after_match = end > start;
    start = end > start ? end : start + 1;
  }
  if (kept < view.size()) out += from_glyphs(view.substr(kept));
  return out;
}

}  // namespace kiln::dockerfile
