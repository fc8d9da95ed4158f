// Actions of a FileOp in a jail: the input is the op. As in an op, what an action reads from is another tree
// than the one it writes to; here there are two, and the number of its input says which is which.
#include "workers/ops/file_actions.hpp"

#include <fcntl.h>

#include <array>

#include "base/files.hpp"
#include "tests/fuzz/support/input.hpp"
#include "tests/fuzz/support/jail.hpp"

namespace kiln::fuzz {
namespace {

constexpr int actions_max = 32;

struct tree {
  explicit tree(std::string at)
      : path(std::move(at)), root(open_file(path, O_RDONLY | O_DIRECTORY).value()) {}
  std::string path;
  unique_fd root;
};

status act(const tree& from, const tree& to, const pb::FileAction& action) {
  const workers::file_owner owner{1, 2};
  int root = to.root.get();
  switch (action.action_case()) {
    case pb::FileAction::kMkdir: return workers::make_directory(root, action.mkdir(), owner);
    case pb::FileAction::kMkfile: return workers::make_file(root, action.mkfile(), {});
    case pb::FileAction::kSymlink: return workers::make_symlink(root, action.symlink(), owner);
    case pb::FileAction::kRm: return workers::remove_path(root, action.rm());
    case pb::FileAction::kCopy:
      return workers::copy_path(from.root.get(), root, to.path, action.copy(), {}, {});
    default: return {};
  }
}

}  // namespace

void try_input(std::string_view bytes) {
  pb::FileOp op;
  if (!op.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || op.actions_size() > actions_max)
    return;
  jail& j = fresh_jail();
  {
    std::array<tree, 2> trees{tree(j.root()), tree(j.fresh("second"))};
    for (const auto& action : op.actions()) {
      auto to = static_cast<std::size_t>(action.input() & 1);
      (void)act(trees[1 - to], trees[to], action);
    }
  }
  j.check();
}

}  // namespace kiln::fuzz
