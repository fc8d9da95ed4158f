// A directory as it is offered to the other side. Lines: "+", "-" or "@" and an include pattern, an exclude
// pattern or a path to follow.
#include "filesync/tree.hpp"

#include "filesync/file_stat.hpp"

#include "tests/fuzz/support/input.hpp"
#include "tests/fuzz/support/jail.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  filesync::walk_options options;
  for (input in(bytes); !in.empty();) {
    auto line = in.line();
    auto& list = line.starts_with('-')   ? options.exclude_patterns
                 : line.starts_with('@') ? options.follow_paths
                                         : options.include_patterns;
    if (!line.empty()) list.push_back(line.substr(1));
  }
  static jail& j = fresh_jail();  // nothing writes to it
  auto tree = filesync::open_directory(j.root(), options);
  if (!tree.ok()) return;
  (void)(*tree)->walk(
      [&](filesync::file_stat&& entry) -> status {
        require(entry.path().find("canary") == std::string::npos, "nothing outside the directory is told of");
        if (filesync::is_regular(entry)) (void)(*tree)->open(entry.path());
        return {};
      },
      {});
}
