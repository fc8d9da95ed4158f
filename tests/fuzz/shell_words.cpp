// Words of Dockerfile instructions: the first byte says how, then lines of NAME=value, an empty line, the
// word.
#include "frontends/dockerfile/shell_words.hpp"

#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  input in(bytes);
  auto how = in.byte();
  llb::env_list variables;
  for (auto line = in.line(); !line.empty(); line = in.line()) {
    auto [name, value] = assignment(line);
    variables.set(name, value);
  }
  dockerfile::shell_words words((how & 1) != 0 ? '`' : '\\');
  words.raw_quotes = (how & 2) != 0;
  words.raw_escapes = (how & 4) != 0;
  words.skip_quotes = (how & 8) != 0;
  words.skip_unset = (how & 16) != 0;
  (void)words.expand(in.rest(), dockerfile::list_environment(variables));
}
