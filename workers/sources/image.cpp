#include "workers/sources/image.hpp"

#include <algorithm>

#include "base/json_text.hpp"
#include "configs/store.hpp"
#include "distribution/client.hpp"
#include "distribution/image_json.hpp"
#include "distribution/image_names.hpp"
#include "distribution/media_types.hpp"
#include "workers/sources/attestation_chain.hpp"
#include "workers/sources/image_reader.hpp"
#include "workers/sources/resolutions.hpp"
#include "workers/sources/source_form.hpp"

namespace kiln::workers {
namespace {

namespace gw = moby::buildkit::v1::frontend;

enum class resolve_mode { standard, pull, local };

result<resolve_mode> parse_mode(const std::string& text) {
  if (text.empty() || text == "default") return resolve_mode::standard;
  if (text == "pull") return resolve_mode::pull;
  if (text == "local") return resolve_mode::local;
  return make_error(errc::invalid_argument, "invalid resolvemode: " + text);
}

/// What the op asks for.
struct wanted_image {
  image_reference ref;
  resolve_mode mode = resolve_mode::standard;
  store::record_type type = store::record_type::regular;
  std::optional<int> layer_limit;
  kiln::digest checksum;
};

result<wanted_image> parse_source(const pb::SourceOp& source) {
  constexpr std::string_view scheme = "docker-image://";
  wanted_image out;
  if (!source.identifier().starts_with(scheme))
    return make_error(errc::invalid_argument,
                      "source \"" + source.identifier() + "\" is no docker-image:// source");
  KILN_TRY(out.ref, read_image_reference(std::string_view(source.identifier()).substr(scheme.size())));
  if (out.ref.name_only())
    return make_error(errc::invalid_argument, "source \"" + source.identifier() +
                                                  "\": object required: image needs a tag or a digest");
  for (const auto& [name, value] : source.attrs()) {
    if (name == "image.resolvemode") {
      KILN_TRY(out.mode, parse_mode(value));
    } else if (name == "image.recordtype") {
      KILN_TRY(out.type, parse_image_record_type(value));
    } else if (name == "image.layerlimit") {
      if (value.empty()) return make_error(errc::invalid_argument, "invalid layer limit ");
      KILN_TRY(out.layer_limit, parse_layer_limit(value));
    } else if (name == "image.checksum") {
      auto d = digest::parse(value);
      if (!d.ok()) return std::move(d).error().with_context("invalid image checksum " + value);
      out.checksum = *std::move(d);
    }
  }
  return out;
}

/// Pulls layers with the credentials of whichever job needs them.
class registry_provider : public store::blob_provider {
 public:
  registry_provider(distribution::hosts& hosts, image_reference ref) : hosts_(hosts), ref_(std::move(ref)) {}

  status fetch(const descriptor& blob, store::blob_store& into, const job_context& job) override {
    KILN_TRY(auto repo,
             distribution::repository::open(hosts_, ref_, distribution::repository::access::pull, job));
    std::string id = blob.digest.str();
    job.progress->progress(id, 0, blob.size, false);
    auto s = repo->fetch_blob(blob, into, [&](std::int64_t current, std::int64_t total) {
      job.progress->progress(id, current, total, false);
    });
    job.progress->progress(id, s.ok() ? blob.size : 0, blob.size, true);
    if (!s.ok()) return std::move(s).error().with_context("failed to copy");
    return {};
  }

 private:
  distribution::hosts& hosts_;
  image_reference ref_;
};

class registry_origin : public image_origin {
 public:
  /// `resolved`: tags as registries last resolved them.
  registry_origin(store::ref_store& store, store::remembered_values& resolved, distribution::hosts& hosts,
                  wanted_image wanted, const job_context& job)
      : store_(store), resolved_(resolved), hosts_(hosts), wanted_(std::move(wanted)), job_(job) {}

  result<descriptor> resolve() override {
    if (auto d = known_content()) return *std::move(d);
    if (wanted_.mode == resolve_mode::local)
      if (auto d = remembered(true)) return *std::move(d);
    auto d = resolve_remote();
    if (d.ok()) {
      remember(*d);
      return d;
    }
    if (wanted_.mode == resolve_mode::pull || d.error().code == errc::cancelled) return d;
    // An image built here may exist nowhere else; one pulled before helps while the registry is away.
    bool away = d.error().code == errc::unavailable;
    if (auto local = remembered(away)) {
      job_.progress->warn("using the local copy of " + wanted_.ref.str() + ": " + d.error().message);
      return *std::move(local);
    }
    return d;
  }

