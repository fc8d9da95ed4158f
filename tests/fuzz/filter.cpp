// Filter expressions, one a line.
#include "messages/filter.hpp"

#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  std::vector<std::string> expressions;
  for (input in(bytes); !in.empty();) expressions.push_back(in.line());
  auto f = filter::parse(expressions);
  if (f.ok()) (void)f->matches([](std::span<const std::string> path) { return std::optional(path.back()); });
}
