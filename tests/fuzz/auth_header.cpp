// WWW-Authenticate headers of registries, one a line, and the scopes they name.
#include "distribution/authorizer.hpp"
#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  distribution::headers headers;
  for (input in(bytes); !in.empty();) headers.emplace("www-authenticate", in.line());
  std::vector<std::string> scopes;
  for (const auto& challenge : distribution::parse_challenges(headers))
    for (const auto& [name, value] : challenge.parameters) scopes.push_back(value);
  (void)distribution::normalize_scopes(scopes);
}
