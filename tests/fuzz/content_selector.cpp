// What content of a tree a step depends on. Lines: how (a byte), the path, then "+", "-" or "!" and an
// include, exclude or required pattern.
#include <fcntl.h>

#include "base/files.hpp"
#include "store/hashing/tree_digests.hpp"
#include "tests/fuzz/support/input.hpp"
#include "tests/fuzz/support/jail.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  input in(bytes);
  auto how = in.byte();
  content_selector selector{.path = in.line(), .wildcard = (how & 1) != 0, .follow_links = (how & 2) != 0};
  while (!in.empty()) {
    auto line = in.line();
    auto& list = line.starts_with('-')   ? selector.exclude_patterns
                 : line.starts_with('!') ? selector.required_paths
                                         : selector.include_patterns;
    if (!line.empty()) list.push_back(line.substr(1));
  }
  static jail& j = fresh_jail();  // nothing writes to it
  auto root = open_file(j.root(), O_RDONLY | O_DIRECTORY);
  require(root.ok(), "the jail opens");
  store::tree_digests digests(std::move(*root), {});
  auto first = digests.select(selector);
  auto again = digests.select(selector);
  require(first.ok() == again.ok() && (!first.ok() || *first == *again),
          "what is known says the same as what is read");
}
