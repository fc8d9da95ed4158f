#include "frontends/dockerfile/suggest.hpp"

#include <algorithm>

#include "configs/frontends.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

constexpr std::size_t too_far = 3;  // edits

std::size_t distance(std::string_view a, std::string_view b) {
  if (a.size() > b.size() + too_far || b.size() > a.size() + too_far) return too_far;
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    auto diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      auto above = row[j];
      row[j] = std::min({row[j - 1] + 1, above + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string match_case(const std::string& word, std::string_view like) {
  if (like == to_lower(like)) return to_lower(word);
  if (like == to_upper(like)) return to_upper(word);
  return word;
}

}  // namespace

std::string suggest(std::string_view word, const std::vector<std::string>& options, bool case_sensitive) {
  if (word.size() > configs::suggestion_max_word) return {};
  auto wanted = case_sensitive ? std::string(word) : to_lower(word);
  std::string match;
  auto best = too_far;
  for (const auto& raw : options) {
    auto option = case_sensitive ? raw : to_lower(raw);
    if (option == wanted) return {};
    auto d = distance(wanted, option);
    if (d >= best) continue;
    best = d;
    match = case_sensitive ? option : match_case(option, word);
  }
  return match;
}

error with_suggestion(error e, std::string_view word, const std::vector<std::string>& options,
                      bool case_sensitive) {
  auto match = suggest(word, options, case_sensitive);
  if (!match.empty()) e.message += " (did you mean " + match + "?)";
  return e;
}

}  // namespace kiln::dockerfile
