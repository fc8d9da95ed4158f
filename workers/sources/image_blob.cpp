#include "workers/sources/image_blob.hpp"

#include "base/json_text.hpp"
#include "distribution/image_json.hpp"
#include "workers/sources/download_name.hpp"
#include "workers/sources/git.hpp"
#include "workers/sources/http.hpp"
#include "workers/sources/image.hpp"
#include "workers/sources/image_reader.hpp"
#include "workers/sources/oci_layout.hpp"
#include "workers/sources/remote_blob.hpp"
#include "workers/sources/single_file.hpp"

namespace kiln::workers {
namespace {

namespace gw = moby::buildkit::v1::frontend;

struct wanted_blob {
  remote_blob blob;
  file_attributes look;
  store::record_type type = store::record_type::regular;
};

result<wanted_blob> parse_source(const pb::SourceOp& source) {
  wanted_blob out;
  KILN_TRY(out.blob, parse_remote_blob(source.identifier()));
  out.blob.store_id.clear();
  KILN_TRY(out.look, parse_file_attributes(source));
  if (!out.look.filename.empty()) out.look.filename = safe_file_name(out.look.filename);
  for (const auto& [name, value] : source.attrs()) {
    if (name == "image.recordtype") {
      KILN_TRY(out.type, parse_image_record_type(value));
    } else if (name == "oci.session" && out.blob.layout) {
      out.blob.session = value;
    } else if (name == "oci.store" && out.blob.layout) {
      out.blob.store_id = value;
    }
  }
  if (out.blob.layout && out.blob.store_id.empty())
    return make_error(errc::invalid_argument, "oci-layout blob source requires store id");
  return out;
}

class image_blob_source : public source_handler {
 public:
  image_blob_source(store::ref_store& store, distribution::hosts& hosts) : store_(store), hosts_(hosts) {}

  std::vector<std::string> schemes() const override { return {"docker-image+blob", "oci-layout+blob"}; }

  result<solver::cache_map> cache_map(const op_request& request, int, const job_context&) override {
    KILN_TRY(wanted_blob w, parse_source(request.op.source()));
    nlohmann::ordered_json j{{"Digest", w.blob.ref.digest.str()},
                             {"Filename", w.look.filename},
                             {"Perm", w.look.perm},
                             {"UID", w.look.uid},
                             {"GID", w.look.gid}};
    auto map = solver::source_cache_map(sha256(go_json(j)).str());
    map.origin = w.blob.ref.str();
    map.pin = w.blob.ref.digest.str();
    return map;
  }

  result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref>,
                                      const job_context& job) override {
    KILN_TRY(wanted_blob w, parse_source(request.op.source()));
    const auto& ref = w.blob.ref;
    KILN_TRY(single_file file, single_file::begin(store_, {"blob " + ref.str(), w.type, 0}, job));
    KILN_CHECK(read_remote_blob(store_, hosts_, w.blob, job,
                                [&](std::string_view bytes) { return file.write(bytes); }));
    std::string name = w.look.filename.empty() ? std::string(ref.digest.hex()) : w.look.filename;
    KILN_TRY(store::ref r, file.commit({name, w.look.perm ? w.look.perm : 0600, w.look.uid, w.look.gid, 0}));
    return std::vector<store::ref>{std::move(r)};
  }

  result<gw::ResolveSourceMetaResponse> resolve_meta(const gw::ResolveSourceMetaRequest& request,
                                                     const std::shared_ptr<resolutions>&,
                                                     const job_context&) override {
    KILN_TRY(wanted_blob w, parse_source(request.source()));
    gw::ResolveSourceMetaResponse out;
    *out.mutable_source() = request.source();
    out.mutable_image()->set_digest(w.blob.ref.digest.str());
    return out;
  }

 private:
  store::ref_store& store_;
  distribution::hosts& hosts_;
};

}  // namespace

std::unique_ptr<source_handler> make_image_blob_source(store::ref_store& store, distribution::hosts& hosts) {
  return std::make_unique<image_blob_source>(store, hosts);
}

std::vector<std::shared_ptr<source_handler>> make_remote_sources(store::ref_store& store,
                                                                 distribution::hosts& hosts) {
  std::vector<std::shared_ptr<source_handler>> out;
  out.push_back(make_image_source(store, hosts));
  out.push_back(make_image_blob_source(store, hosts));
  out.push_back(make_oci_layout_source(store));
  out.push_back(make_http_source(store, hosts));
  out.push_back(make_git_source(store, hosts));
  return out;
}

}  // namespace kiln::workers
