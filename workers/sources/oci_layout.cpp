#include "workers/sources/oci_layout.hpp"

#include "base/json_text.hpp"
#include "configs/registry.hpp"
#include "messages/image_reference.hpp"
#include "distribution/image_json.hpp"
#include "store/blobs/session_content.hpp"
#include "workers/sources/image_reader.hpp"

namespace kiln::workers {
namespace {

namespace gw = moby::buildkit::v1::frontend;
constexpr std::string_view scheme = "oci-layout://";

struct wanted_layout {
  image_reference ref;
  std::string session;  // empty: any session of the job
  std::string store_id;
  std::optional<int> layer_limit;
};

result<wanted_layout> parse_source(const pb::SourceOp& source) {
  wanted_layout out;
  if (!source.identifier().starts_with(scheme))
    return make_error(errc::invalid_argument,
                      "source \"" + source.identifier() + "\" is no oci-layout:// source");
  KILN_TRY(out.ref, read_image_reference(std::string_view(source.identifier()).substr(scheme.size())));
  for (const auto& [name, value] : source.attrs()) {
    if (name == "oci.session") {
      out.session = value;
    } else if (name == "oci.store") {
      out.store_id = value;
    } else if (name == "oci.layerlimit") {
      if (value.empty()) return make_error(errc::invalid_argument, "invalid layer limit ");
      KILN_TRY(out.layer_limit, parse_layer_limit(value));
    }
  }
  return out;
}

/// The job, but asking the named session only.
job_context narrowed(const wanted_layout& w, const job_context& job) {
  job_context out = job;
  if (!w.session.empty()) out.sessions.ids = {w.session};
  return out;
}

/// Layers of a named session, whichever job wants them.
class named_session_provider : public store::blob_provider {
 public:
  named_session_provider(std::string session, std::string store_id)
      : session_(std::move(session)), inner_(store::session_content_provider(std::move(store_id))) {}
  status fetch(const descriptor& blob, store::blob_store& into, const job_context& job) override {
    job_context own = job;
    if (!session_.empty()) own.sessions.ids = {session_};
    return inner_->fetch(blob, into, own);
  }

 private:
  std::string session_;
  std::shared_ptr<store::blob_provider> inner_;
};

class layout_origin : public image_origin {
 public:
  layout_origin(store::ref_store& store, wanted_layout w, const job_context& job)
      : store_(store), wanted_(std::move(w)), job_(narrowed(wanted_, job)) {}

  result<descriptor> resolve() override {
    const auto& d = wanted_.ref.digest;
    if (!d)
      return make_error(errc::invalid_argument, "reference \"" + wanted_.ref.str() + "\" must have digest");
    descriptor root;
    root.digest = d;
    auto bytes = read(root, configs::max_manifest_size);
    if (!bytes.ok()) return std::move(bytes).error().with_context("unable to get info about digest");
    auto m = distribution::parse_manifest(*bytes, "");
    if (!m.ok())
      return std::move(m).error().with_context("reference \"" + wanted_.ref.str() +
                                               "\" contains neither an index nor a manifest");
    root.media_type = m->media_type;
    root.size = static_cast<std::int64_t>(bytes->size());
    return root;
  }

  result<std::string> read(const descriptor& d, std::int64_t limit) override {
    auto& blobs = store_.blobs();
    if (blobs.has(d.digest))
      if (auto bytes = blobs.read_all(d.digest, limit); bytes.ok() && sha256(*bytes) == d.digest)
        return bytes;
    std::string bytes;
    if (job_.directory == nullptr) return make_error(errc::failed_precondition, "no active sessions");
    KILN_CHECK(with_any_session(*job_.directory, job_.sessions, job_.stop, [&](session_caller& s) -> status {
      KILN_TRY(auto caller, job_.directory->find(s.id(), std::chrono::milliseconds(0), job_.stop));
      store::session_content content(std::move(caller), "oci:" + wanted_.store_id);
      KILN_TRY(bytes, content.read_all(d.digest, limit, job_.stop));
      return {};
    }));
    KILN_CHECK(blobs.put(bytes));
    return bytes;
  }

  std::shared_ptr<store::blob_provider> provider() override {
    return std::make_shared<named_session_provider>(wanted_.session, "oci:" + wanted_.store_id);
  }

 private:
  store::ref_store& store_;
  wanted_layout wanted_;
  const job_context job_;
};

/// A layout's reference is a digest, so resolving it again gives the same: nothing needs remembering.
class oci_layout_source : public source_handler {
 public:
  explicit oci_layout_source(store::ref_store& store) : store_(store) {}

  std::vector<std::string> schemes() const override { return {"oci-layout"}; }

  result<solver::cache_map> cache_map(const op_request& request, int index, const job_context& job) override {
    KILN_TRY(wanted_layout w, parse_source(request.op.source()));
    KILN_TRY(resolved_image image, resolved(w, request.platform, job));
    bool has_chain = !image.layers.empty();
    auto map = solver::source_cache_map(index == 0 || !has_chain
                                            ? manifest_key(image.root.digest, request.platform, w.layer_limit)
                                            : image.chain.str());
    map.more = index == 0 && has_chain;
    map.origin = w.ref.str();
    map.pin = image.root.digest.str();
    return map;
  }

  result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref>,
                                      const job_context& job) override {
    KILN_TRY(wanted_layout w, parse_source(request.op.source()));
    KILN_TRY(resolved_image image, resolved(w, request.platform, job));
    layout_origin origin(store_, w, job);
    KILN_TRY(store::ref r, layers_as_ref(store_, image, origin.provider(),
                                         {"pulled from " + w.ref.str(), store::record_type::regular, 0}));
    return std::vector<store::ref>{std::move(r)};
  }

  result<gw::ResolveSourceMetaResponse> resolve_meta(const gw::ResolveSourceMetaRequest& request,
                                                     const std::shared_ptr<resolutions>&,
                                                     const job_context& job) override {
    KILN_TRY(wanted_layout w, parse_source(request.source()));
    platform p = request.has_platform() ? from_proto(request.platform()) : host_platform();
    w.layer_limit.reset();
    KILN_TRY(resolved_image image, resolved(w, p, job));
    gw::ResolveSourceMetaResponse out;
    *out.mutable_source() = request.source();
    out.mutable_image()->set_digest(image.root.digest.str());
    out.mutable_image()->set_config(image.config);
    return out;
  }

 private:
  result<resolved_image> resolved(const wanted_layout& w, const platform& p, const job_context& job) {
    std::string id = "resolve " + w.ref.str();
    job.progress->progress(id, 0, 0, false);
    layout_origin origin(store_, w, job);
    auto image = [&]() -> result<resolved_image> {
      KILN_TRY(descriptor root, origin.resolve());
      return read_image(origin, root, p, w.layer_limit);
    }();
    job.progress->progress(id, 0, 0, true);
    return image;
  }

  store::ref_store& store_;
};

}  // namespace

std::unique_ptr<source_handler> make_oci_layout_source(store::ref_store& store) {
  return std::make_unique<oci_layout_source>(store);
}

}  // namespace kiln::workers