  result<std::string> read(const descriptor& d, std::int64_t limit) override {
    auto& blobs = store_.blobs();
    if (blobs.has(d.digest))
      if (auto bytes = blobs.read_all(d.digest, limit); bytes.ok() && sha256(*bytes) == d.digest)
        return bytes;
    KILN_CHECK(connect());
    std::string bytes;
    if (distribution::media::is_index(d.media_type) || distribution::media::is_manifest(d.media_type)) {
      KILN_TRY(distribution::fetched_manifest m, repo_->manifest(d.digest));
      bytes = std::move(m.bytes);
    } else {
      KILN_TRY(bytes, repo_->small_blob(d, limit));
    }
    KILN_TRY(kiln::digest stored, blobs.put(bytes));
    distribution::remember_source(blobs, stored, wanted_.ref);
    return bytes;
  }

  result<std::vector<descriptor>> referrers(const kiln::digest& d) override {
    KILN_CHECK(connect());
    return repo_->referrers(d);
  }

  std::shared_ptr<store::blob_provider> provider() override {
    return std::make_shared<registry_provider>(hosts_, wanted_.ref);
  }

 private:
  status connect() {
    if (!repo_) {
      KILN_TRY(repo_, distribution::repository::open(hosts_, wanted_.ref,
                                                     distribution::repository::access::pull, job_));
    }
    return {};
  }

  /// A digest whose content came from this very repository needs no registry.
  std::optional<descriptor> known_content() {
    if (!wanted_.ref.digest || wanted_.mode == resolve_mode::pull) return std::nullopt;
    auto info = store_.blobs().info(wanted_.ref.digest);
    if (!info.ok() || info->size > configs::max_manifest_size) return std::nullopt;
    auto source = info->labels.find(distribution::source_label(wanted_.ref.domain));
    if (source == info->labels.end() ||
        ("," + source->second + ",").find("," + wanted_.ref.path + ",") == std::string::npos)
      return std::nullopt;
    return described(wanted_.ref.digest);
  }

  std::optional<descriptor> described(const kiln::digest& d) {
    auto bytes = store_.blobs().read_all(d, configs::max_manifest_size);
    if (!bytes.ok() || sha256(*bytes) != d) return std::nullopt;
    auto m = distribution::parse_manifest(*bytes, "");
    if (!m.ok()) return std::nullopt;
    descriptor out;
    out.media_type = m->media_type;
    out.digest = d;
    out.size = static_cast<std::int64_t>(bytes->size());
    return out;
  }

  /// What the image store, or (with `pulled`) an earlier pull, knows under the name.
  std::optional<descriptor> remembered(bool pulled) {
    image_reference named = wanted_.ref;
    if (named.tag.empty()) named.tag = "latest";
    named.digest = {};
    for (bool built : {true, false}) {
      if (!built && !pulled) continue;
      auto text = built ? store_.values().get(distribution::image_store_bucket, named.str())
                        : resolved_.get(named.str());
      if (!text) continue;
      auto d = distribution::parse_descriptor(json_or_null(*text));
      if (!d.ok() || (wanted_.ref.digest && d->digest != wanted_.ref.digest)) continue;
      if (auto found = described(d->digest)) return found;
    }
    return std::nullopt;
  }

  void remember(const descriptor& d) {
    if (wanted_.ref.tag.empty()) return;
    image_reference named = wanted_.ref;
    named.digest = {};
    (void)resolved_.set(named.str(), json_text(distribution::descriptor_json(d)));
  }

  result<descriptor> resolve_remote() {
    KILN_CHECK(connect());
    return repo_->resolve();
  }

  store::ref_store& store_;
  store::remembered_values& resolved_;
  distribution::hosts& hosts_;
  wanted_image wanted_;
  const job_context& job_;
  std::unique_ptr<distribution::repository> repo_;
};

class image_source : public source_handler {
 public:
  image_source(store::ref_store& store, distribution::hosts& hosts)
      : store_(store),
        resolved_(store.values(), std::string(distribution::resolved_bucket),
                  store::limits::remembered_values,
                  [&store](std::string_view text) {
                    auto d = distribution::parse_descriptor(json_or_null(text));
                    return d.ok() && store.blobs().has(d->digest);
                  }),
        hosts_(hosts) {}

  std::vector<std::string> schemes() const override { return {"docker-image"}; }

  result<solver::cache_map> cache_map(const op_request& request, int index, const job_context& job) override {
    KILN_TRY(wanted_image wanted, parse_source(request.op.source()));
    KILN_TRY(auto image, image_of(request, wanted, job));
    bool has_chain = !image->layers.empty();
    auto map = solver::source_cache_map(
        index == 0 || !has_chain ? manifest_key(image->root.digest, request.platform, wanted.layer_limit)
                                 : image->chain.str());
    map.more = index == 0 && has_chain;
    map.origin = wanted.ref.str();
    map.pin = image->root.digest.str();
    return map;
  }

