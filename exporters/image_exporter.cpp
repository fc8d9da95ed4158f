// The `image` exporter: into this daemon's image store, and to registries in the finalize phase.
// Source: exporter/containerimage/export.go.

#include "base/json_text.hpp"
#include "base/text.hpp"
#include "exporters/factories.hpp"
#include "exporters/image_config.hpp"
#include "exporters/image_writer.hpp"
#include "distribution/image_json.hpp"
#include "distribution/image_names.hpp"
#include "distribution/push.hpp"

namespace kiln::exporters {
namespace {

class image_exporter : public exporter {
 public:
  struct settings {
    image_options image;
    bool push = false, push_by_digest = false, insecure = false, unpack = false, store = true;
    bool allow_incomplete = false, name_canonical = false, dangling_empty_only = false;
    std::string dangling_prefix;
    attributes metadata;
  };
  image_exporter(settings s, exporter_resources r) : settings_(std::move(s)), resources_(r) {}

  std::string name() const override { return "exporting to image"; }

  status can_be_like(int compatibility_version) const override {
    return check_compatibility("image", settings_.image, compatibility_version);
  }

  result<export_outcome> run(const export_input& given, const job_context& job) override {
    export_input input = given;
    for (const auto& [k, v] : settings_.metadata) input.metadata[k] = v;
    if (settings_.unpack && settings_.image.rewrite_timestamp)
      return make_error(errc::invalid_argument,
                        "exporter option \"rewrite-timestamp\" conflicts with \"unpack\"");
    auto options = settings_.image;
    options.inline_attestations = true;
    KILN_TRY(written_image image, write_image(resources_, input, std::move(options), job));

    std::string names = settings_.image.name;
    if (auto it = input.metadata.find("image.name"); names == "*" && it != input.metadata.end())
      names = it->second;
    bool canonical = settings_.name_canonical;
    if (!settings_.dangling_prefix.empty() && (!settings_.dangling_empty_only || names.empty())) {
      std::string dangling = settings_.dangling_prefix + "@" + image.root.digest.str();
      if (names.empty()) canonical = false;
      names += (names.empty() ? "" : ",") + dangling;
    }
    std::vector<std::string> to_push;
    if (!names.empty()) {
      for (const auto& name : split(names, ',')) {
        if (settings_.store) KILN_CHECK(keep(name, canonical, image, job));
        if (settings_.unpack) KILN_CHECK(unpack(name, input, job));
        if (settings_.push) to_push.push_back(name);
      }
    }
    export_outcome out;
    out.response = image_response(image);
    if (!names.empty()) out.response["image.name"] = names;
    out.results.push_back(image.root);
    if (!to_push.empty())
      out.finalize = [s = settings_, r = resources_, image = std::move(image),
                      to_push](const job_context& later) { return push(s, r, image, to_push, later); };
    return out;
  }

 private:
  /// Under its name in the image store; complete, unless a registry will have it.
  status keep(const std::string& name, bool canonical, const written_image& image, const job_context& job) {
    auto ref = read_image_reference(name);
    if (!ref.ok()) return {};  // "prefix@digest" and the like: names for pushing only
    step naming(job, "naming to " + ref->tagged().str());
    if (!settings_.push && !settings_.allow_incomplete) {
      layer_exporter layers(*resources_.store, resources_.hosts, settings_.image.compression);
      for (const auto& l : image.layers) KILN_CHECK(layers.ensure(l, job));
    }
    std::string value = go_json(distribution::descriptor_json(image.root));
    KILN_CHECK(resources_.store->values().set(distribution::image_store_bucket, ref->tagged().str(), value));
    if (canonical && name.find('@') == std::string::npos) {
      image_reference pinned = ref->tagged();
      pinned.digest = image.root.digest;
      KILN_CHECK(resources_.store->values().set(distribution::image_store_bucket, pinned.str(), value));
    }
    return {};
  }

  /// The part for this machine's platform becomes a snapshot.
  status unpack(const std::string& name, const export_input& input, const job_context& job) {
    const export_ref* best = nullptr;
    int best_rank = 0;
    for (const auto& r : input.refs) {
      int rank = r.platform.os.empty() ? 0 : match_rank(host_platform(), r.platform);
      if (rank < 0 || (best && rank >= best_rank)) continue;
      best = &r;
      best_rank = rank;
    }
    if (best == nullptr || !best->ref) return {};
    step unpacking(job, "unpacking to " + name);
    return resources_.store->files().materialize(best->ref, job);
  }

  static result<std::map<std::string, std::string>> push(const settings& s, const exporter_resources& r,
                                                         const written_image& image,
                                                         const std::vector<std::string>& names,
                                                         const job_context& job) {
    if (r.hosts == nullptr) return make_error(errc::failed_precondition, "pushing is not configured");
    layer_exporter layers(*r.store, r.hosts, s.image.compression);
    for (const auto& name : names) {
      distribution::push_options options;
      options.name = name;
      options.root = image.root;
      options.by_digest = s.push_by_digest;
      options.insecure = s.insecure;
      options.ensure = [&](const descriptor& d) -> status {
        const exported_layer* l = image.find_layer(d.digest);
        if (l == nullptr)
          return make_error(errc::not_found, "blob " + d.digest.str() + " is not in the store");
        return layers.ensure(*l, job);
      };
      auto s2 = distribution::push_image(*r.hosts, r.store->blobs(), options, job);
      if (!s2.ok()) return std::move(s2).error().with_context("failed to push " + name);
    }
    return std::map<std::string, std::string>();
  }

  settings settings_;
  exporter_resources resources_;
};

}  // namespace

result<std::unique_ptr<exporter>> make_image_exporter(attributes attrs, exporter_resources resources) {
  image_exporter::settings s;
  KILN_TRY(s.image, take_image_options(attrs));
  struct flag {
    const char* key;
    bool& target;
  };
  const flag flags[] = {{"push", s.push},
                        {"push-by-digest", s.push_by_digest},
                        {"registry.insecure", s.insecure},
                        {"unpack", s.unpack},
                        {"store", s.store},
                        {"unsafe-internal-store-allow-incomplete", s.allow_incomplete},
                        {"name-canonical", s.name_canonical},
                        {"danging-name-empty-only", s.dangling_empty_only}};
  for (const auto& f : flags) {
    auto it = attrs.find(f.key);
    if (it == attrs.end()) continue;
    KILN_TRY(f.target, parse_bool(f.key, it->second, true));
    attrs.erase(it);
  }
  if (auto it = attrs.find("dangling-name-prefix"); it != attrs.end()) {
    s.dangling_prefix = it->second;
    attrs.erase(it);
  }
  s.metadata = std::move(attrs);
  return std::unique_ptr<exporter>(std::make_unique<image_exporter>(std::move(s), resources));
}

}  // namespace kiln::exporters
