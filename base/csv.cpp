#include "base/csv.hpp"

#include <algorithm>

namespace kiln {

result<std::vector<std::string>> split_csv(std::string_view line, char comma) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) return make_error(errc::invalid_argument, "EOF");
  auto stray = [](std::size_t column, std::string_view what) {
    return make_error(errc::invalid_argument, "parse error on line 1, column " + std::to_string(column + 1) +
                                                  ": " + std::string(what));
  };
  std::vector<std::string> fields;
  std::size_t i = 0;
  for (;;) {
    std::string field;
    if (i < line.size() && line[i] == '"') {
      ++i;
      for (;;) {
        auto quote = line.find('"', i);
        if (quote == std::string_view::npos)
          return stray(line.size(), "extraneous or missing \" in quoted-field");
        field += line.substr(i, quote - i);
        i = quote + 1;
        if (i >= line.size() || line[i] != '"') break;
        field += '"';
        ++i;
      }
      if (i < line.size() && line[i] != comma)
        return stray(i - 1, "extraneous or missing \" in quoted-field");
    } else {
      auto end = std::min(line.find(comma, i), line.size());
      field = line.substr(i, end - i);
      if (auto quote = field.find('"'); quote != std::string::npos)
        return stray(i + quote, "bare \" in non-quoted-field");
      i = end;
    }
    fields.push_back(std::move(field));
    if (i >= line.size()) return fields;
    ++i;
    if (i == line.size()) {
      fields.emplace_back();
      return fields;
    }
  }
}

}  // namespace kiln
