// CDI spec files.
#include "tests/fuzz/support/input.hpp"
#include "workers/cdi/spec.hpp"

void kiln::fuzz::try_input(std::string_view bytes) { (void)workers::cdi::parse_spec(bytes); }
