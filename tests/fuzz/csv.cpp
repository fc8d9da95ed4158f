// KEY=VALUE,KEY=VALUE lines.
#include "base/csv.hpp"

#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view input) { (void)split_csv(input); }
