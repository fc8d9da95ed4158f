// Path patterns: one path on the first line, then the list.
#include "base/pattern.hpp"

#include "base/slash_path.hpp"
#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  input in(bytes);
  auto path = in.line();
  std::vector<std::string> patterns;
  while (!in.empty()) patterns.push_back(in.line());
  for (const auto& p : patterns) (void)match_path(p, path);
  if (auto list = pattern_list::compile(patterns); list.ok()) (void)list->matches(path);

  auto absolute = clean_absolute(path);
  require(absolute.starts_with('/') && (absolute + "/").find("/../") == std::string::npos,
          "no path leads above the root");
  require(clean_path(absolute) == absolute, "a clean path stays as it is");
}
