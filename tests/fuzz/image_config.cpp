// Image configs, as a frontend or a registry sends them: patched as for an export.
#include "exporters/image_config.hpp"

#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  exporters::config_patch patch;
  (void)exporters::platform_of_config(bytes);
  (void)exporters::patch_image_config(bytes, patch);
  patch.layers = {{"RUN make", 1}};
  patch.diff_ids = {sha256("layer")};
  patch.epoch = 1'700'000'000;
  patch.base_config = bytes;
  patch.inline_cache = bytes;
  (void)exporters::patch_image_config(bytes, patch);
}
