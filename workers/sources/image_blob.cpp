#include "workers/sources/image_blob.hpp"

#include "base/json_text.hpp"
#include "distribution/client.hpp"
#include "distribution/image_json.hpp"
#include "store/blobs/session_content.hpp"
#include "workers/sources/download_name.hpp"
#include "workers/sources/http.hpp"
#include "workers/sources/image.hpp"
#include "workers/sources/image_reader.hpp"
#include "workers/sources/oci_layout.hpp"
#include "workers/sources/single_file.hpp"

namespace kiln::workers {
namespace {

namespace gw = moby::buildkit::v1::frontend;

struct wanted_blob {
  image_reference ref;
  bool layout = false;
  std::string session, store_id;
  file_attributes look;
  store::record_type type = store::record_type::regular;
};

result<wanted_blob> parse_source(const pb::SourceOp& source) {
  wanted_blob out;
  std::string_view id = source.identifier();
  out.layout = id.starts_with("oci-layout+blob://");
  if (!out.layout && !id.starts_with("docker-image+blob://"))
    return make_error(errc::invalid_argument, "invalid image blob source \"" + std::string(id) + "\"");
  KILN_TRY(out.ref, read_image_reference(id.substr(id.find("://") + 3)));
  if (!out.ref.digest)
    return make_error(errc::invalid_argument,
                      "invalid reference digest: blob \"" + std::string(id) + "\" needs a digest");
  if (!out.ref.tag.empty())
    return make_error(errc::invalid_argument, "blob \"" + std::string(id) + "\" must not have a tag");
  KILN_TRY(out.look, parse_file_attributes(source));
  if (!out.look.filename.empty()) out.look.filename = safe_file_name(out.look.filename);
  for (const auto& [name, value] : source.attrs()) {
    if (name == "image.recordtype") {
      KILN_TRY(out.type, parse_image_record_type(value));
    } else if (name == "oci.session" && out.layout) {
      out.session = value;
    } else if (name == "oci.store" && out.layout) {
      out.store_id = value;
    }
  }
  if (out.layout && out.store_id.empty())
    return make_error(errc::invalid_argument, "oci-layout blob source requires store id");
  return out;
}

class image_blob_source : public source_handler {
 public:
  image_blob_source(store::ref_store& store, distribution::hosts& hosts) : store_(store), hosts_(hosts) {}

  std::vector<std::string> schemes() const override { return {"docker-image+blob", "oci-layout+blob"}; }

  result<solver::cache_map> cache_map(const op_request& request, int, const job_context&) override {
    KILN_TRY(wanted_blob w, parse_source(request.op.source()));
    nlohmann::ordered_json j{{"Digest", w.ref.digest.str()},
                             {"Filename", w.look.filename},
                             {"Perm", w.look.perm},
                             {"UID", w.look.uid},
                             {"GID", w.look.gid}};
    auto map = solver::source_cache_map(sha256(go_json(j)).str());
    map.origin = w.ref.str();
    map.pin = w.ref.digest.str();
    return map;
  }

  result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref>,
                                      const job_context& job) override {
    KILN_TRY(wanted_blob w, parse_source(request.op.source()));
    auto hold = store_.blobs().hold(w.ref.digest);
    bool had = store_.blobs().has(w.ref.digest);
    KILN_CHECK(fetch(w, job));
    KILN_TRY(single_file file, single_file::begin(store_, {"blob " + w.ref.str(), w.type, 0}, job));
    KILN_TRY(auto in, store_.blobs().read(w.ref.digest));
    std::vector<char> buffer(256 << 10);
    for (;;) {
      KILN_CHECK(job.check());
      KILN_TRY(std::size_t n, in->read(buffer));
      if (n == 0) break;
      KILN_CHECK(file.write({buffer.data(), n}));
    }
    // Nobody else names the blob; the file is what is kept.
    in.reset();
    hold.reset();
    if (!had) (void)store_.space().drop_blob(w.ref.digest);
    std::string name = w.look.filename.empty() ? std::string(w.ref.digest.hex()) : w.look.filename;
    KILN_TRY(store::ref r, file.commit({name, w.look.perm ? w.look.perm : 0600, w.look.uid, w.look.gid, 0}));
    return std::vector<store::ref>{std::move(r)};
  }

  result<gw::ResolveSourceMetaResponse> resolve_meta(const gw::ResolveSourceMetaRequest& request,
                                                     const std::shared_ptr<resolutions>&,
                                                     const job_context&) override {
    KILN_TRY(wanted_blob w, parse_source(request.source()));
    gw::ResolveSourceMetaResponse out;
    *out.mutable_source() = request.source();
    out.mutable_image()->set_digest(w.ref.digest.str());
    return out;
  }

 private:
  status fetch(const wanted_blob& w, const job_context& job) {
    auto& blobs = store_.blobs();
    if (blobs.has(w.ref.digest)) return {};
    descriptor d;
    d.digest = w.ref.digest;
    if (w.layout) {
      job_context own = job;
      if (!w.session.empty()) own.sessions.ids = {w.session};
      if (own.directory == nullptr) return make_error(errc::failed_precondition, "no active sessions");
      return with_any_session(*own.directory, own.sessions, own.stop, [&](session_caller& s) -> status {
        KILN_TRY(auto caller, own.directory->find(s.id(), std::chrono::milliseconds(0), own.stop));
        store::session_content content(std::move(caller), "oci:" + w.store_id);
        KILN_TRY(d.size, content.size(d.digest, own.stop));
        return content.fetch(d, blobs, own);
      });
    }
    KILN_TRY(auto repo,
             distribution::repository::open(hosts_, w.ref, distribution::repository::access::pull, job));
    KILN_TRY(d.size, repo->blob_size(d.digest));
    std::string id = d.digest.str();
    job.progress->progress(id, 0, d.size, false);
    auto s = repo->fetch_blob(d, blobs, [&](std::int64_t current, std::int64_t total) {
      job.progress->progress(id, current, total, false);
    });
    job.progress->progress(id, d.size, d.size, true);
    return s;
  }

  store::ref_store& store_;
  distribution::hosts& hosts_;
};

}  // namespace

std::unique_ptr<source_handler> make_image_blob_source(store::ref_store& store, distribution::hosts& hosts) {
  return std::make_unique<image_blob_source>(store, hosts);
}

std::vector<std::unique_ptr<source_handler>> make_remote_sources(store::ref_store& store,
                                                                 distribution::hosts& hosts) {
  std::vector<std::unique_ptr<source_handler>> out;
  out.push_back(make_image_source(store, hosts));
  out.push_back(make_image_blob_source(store, hosts));
  out.push_back(make_oci_layout_source(store));
  out.push_back(make_http_source(store, hosts));
  return out;
}

}  // namespace kiln::workers
