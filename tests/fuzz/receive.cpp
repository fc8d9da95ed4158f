// A client's directory, received into a jail: the first byte says how, then packets of the transfer.
#include "filesync/receiver.hpp"

#include "tests/fuzz/support/input.hpp"
#include "tests/fuzz/support/jail.hpp"
#include "tests/fuzz/support/told_stream.hpp"

namespace kiln::fuzz {

void try_input(std::string_view bytes) {
  input in(bytes);
  auto how = in.byte();
  filesync::receive_options options;
  options.merge = (how & 1) != 0;
  if ((how & 2) != 0) options.differ = filesync::differ::none;
  if ((how & 4) != 0)
    options.metadata_only_except = [](const auto& entry) { return entry.path().size() % 2 == 0; };
  told_stream stream(in);
  jail& j = fresh_jail();
  (void)filesync::receive(stream, j.root(), options);
  j.check();
}

}  // namespace kiln::fuzz
