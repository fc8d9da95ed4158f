#include "workers/sources/http.hpp"

#include "base/json_text.hpp"
#include "base/time_text.hpp"
#include "configs/sources.hpp"
#include "distribution/image_json.hpp"
#include "workers/sources/download_name.hpp"
#include "workers/sources/http_fetch.hpp"
#include "workers/sources/payload_checksum.hpp"
#include "workers/sources/resolutions.hpp"
#include "workers/sources/signatures.hpp"

namespace kiln::workers {
namespace {

namespace gw = moby::buildkit::v1::frontend;

/// A download that its build sees whenever it asks for that URL; its content cannot be pruned.
struct seen_download {
  download what;
  file_look look;
  store::ref content;  // none for a pinned checksum
};

std::string cache_key(const http_reference& w, const download& d) {
  nlohmann::ordered_json j{{"Filename", d.filename},
                           {"Perm", w.look.perm},
                           {"UID", w.look.uid},
                           {"GID", w.look.gid},
                           {"Checksum", d.checksum.str()}};
  if (d.modified) j["LastModTime"] = format_http_date(*d.modified);
  if (!w.auth_secret.empty()) j["AuthHeaderSecret"] = w.auth_secret;
  if (!w.headers.empty()) j["Header"] = w.header_json();
  return sha256(go_json(j)).str();
}

class http_source : public source_handler {
 public:
  http_source(store::ref_store& store, distribution::hosts& hosts) : store_(store), fetcher_(store, hosts) {}

  std::vector<std::string> schemes() const override { return {"http", "https"}; }

  result<solver::cache_map> cache_map(const op_request& request, int, const job_context& job) override {
    KILN_TRY(auto w, http_reference::parse(request.op.source()));
    KILN_TRY(seen_download seen, resolve(w, request.build.get(), job));
    KILN_CHECK(check_signature(w, seen, job));
    const auto& d = seen.what;
    auto map = solver::source_cache_map(cache_key(w, d));
    map.origin = w.url;
    map.pin = d.checksum.str();
    return map;
  }

  result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref>,
                                      const job_context& job) override {
    KILN_TRY(auto w, http_reference::parse(request.op.source()));
    KILN_TRY(seen_download seen, resolve(w, request.build.get(), job));
    KILN_TRY(store::ref r, content(w, seen, job));
    return std::vector<store::ref>{std::move(r)};
  }

  result<gw::ResolveSourceMetaResponse> resolve_meta(const gw::ResolveSourceMetaRequest& request,
                                                     const std::shared_ptr<resolutions>& build,
                                                     const job_context& job) override {
    KILN_TRY(auto w, http_reference::parse(request.source()));
    const auto& question = request.http().checksumrequest();
    bool asks = request.http().has_checksumrequest();
    if (asks && question.suffix().size() > configs::max_checksum_suffix)
      return make_error(errc::invalid_argument, "http checksum request suffix exceeds max size " +
                                                    std::to_string(configs::max_checksum_suffix));
    KILN_TRY(seen_download seen, resolve(w, build.get(), job));
    KILN_CHECK(check_signature(w, seen, job));
    const auto& d = seen.what;
    gw::ResolveSourceMetaResponse out;
    *out.mutable_source() = request.source();
    out.mutable_http()->set_checksum(d.checksum.str());
    out.mutable_http()->set_filename(d.filename);
    if (d.modified) out.mutable_http()->mutable_lastmodified()->set_seconds(*d.modified);
    if (asks) {
      KILN_TRY(store::ref r, content(w, seen, job));
      KILN_TRY(auto mounted, fetcher_.mount(r, job));
      KILN_TRY(std::string sum, payload_checksum(mounted.path(), d.filename, question));
      out.mutable_http()->mutable_checksumresponse()->set_digest(sum);
      out.mutable_http()->mutable_checksumresponse()->set_suffix(question.suffix());
    }
    return out;
  }

 private:
  /// What the URL leads to in this build. A pinned checksum needs no request.
  result<seen_download> resolve(const http_reference& w, resolutions* build, const job_context& job) {
    if (w.checksum)
      return seen_download{{"", w.checksum, "", {}, download_name(w.url, w.look.filename, ""), ""}, {}, {}};
    KILN_TRY(
        seen_download seen,
        resolve_once<seen_download>(build, "http " + w.question(), job.stop, [&]() -> result<seen_download> {
          KILN_TRY(download d, fetcher_.fetch(w, job));
          KILN_TRY(store::ref content, store_.get(d.ref));
          auto look = look_of(w, d);
          return seen_download{std::move(d), std::move(look), std::move(content)};
        }));
    // The question may have come with another name in mind.
    seen.what.filename = download_name(w.url, w.look.filename, seen.what.disposition);
    return seen;
  }

  /// The file itself; fetched when it is not here.
  result<store::ref> content(const http_reference& w, const seen_download& seen, const job_context& job) {
    const auto& d = seen.what;
    if (seen.content && seen.look == look_of(w, d)) return seen.content;
    if (auto known = fetcher_.find(w, d)) return *std::move(known);
    if (seen.content) return fetcher_.copy(w, d, seen.content, seen.look.name, job);
    KILN_TRY(download fresh, fetcher_.fetch(w, job));
    if (fresh.checksum != d.checksum)
      return make_error(errc::failed_precondition, "digest mismatch for " + w.url + ": " +
                                                       fresh.checksum.str() +
                                                       " (expected: " + d.checksum.str() + ")");
    return store_.get(fresh.ref);
  }

  status check_signature(const http_reference& w, const seen_download& seen, const job_context& job) {
    if (w.signature.empty()) return {};
    KILN_TRY(store::ref r, content(w, seen, job));
    KILN_TRY(auto mounted, fetcher_.mount(r, job));
    KILN_TRY(auto scratch, store_.scratch().make("signature"));
    auto checked =
        verify_pgp(mounted.path() / seen.what.filename, w.signature, {w.signer_keys}, scratch, job.stop);
    if (!checked) return std::move(checked).error().with_context("failed to verify pgp signature");
    return {};
  }

  store::ref_store& store_;
  http_fetcher fetcher_;
};

}  // namespace

std::unique_ptr<source_handler> make_http_source(store::ref_store& store, distribution::hosts& hosts) {
  return std::make_unique<http_source>(store, hosts);
}

}  // namespace kiln::workers
