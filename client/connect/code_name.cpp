#include "client/connect/code_name.hpp"

#include <cctype>

namespace kiln::client {

std::string code_name(errc code) {
  if (code == errc::ok) return "OK";
  if (code == errc::cancelled) return "Canceled";
  std::string out;
  bool begins = true;
  for (char c : to_string(code)) {
    if (c != ' ') out += begins ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    begins = c == ' ';
  }
  return out;
}

error with_code_name(error e) {
  if (e.code == errc::unknown || e.code == errc::ok) return e;
  auto name = code_name(e.code);
  return std::move(e).with_context(name);
}

}  // namespace kiln::client
