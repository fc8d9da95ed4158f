// Actions of a FileOp in a jail: the input is the op.
#include "workers/ops/file_actions.hpp"

#include <fcntl.h>

#include "store/files.hpp"
#include "tests/fuzz/support/input.hpp"
#include "tests/fuzz/support/jail.hpp"

namespace kiln::fuzz {
namespace {

constexpr int actions_max = 32;

status act(int root, const std::string& path, const pb::FileAction& action) {
  const workers::file_owner owner{1, 2};
  switch (action.action_case()) {
    case pb::FileAction::kMkdir: return workers::make_directory(root, action.mkdir(), owner);
    case pb::FileAction::kMkfile: return workers::make_file(root, action.mkfile(), {});
    case pb::FileAction::kSymlink: return workers::make_symlink(root, action.symlink(), owner);
    case pb::FileAction::kRm: return workers::remove_path(root, action.rm());
    case pb::FileAction::kCopy: return workers::copy_path(root, root, path, action.copy(), {}, {});
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
    auto root = store::open_file(j.root(), O_RDONLY | O_DIRECTORY);
    require(root.ok(), "the jail opens");
    for (const auto& action : op.actions()) (void)act(root->get(), j.root(), action);
  }
  j.check();
}

}  // namespace kiln::fuzz
