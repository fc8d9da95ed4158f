// Manifests and indexes as a registry sends them.
#include "registry/image_json.hpp"
#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  auto m = registry::parse_manifest(bytes, "");
  if (!m.ok()) return;
  (void)registry::choose_platform(*m, host_platform());
  for (const auto& d : m->entries) (void)registry::is_attestation(d);
  for (const auto& d : m->layers) (void)registry::descriptor_json(d).dump();
}
