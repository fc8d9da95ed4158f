// chmod texts.
#include "base/mode_text.hpp"
#include "tests/fuzz/support/input.hpp"

#include <sys/stat.h>

#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  auto change = mode_change::parse(bytes);
  if (!change.ok()) return;
  for (mode_t mode : {S_IFREG | 0644, S_IFDIR | 0750, S_IFREG | 0})
    require((change->apply(mode) & ~mode_t{07777}) == 0 || (change->apply(mode) & S_IFMT) == (mode & S_IFMT),
            "only permissions change");
}
