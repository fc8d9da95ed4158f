// SBOMs of results that no frontend made one for: the daemon runs the scanner itself.
#include <algorithm>

#include "actors/build_state.hpp"
#include "frontends/llb/graph.hpp"

namespace kiln::actors {

void build_state::scan(std::function<void()> then) {
  const auto& wanted = attestations_.wanted_sbom();
  auto parts = attested_parts();
  std::erase_if(parts, [](const auto& p) { return p.ref.empty(); });
  if (!wanted || parts.empty() || has_sbom(final_.attestations)) return then();
  // The scanner is no material of what it looks at.
  auto frame = attestations_.requests().open_aside();
  auto platform = platforms_.empty() ? host_platform() : platforms_.front();
  gw::ResolveImageConfigRequest question;
  question.set_ref(wanted->generator);
  to_proto(platform, *question.mutable_platform());
  const auto& options = o_.request.frontendattrs();
  auto mode = options.find("image-resolve-mode");
  question.set_resolvemode(mode == options.end() ? "default" : mode->second);
  resolve_image_config(std::move(question), frame,
                       [this, parts, frame, platform, then](result<gw::ResolveImageConfigResponse> image) {
                         if (phase_ != build_phase::evaluating) return;
                         if (!image.ok()) return end(std::move(image).error());
                         auto scanner = frontends::make_scanner(*attestations_.wanted_sbom(), image->ref(),
                                                                image->config(), platform);
                         if (!scanner.ok()) return end(std::move(scanner).error());
                         if (auto s = add_scans(parts, *scanner, frame); !s.ok())
                           return end(std::move(s).error());
                         then();
                       });
}

status build_state::add_scans(const std::vector<attested_part>& parts, const frontends::sbom_scanner& scanner,
                              int frame) {
  const auto& options = o_.request.frontendattrs();
  auto no_cache = options.find("no-cache");
  KILN_TRY(auto policies, policies_with({}));
  for (const auto& part : parts) {
    llb::graph graph;
    const auto* definition = definitions()(part.ref);
    if (!definition)
      return make_error(errc::internal, "the result for " + part.id + " has no definition to scan");
    frontends::scan_target target;
    target.name = part.id;
    KILN_TRY(target.files, llb::import_definition(graph, *definition));
    // Empty: nothing of the build is to come from the cache.
    target.ignore_cache = no_cache != options.end() && no_cache->second.empty();
    KILN_TRY(auto found, frontends::scan(graph, scanner, target));
    KILN_TRY(auto scanning, llb::marshal(found, {scanner.platform}));
    auto ref = add_ref(scanning, policies, frame);
    final_.attestations[part.id].emplace_back(attestation_of(frontends::scan_attestation(ref)), ref);
  }
  return {};
}

}  // namespace kiln::actors
