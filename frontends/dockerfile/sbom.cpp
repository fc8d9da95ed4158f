#include "frontends/dockerfile/sbom.hpp"

#include "frontends/dockerfile/text.hpp"
#include "frontends/image_reference.hpp"

namespace kiln::dockerfile {

namespace gw = moby::buildkit::v1::frontend;

namespace {

constexpr const char* source_dir = "/run/src/";
constexpr const char* output_dir = "/run/out/";
constexpr const char* core_name = "sbom";

}  // namespace

result<sbom_scanner> load_scanner(build_sources& sources) {
  const auto& wanted = *sources.options().sbom;
  sbom_scanner out;
  out.platform = sources.default_platform();
  out.parameters = wanted.parameters;
  KILN_TRY(auto resolved, sources.resolve_image(wanted.generator, out.platform, ""));
  out.image = resolved.reference;
  KILN_TRY(out.config, parse_image_config(resolved.config));
  if (out.config.entrypoint.empty() && out.config.cmd.empty())
    return make_error(errc::invalid_argument, "scanner " + out.image + " does not have cmd");
  return out;
}

result<gw::Attestation> scan(build_sources& sources, const sbom_scanner& scanner, const std::string& name,
                             const conversion& target) {
  auto& graph = sources.graph();
  KILN_TRY(auto ref, frontends::parse_image_reference(scanner.image));
  llb::op_info image_info;
  image_info.platform = scanner.platform;
  auto image = llb::image(graph, ref.with_default_tag().str(), "", std::move(image_info));

  llb::exec_spec spec;
  spec.args = scanner.config.entrypoint;
  spec.args.insert(spec.args.end(), scanner.config.cmd.begin(), scanner.config.cmd.end());
  spec.cwd = path_join("/", scanner.config.working_dir);
  for (const auto& entry : scanner.config.env) {
    auto [key, value] = split_env(entry);
    spec.env.set(key, value);
  }
  spec.env.set("BUILDKIT_SCAN_DESTINATION", output_dir);
  spec.env.set("BUILDKIT_SCAN_SOURCE", path_join(path_join(source_dir, "core"), core_name));
  if (!target.scan_extras.empty())
    spec.env.set("BUILDKIT_SCAN_SOURCE_EXTRAS", path_join(source_dir, "extras/"));
  for (const auto& [key, value] : scanner.parameters) spec.env.set("BUILDKIT_SCAN_" + key, value);

  auto add = [&](const std::string& path, llb::output source, bool readonly) {
    auto& mount = spec.mounts.emplace_back();
    mount.target = path;
    mount.source = source;
    mount.readonly = readonly;
  };
  llb::mount_spec tmp;
  tmp.target = "/tmp";
  tmp.tmpfs = true;
  spec.mounts.push_back(std::move(tmp));
  add(path_join(path_join(source_dir, "core"), core_name), target.state.out, true);
  for (const auto& [extra, state] : target.scan_extras)
    add(path_join(path_join(source_dir, "extras"), std::string(core_name) + "-" + extra), state.out, true);
  add(output_dir, {}, false);
  auto slot = static_cast<int>(spec.mounts.size());  // the root is 0

  llb::op_info info;
  info.name("[" + name + "] generating sbom using " + scanner.image);
  info.ignore_cache = target.ignore_cache;
  info.platform = scanner.platform;
  auto root = llb::exec(graph, image, std::move(spec), std::move(info));
  KILN_TRY(auto definition, sources.marshal(llb::output{root.node, slot}));
  KILN_TRY(auto id, sources.solve(definition));

  gw::Attestation out;
  out.set_kind(gw::AttestationKind::Bundle);
  out.mutable_ref()->set_id(id);
  (*out.mutable_metadata())["reason"] = "sbom";
  (*out.mutable_metadata())["sbom-core"] = core_name;
  out.set_intotopredicatetype("https://spdx.dev/Document");
  return out;
}

}  // namespace kiln::dockerfile
