// Sources in the one form that policies see: the identifier, then attributes as NAME=value lines.
#include "workers/sources/source_form.hpp"

#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  input in(bytes);
  pb::SourceOp source;
  source.set_identifier(in.line());
  while (!in.empty()) {
    auto [name, value] = assignment(in.line());
    (*source.mutable_attrs())[name] = value;
  }
  workers::source_form form;
  if (!form.rewrite(source, nullptr).ok()) return;
  auto again = source;
  workers::source_form same;
  require(same.rewrite(again, nullptr).ok() && solver::same_source(source, again),
          "there is one way to write a source");
}
