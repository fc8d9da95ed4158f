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
                         add_scans(parts, *std::move(scanner), frame, then);
                       });
}

void build_state::add_scans(const std::vector<attested_part>& parts, frontends::sbom_scanner scanner, int frame,
                            std::function<void()> then) {
  struct target {
    std::string name;
    std::shared_ptr<const pb::Definition> definition;
  };
  std::vector<target> targets;
  for (const auto& part : parts) {
    targets.push_back({part.id, definitions()(part.ref)});
    if (!targets.back().definition)
      return end(make_error(errc::internal, "the result for " + part.id + " has no definition to scan"));
  }
  const auto& options = o_.request.frontendattrs();
  auto no_cache = options.find("no-cache");
  // Empty: nothing of the build is to come from the cache.
  bool ignore_cache = no_cache != options.end() && no_cache->second.empty();
  using scans = std::vector<pb::Definition>;
  jobs_.run<scans>(
      self_, *o_.io,
      [targets, scanner = std::move(scanner), ignore_cache]() -> result<scans> {
        scans out;
        for (const auto& t : targets) {
          llb::graph graph;
          frontends::scan_target wanted;
          wanted.name = t.name;
          wanted.ignore_cache = ignore_cache;
          KILN_TRY(wanted.files, llb::import_definition(graph, *t.definition));
          KILN_TRY(auto found, frontends::scan(graph, scanner, wanted));
          KILN_TRY(auto scanning, llb::marshal(found, {scanner.platform}));
          out.push_back(std::move(scanning));
        }
        return out;
      },
      [this, targets, frame, then = std::move(then)](result<scans> made) {
        if (phase_ != build_phase::evaluating) return;
        if (!made.ok()) return end(std::move(made).error());
        auto policies = policies_with({});
        if (!policies.ok()) return end(std::move(policies).error());
        for (std::size_t i = 0; i < targets.size(); ++i) {
          auto ref = add_ref((*made)[i], *policies, frame);
          final_.attestations[targets[i].name].emplace_back(attestation_of(frontends::scan_attestation(ref)), ref);
        }
        then();
      });
}

}  // namespace kiln::actors