  result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref>,
                                      const job_context& job) override {
    KILN_TRY(wanted_image wanted, parse_source(request.op.source()));
    KILN_TRY(auto image, image_of(request, wanted, job));
    registry_origin origin(store_, resolved_, hosts_, wanted, job);
    store::record_options options{"pulled from " + wanted.ref.str(), wanted.type, 0};
    KILN_TRY(store::ref r, layers_as_ref(store_, *image, origin.provider(), options));
    return std::vector<store::ref>{std::move(r)};
  }

  result<gw::ResolveSourceMetaResponse> resolve_meta(const gw::ResolveSourceMetaRequest& request,
                                                     const std::shared_ptr<resolutions>& build,
                                                     const job_context& job) override {
    KILN_TRY(wanted_image wanted, parse_source(request.source()));
    if (!request.resolvemode().empty()) {
      KILN_TRY(wanted.mode, parse_mode(request.resolvemode()));
    }
    platform p = request.has_platform() ? from_proto(request.platform()) : host_platform();
    registry_origin origin(store_, resolved_, hosts_, wanted, job);
    gw::ResolveSourceMetaResponse out;
    *out.mutable_source() = request.source();
    KILN_TRY(descriptor root, root_of(request.source(), wanted, origin, build.get(), job));
    out.mutable_image()->set_digest(root.digest.str());
    if (!request.image().noconfig()) {
      KILN_TRY(auto image, read_once(origin, root, p, std::nullopt, build.get(), job));
      KILN_TRY(auto config, origin.read(image->config_blob, configs::max_image_config_size));
      out.mutable_image()->set_config(std::move(config));
    }
    if (request.image().attestationchain() || request.image().resolveattestations_size() > 0)
      KILN_CHECK(add_attestation_chain(origin, root, p, request.image(), *out.mutable_image()));
    return out;
  }

 private:
  static status check(const wanted_image& wanted, const descriptor& root) {
    if (wanted.checksum && wanted.checksum != root.digest)
      return make_error(errc::failed_precondition,
                        "image digest " + root.digest.str() + " for " + wanted.ref.str() +
                            " does not match expected checksum " + wanted.checksum.str());
    return {};
  }

  /// Where the name leads in this build, whoever asks first: for which platform or in which mode does not
  /// matter.
  static result<descriptor> root_of(const pb::SourceOp& source, const wanted_image& wanted,
                                    registry_origin& origin, resolutions* build, const job_context& job) {
    pb::SourceOp name = source;
    KILN_CHECK(source_form().rewrite(name, nullptr));
    KILN_TRY(descriptor root, resolve_once<descriptor>(build, name.identifier(), job.stop, [&] {
               std::string id = "resolve " + wanted.ref.str();
               job.progress->progress(id, 0, 0, false);
               auto found = origin.resolve();
               job.progress->progress(id, 0, 0, true);
               return found;
             }));
    KILN_CHECK(check(wanted, root));
    return root;
  }

  using known_image = std::shared_ptr<const resolved_image>;

  /// What a build has once read of an image, it does not read again. Its config, which may be large, is not
  /// kept here: it lies in the blob store.
  static result<known_image> read_once(registry_origin& origin, const descriptor& root, const platform& p,
                                       std::optional<int> layer_limit, resolutions* build,
                                       const job_context& job) {
    auto name = "image " + manifest_key(root.digest, p, layer_limit);
    return resolve_once<known_image>(build, name, job.stop, [&]() -> result<known_image> {
      KILN_TRY(resolved_image image, read_image(origin, root, p, layer_limit));
      image.config.clear();
      return std::make_shared<const resolved_image>(std::move(image));
    });
  }

  result<known_image> image_of(const op_request& request, const wanted_image& wanted,
                               const job_context& job) {
    registry_origin origin(store_, resolved_, hosts_, wanted, job);
    KILN_TRY(descriptor root, root_of(request.op.source(), wanted, origin, request.build.get(), job));
    return read_once(origin, root, request.platform, wanted.layer_limit, request.build.get(), job);
  }

  store::ref_store& store_;
  store::remembered_values resolved_;
  distribution::hosts& hosts_;
};

}  // namespace

std::unique_ptr<source_handler> make_image_source(store::ref_store& store, distribution::hosts& hosts) {
  return std::make_unique<image_source>(store, hosts);
}

}  // namespace kiln::workers
