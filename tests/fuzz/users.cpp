// USER: what is asked for on the first line, then the image's /etc/passwd, "====" and its /etc/group.
#include "tests/fuzz/support/input.hpp"
#include "workers/executor/users.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  input in(bytes);
  auto wanted = in.line();
  auto passwd = in.section("====\n");
  auto group = in.rest();
  (void)workers::find_user(wanted, passwd, group);
  (void)workers::find_user(wanted, {}, group);
}
