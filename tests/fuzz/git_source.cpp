// Git sources: lines of the identifier and of attributes, NAME=value.
#include "tests/fuzz/support/input.hpp"
#include "workers/sources/git_reference.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  input in(bytes);
  pb::SourceOp op;
  op.set_identifier("git://" + in.line());
  (void)workers::redact_credentials(op.identifier());
  while (!in.empty()) {
    auto [name, value] = assignment(in.line());
    (*op.mutable_attrs())["git." + name] = value;
  }
  auto git = workers::parse_git_source(op);
  if (!git.ok()) return;
  (void)workers::redact_credentials(git->remote);
  require(!git->remote.starts_with('-') && !git->ref.starts_with('-'),
          "git takes no part of it for an option");
  require(!git->subdir.starts_with('/') && ("/" + git->subdir + "/").find("/../") == std::string::npos,
          "a subdirectory stays inside");
}
