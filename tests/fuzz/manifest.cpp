// Manifests and indexes as a registry sends them.
#include "distribution/image_json.hpp"
#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  auto m = distribution::parse_manifest(bytes, "");
  if (!m.ok()) return;
  (void)distribution::choose_platform(*m, host_platform());
  for (const auto& d : m->entries) (void)distribution::is_attestation(d);
  for (const auto& d : m->layers) (void)distribution::descriptor_json(d).dump();
}
