#include "frontends/sbom.hpp"

#include "base/slash_path.hpp"
#include "frontends/dockerfile/image_config.hpp"
#include "frontends/llb/ops.hpp"
#include "messages/attestation.hpp"
#include "messages/image_reference.hpp"

namespace kiln::frontends {

namespace gw = moby::buildkit::v1::frontend;

namespace {

constexpr const char* source_dir = "/run/src/";
constexpr const char* output_dir = "/run/out/";
constexpr const char* core_name = "sbom";

}  // namespace

result<sbom_scanner> make_scanner(const sbom_options& wanted, std::string image, const std::string& config,
                                  kiln::platform platform) {
  auto parsed = dockerfile::parse_image_config(config);
  if (!parsed.ok()) return std::move(parsed).error().with_context("scanner " + image);
  sbom_scanner out{std::move(image),    parsed->entrypoint, parsed->env,
                   parsed->working_dir, wanted.parameters,  std::move(platform)};
  out.args.insert(out.args.end(), parsed->cmd.begin(), parsed->cmd.end());
  if (out.args.empty())
    return make_error(errc::invalid_argument, "scanner " + out.image + " does not have cmd");
  return out;
}

result<llb::output> scan(llb::graph& graph, const sbom_scanner& scanner, const scan_target& target) {
  KILN_TRY(auto ref, parse_image_reference(scanner.image));
  llb::op_info image_info;
  image_info.platform = scanner.platform;
  auto image = llb::image(graph, ref.tagged().str(), "", std::move(image_info));

  llb::exec_spec spec;
  spec.args = scanner.args;
  spec.cwd = path_join("/", scanner.working_dir);
  for (const auto& entry : scanner.env) {
    auto [key, value] = dockerfile::split_env(entry);
    spec.env.set(key, value);
  }
  spec.env.set("BUILDKIT_SCAN_DESTINATION", output_dir);
  spec.env.set("BUILDKIT_SCAN_SOURCE", path_join(path_join(source_dir, "core"), core_name));
  if (!target.extras.empty()) spec.env.set("BUILDKIT_SCAN_SOURCE_EXTRAS", path_join(source_dir, "extras/"));
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
  add(path_join(path_join(source_dir, "core"), core_name), target.files, true);
  for (const auto& [extra, files] : target.extras)
    add(path_join(path_join(source_dir, "extras"), std::string(core_name) + "-" + extra), files, true);
  add(output_dir, {}, false);
  auto slot = static_cast<int>(spec.mounts.size());  // the root is 0

  llb::op_info info;
  info.name("[" + target.name + "] generating sbom using " + scanner.image);
  info.ignore_cache = target.ignore_cache;
  info.platform = scanner.platform;
  return llb::output{llb::exec(graph, image, std::move(spec), std::move(info)).node, slot};
}

gw::Attestation scan_attestation(const std::string& ref) {
  gw::Attestation out;
  out.set_kind(gw::AttestationKind::Bundle);
  out.mutable_ref()->set_id(ref);
  (*out.mutable_metadata())["reason"] = "sbom";
  (*out.mutable_metadata())["sbom-core"] = core_name;
  out.set_intotopredicatetype(spdx_predicate);
  return out;
}

}  // namespace kiln::frontends
