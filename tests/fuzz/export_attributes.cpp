// Attributes of an image export, NAME=value lines.
#include "exporters/attributes.hpp"

#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  exporters::attributes attributes;
  for (input in(bytes); !in.empty();) {
    auto [name, value] = assignment(in.line());
    attributes[name] = value;
  }
  auto options = exporters::take_image_options(attributes);
  if (!options.ok()) return;
  auto host = host_platform();
  (void)exporters::annotations_for(options->annotations, &host);
}
