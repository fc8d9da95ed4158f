// The name of a downloaded file: its URL and the server's Content-Disposition, on two lines.
#include "tests/fuzz/support/input.hpp"
#include "workers/sources/download_name.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  input in(bytes);
  auto url = in.line();
  auto name = workers::download_name(url, "", in.rest());
  require(!name.empty() && name != "." && name != "..", "a download has a name of its own");
  require(name.find('/') == std::string::npos && name.find('\0') == std::string::npos,
          "the name is one component");
}
