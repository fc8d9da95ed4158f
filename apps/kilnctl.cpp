// kilnctl, also installed as buildctl: the command-line client of the daemon.
#include <string>
#include <vector>

#include "client/run.hpp"

int main(int argc, char** argv) {
  std::string program = argc > 0 ? argv[0] : "kilnctl";
  program = program.substr(program.rfind('/') + 1);
  return kiln::client::run(program, {argv + (argc > 0 ? 1 : 0), argv + argc});
}
