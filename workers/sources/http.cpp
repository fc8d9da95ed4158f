#include "workers/sources/http.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>

#include <curl/curl.h>
#include <openssl/evp.h>

#include "base/json_text.hpp"
#include "base/text.hpp"
#include "base/time_text.hpp"
#include "base/url.hpp"
#include "configs/sources.hpp"
#include "configs/store.hpp"
#include "distribution/image_json.hpp"
#include "distribution/transport.hpp"
#include "secrets.pb.h"
#include "store/files/confinement.hpp"
#include "store/files/regular_file.hpp"
#include "upload.pb.h"
#include "workers/sources/download_name.hpp"
#include "workers/sources/resolutions.hpp"
#include "workers/sources/signatures.hpp"
#include "workers/sources/single_file.hpp"

namespace kiln::workers {
namespace {

namespace gw = moby::buildkit::v1::frontend;
using ordered_json = nlohmann::ordered_json;
constexpr std::string_view session_host = "buildkit-session";
constexpr std::size_t max_remembered = 16;  // versions of one URL

struct wanted_file {
  std::string url;
  std::string place;  // the same, however it was written
  file_attributes look;
  kiln::digest checksum;
  std::string auth_secret;
  std::vector<std::pair<std::string, std::string>> headers;  // canonical name, value; sorted
  std::string signature;                                     // armored; empty: none is asked for
  std::string signer_keys;

  ordered_json header_json() const {
    ordered_json out = ordered_json::array();
    for (const auto& [name, value] : headers) out.push_back({{"Name", name}, {"Value", value}});
    return out;
  }
  /// What the answer depends on; how the file is to look is another matter.
  std::string question() const { return place + "\n" + auth_secret + "\n" + json_text(header_json()); }
  /// Under which downloads are remembered.
  std::string hash() const {
    ordered_json j{
        {"URL", url},      {"Filename", look.filename},       {"Perm", look.perm},      {"UID", look.uid},
        {"GID", look.gid}, {"AuthHeaderSecret", auth_secret}, {"Header", header_json()}};
    return sha256(json_text(j)).str();
  }
};

result<wanted_file> parse_source(const pb::SourceOp& source) {
  wanted_file out;
  out.url = source.identifier();
  if (!out.url.starts_with("http://") && !out.url.starts_with("https://"))
    return make_error(errc::invalid_argument, "source \"" + out.url + "\" is no http source");
  KILN_TRY(auto parts, parse_url(out.url));
  out.place = parts.user_info + "@" + parts.str();
  KILN_TRY(out.look, parse_file_attributes(source));
  for (const auto& [name, value] : source.attrs()) {
    if (name == "http.checksum") {
      KILN_TRY(out.checksum, digest::parse(value));
    } else if (name == "http.authheadersecret") {
      out.auth_secret = value;
    } else if (name == "http.header.accept") {
      out.headers.emplace_back("Accept", value);
    } else if (name == "http.header.user-agent") {
      out.headers.emplace_back("User-Agent", value);
    } else if (name == "http.sig.pubkey") {
      out.signer_keys = value;
    } else if (name == "http.sig.signature") {
      out.signature = value;
    }
  }
  std::sort(out.headers.begin(), out.headers.end());
  for (const auto& [name, value] : out.headers)
    if (value.find_first_of("\r\n") != value.npos)
      return make_error(errc::invalid_argument, "invalid value of http header " + name);
  if (out.signer_keys.empty() != out.signature.empty())
    return make_error(errc::invalid_argument,
                      "http signature verification requires both pubkey and signature");
  return out;
}

/// Without the mark of weakness, so that tags can be compared.
std::string etag_value(std::string v) { return v.starts_with("W/") ? v.substr(2) : v; }

/// What is known of one download.
struct download {
  std::string ref;  // record id; empty while nothing was fetched (pinned checksums)
  kiln::digest checksum;
  std::string etag;
  std::optional<std::int64_t> modified;
  std::string filename;
  std::string disposition;  // by which the server names it
};

/// A download that its build sees whenever it asks for that URL; its content cannot be pruned.
struct seen_download {
  download what;
  file_look look;
  store::ref content;
};

file_look look_of(const wanted_file& w, const download& d) {
  return {d.filename, w.look.perm ? w.look.perm : 0600, w.look.uid, w.look.gid, d.modified.value_or(0)};
}

std::string cache_key(const wanted_file& w, const download& d) {
  ordered_json j{{"Filename", d.filename},
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
  http_source(store::ref_store& store, distribution::hosts& hosts)
      : store_(store),
        hosts_(hosts),
        downloads_(store.values(), "http-downloads", store::limits::remembered_values, [&store](auto text) {
          auto known = downloads_of(text);
          return std::any_of(known.begin(), known.end(), [&](const auto& d) { return store.has(d.ref); });
        }) {}

  std::vector<std::string> schemes() const override { return {"http", "https"}; }

  result<solver::cache_map> cache_map(const op_request& request, int, const job_context& job) override {
    KILN_TRY(wanted_file w, parse_source(request.op.source()));
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
    KILN_TRY(wanted_file w, parse_source(request.op.source()));
    KILN_TRY(seen_download seen, resolve(w, request.build.get(), job));
    KILN_TRY(store::ref r, content(w, seen, job));
    return std::vector<store::ref>{std::move(r)};
  }

  result<gw::ResolveSourceMetaResponse> resolve_meta(const gw::ResolveSourceMetaRequest& request,
                                                     const std::shared_ptr<resolutions>& build,
                                                     const job_context& job) override {
    KILN_TRY(wanted_file w, parse_source(request.source()));
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
      KILN_TRY(std::string sum, checksum_of(r, d.filename, question, job));
      out.mutable_http()->mutable_checksumresponse()->set_digest(sum);
      out.mutable_http()->mutable_checksumresponse()->set_suffix(question.suffix());
    }
    return out;
  }

 private:
  static bool from_session(const wanted_file& w) { return host_of_url(w.url) == session_host; }

  /// What the URL leads to in this build. A pinned checksum needs no request.
  result<seen_download> resolve(const wanted_file& w, resolutions* build, const job_context& job) {
    if (w.checksum)
      return seen_download{{"", w.checksum, "", {}, download_name(w.url, w.look.filename, ""), ""}, {}, {}};
    KILN_TRY(
        seen_download seen,
        resolve_once<seen_download>(build, "http " + w.question(), job.stop, [&]() -> result<seen_download> {
          KILN_TRY(download d, fetch(w, job));
          KILN_TRY(store::ref content, store_.get(d.ref));
          auto look = look_of(w, d);
          return seen_download{std::move(d), std::move(look), std::move(content)};
        }));
    // The question may have come with another name in mind.
    seen.what.filename = download_name(w.url, w.look.filename, seen.what.disposition);
    return seen;
  }

  /// The file itself; fetched when it is not here.
  result<store::ref> content(const wanted_file& w, const seen_download& seen, const job_context& job) {
    const auto& d = seen.what;
    if (seen.content && seen.look == look_of(w, d)) return seen.content;
    for (const auto& known : remembered(w))
      if (known.checksum == d.checksum && known.filename == d.filename)
        if (auto r = store_.get(known.ref); r.ok()) return r;
    if (seen.content) return copied(w, seen, job);
    KILN_TRY(download fresh, fetch(w, job));
    if (fresh.checksum != d.checksum)
      return make_error(errc::failed_precondition, "digest mismatch for " + w.url + ": " +
                                                       fresh.checksum.str() +
                                                       " (expected: " + d.checksum.str() + ")");
    return store_.get(fresh.ref);
  }

  /// The content that the build has seen, by another name or with another mode.
  result<store::ref> copied(const wanted_file& w, const seen_download& seen, const job_context& job) {
    KILN_TRY(auto mounted, mount(seen.content, job));
    KILN_TRY(auto root, store::open_confined(mounted.path()));
    KILN_TRY(auto from, store::open_regular_at(root.get(), seen.look.name));
    KILN_TRY(single_file file, begin_file(w, job));
    KILN_CHECK(for_each_block(from.get(), "read " + seen.look.name, [&](std::string_view bytes) -> status {
      KILN_CHECK(job.check());
      return file.write(bytes);
    }));
    KILN_TRY(download d, keep(w, std::move(file), seen.what));
    return store_.get(d.ref);
  }

  result<single_file> begin_file(const wanted_file& w, const job_context& job) {
    return single_file::begin(store_, {"http url " + w.url, store::record_type::regular, 0}, job);
  }

  static status for_each_block(int file, const std::string& doing,
                               const std::function<status(std::string_view)>& use) {
    std::vector<char> buffer(256 << 10);
    while (true) {
      auto count = ::read(file, buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return errno_error(errno, doing);
      if (count == 0) return {};
      KILN_CHECK(use({buffer.data(), static_cast<std::size_t>(count)}));
    }
  }

  /// The mount of a download; the file is at its path by its name.
  result<store::mounted> mount(const store::ref& r, const job_context& job) {
    KILN_TRY(auto specs, store_.files().mounts(r, job));
    return store::mounted::make(store_, specs);
  }

  status check_signature(const wanted_file& w, const seen_download& seen, const job_context& job) {
    if (w.signature.empty()) return {};
    KILN_TRY(store::ref r, content(w, seen, job));
    KILN_TRY(auto mounted, mount(r, job));
    KILN_TRY(auto scratch, store_.scratch().make("signature"));
    auto checked =
        verify_pgp(mounted.path() / seen.what.filename, w.signature, {w.signer_keys}, scratch, job.stop);
    if (!checked) return std::move(checked).error().with_context("failed to verify pgp signature");
    return {};
  }

  std::vector<download> remembered(const wanted_file& w) {
    return downloads_of(downloads_.get(w.hash()).value_or(""));
  }

  static std::vector<download> downloads_of(std::string_view text) {
    std::vector<download> out;
    auto list = json_or_null(text);
    if (!list.is_array()) return out;
    for (const auto& j : list) {
      download d;
      d.ref = text_member(j, "ref");
      auto sum = digest::parse(text_member(j, "checksum"));
      if (d.ref.empty() || !sum.ok()) continue;
      d.checksum = *sum;
      d.etag = text_member(j, "etag");
      d.modified = integer_member(j, "modified");
      d.filename = text_member(j, "filename");
      out.push_back(std::move(d));
    }
    return out;
  }

  void remember(const wanted_file& w, const download& d) {
    std::lock_guard lock(mutex_);
    auto list = nlohmann::json::array();
    auto add = [&](const download& e) {
      nlohmann::json j{
          {"ref", e.ref}, {"checksum", e.checksum.str()}, {"etag", e.etag}, {"filename", e.filename}};
      if (e.modified) j["modified"] = *e.modified;
      list.push_back(std::move(j));
    };
    add(d);
    for (const auto& old : remembered(w))
      if (old.ref != d.ref && list.size() < max_remembered && store_.get(old.ref).ok()) add(old);
    (void)downloads_.set(w.hash(), json_text(list));
  }

  result<std::vector<std::string>> request_headers(const wanted_file& w, const job_context& job) {
    std::vector<std::string> out;
    for (const auto& [name, value] : w.headers) out.push_back(name + ": " + value);
    KILN_TRY(auto url, parse_url(w.url));
    auto host = url.host.starts_with('[') ? url.host.substr(1, url.host.size() - 2) : url.host;
    std::vector<std::pair<std::string, std::string>> secrets;  // name, prefix
    if (!w.auth_secret.empty()) secrets = {{w.auth_secret, ""}};
    else secrets = {{"HTTP_AUTH_HEADER_" + host, ""}, {"HTTP_AUTH_TOKEN_" + host, "Bearer "}};
    std::string authorization;
    for (const auto& [name, prefix] : secrets) {
      auto secret = get_secret(name, job);
      if (!secret.ok()) {
        if (secret.error().code == errc::cancelled) return std::move(secret).error();
        if (!w.auth_secret.empty())
          return std::move(secret).error().with_context("failed to retrieve HTTP auth secret " + name);
        continue;
      }
      authorization = prefix + *secret;
    }
    if (authorization.find_first_of("\r\n") != authorization.npos)
      return make_error(errc::invalid_argument, "the HTTP auth secret for " + host + " has a line break");
    // The one named by the source was meant for this very URL; the others for the host.
    bool clear = url.scheme == "http" && !hosts_.plain_allowed(url.authority());
    if (!authorization.empty() && clear && w.auth_secret.empty()) {
      job.progress->warn("the HTTP auth secret for " + host + " is not sent to " + url.origin() +
                         ": it is not https");
    } else if (!authorization.empty()) {
      out.push_back("Authorization: " + authorization);
    }
    return out;
  }

  static result<std::string> get_secret(const std::string& name, const job_context& job) {
    if (job.directory == nullptr) return make_error(errc::failed_precondition, "no active sessions");
    moby::buildkit::secrets::v1::GetSecretRequest req;
    req.set_id(name);
    moby::buildkit::secrets::v1::GetSecretResponse answer;
    KILN_CHECK(with_any_session(*job.directory, job.sessions, job.stop, [&](session_caller& s) -> status {
      KILN_TRY(std::string bytes,
               s.call("/moby.buildkit.secrets.v1.Secrets/GetSecret", req.SerializeAsString(), {},
                      configs::source_call_timeout, job.stop));
      if (!answer.ParseFromString(bytes))
        return make_error(errc::internal, "client sent an unreadable secret");
      return {};
    }));
    return answer.data();
  }

  distribution::request make_request(const wanted_file& w, const std::vector<std::string>& headers,
                                     const job_context& job) const {
    distribution::request r;
    r.url = w.url;
    r.headers = headers;
    r.stop = job.stop;
    r.accept_gzip = true;  // some servers give a different ETag without
    return r;
  }

  result<download> fetch(const wanted_file& w, const job_context& job) {
    if (from_session(w)) return fetch_upload(w, job);
    KILN_TRY(auto headers, request_headers(w, job));
    std::map<std::string, download> by_etag;
    for (auto& d : remembered(w))
      if (!d.etag.empty() && !by_etag.contains(d.etag) && store_.get(d.ref).ok())
        by_etag.emplace(d.etag, std::move(d));
    auto conditional = headers;
    if (!by_etag.empty()) {
      std::string all;
      for (const auto& [etag, d] : by_etag) all += (all.empty() ? "" : ", ") + etag;
      conditional.push_back("If-None-Match: " + all);
      // Some servers send tags but do not honour If-None-Match: a HEAD lets us compare for ourselves.
      distribution::request head = make_request(w, conditional, job);
      head.method = "HEAD";
      if (auto r = hosts_.transport().perform(head); r.ok()) {
        if (const download* same = unchanged(*r, by_etag)) return renamed(*same, w, *r);
      } else if (r.error().code == errc::cancelled) {
        return std::move(r).error();
      }
    }
    return get(w, make_request(w, conditional, job), by_etag, job);
  }

  /// The remembered download that a 200 to HEAD or a 304 speaks of.
  static const download* unchanged(const distribution::response& r,
                                   const std::map<std::string, download>& by_etag) {
    if (r.status != 200 && r.status != 304) return nullptr;
    std::string etag = etag_value(distribution::header_of(r.headers, "etag"));
    // A server asked about a single tag need not repeat it.
    if (etag.empty() && r.status == 304 && by_etag.size() == 1) return &by_etag.begin()->second;
    auto it = by_etag.find(etag);
    return it == by_etag.end() ? nullptr : &it->second;
  }

  static download renamed(download d, const wanted_file& w, const distribution::response& r) {
    d.disposition = distribution::header_of(r.headers, "content-disposition");
    d.filename = download_name(w.url, w.look.filename, d.disposition);
    return d;
  }

  result<download> get(const wanted_file& w, distribution::request r,
                       const std::map<std::string, download>& by_etag, const job_context& job) {
    KILN_TRY(single_file file, begin_file(w, job));
    std::string id = w.url;
    job.progress->progress(id, 0, 0, false);
    r.on_body = [&](const distribution::response& answer, std::string_view bytes) -> status {
      if (file.size() + static_cast<std::int64_t>(bytes.size()) > configs::max_download_size)
        return make_error(errc::resource_exhausted,
                          w.url + " is larger than " + std::to_string(configs::max_download_size) + " bytes");
      KILN_CHECK(file.write(bytes));
      std::string length = distribution::header_of(answer.headers, "content-length");
      bool known =
          !length.empty() && length.size() < 16 && length.find_first_not_of("0123456789") == length.npos;
      job.progress->progress(id, file.size(), known ? std::stoll(length) : 0, false);
      return {};
    };
    result<distribution::response> answer = make_error(errc::unavailable, "");
    for (int n = 1;; ++n) {
      answer = hosts_.transport().perform(r);
      bool again = answer.ok() ? answer->status >= 500 || answer->status == 429
                               : answer.error().code == errc::unavailable;
      if (!again || n >= configs::download_attempts) break;
      KILN_CHECK(pause(n, job));
      KILN_CHECK(file.restart());
    }
    job.progress->progress(id, file.size(), file.size(), true);
    if (!answer.ok()) return std::move(answer).error();
    if (answer->status < 200 || answer->status >= 400)
      return make_error(answer->status == 404 ? errc::not_found : errc::unknown,
                        "invalid response status " + std::to_string(answer->status) + " for " + w.url);
    if (answer->status == 304) {
      const download* same = unchanged(*answer, by_etag);
      if (same == nullptr)
        return make_error(errc::unknown,
                          "invalid not-modified ETag: " + distribution::header_of(answer->headers, "etag"));
      return renamed(*same, w, *answer);
    }
    download d;
    d.etag = etag_value(distribution::header_of(answer->headers, "etag"));
    d.modified = parse_http_date(distribution::header_of(answer->headers, "last-modified"));
    return keep(w, std::move(file), renamed(std::move(d), w, *answer));
  }

  result<download> keep(const wanted_file& w, single_file file, download d) {
    d.checksum = file.sum();
    if (w.checksum && d.checksum != w.checksum)
      return make_error(errc::failed_precondition, "digest mismatch for " + w.url + ": " + d.checksum.str() +
                                                       " (expected: " + w.checksum.str() + ")");
    KILN_TRY(store::ref r, file.commit(look_of(w, d)));
    d.ref = r.id();
    remember(w, d);
    return d;
  }

  /// "http://buildkit-session/<id>": what the client uploads. Source: session/upload.
  result<download> fetch_upload(const wanted_file& w, const job_context& job) {
    if (job.directory == nullptr) return make_error(errc::failed_precondition, "no active sessions");
    KILN_TRY(single_file file, begin_file(w, job));
    std::string path = w.url.substr(w.url.find(session_host) + session_host.size());
    path = path.substr(0, path.find_first_of("?#"));
    KILN_CHECK(with_any_session(*job.directory, job.sessions, job.stop, [&](session_caller& s) -> status {
      KILN_CHECK(file.restart());
      KILN_TRY(auto stream, s.open("/moby.upload.v1.Upload/Pull",
                                   {{"urlpath", path}, {"urlhost", std::string(session_host)}}, job.stop));
      std::string bytes;
      moby::upload::v1::BytesMessage m;
      while (stream->read(bytes)) {
        if (!m.ParseFromString(bytes)) return make_error(errc::internal, "client sent an unreadable upload");
        if (file.size() + static_cast<std::int64_t>(m.data().size()) > configs::max_download_size)
          return make_error(errc::resource_exhausted, "upload is too large");
        KILN_CHECK(file.write(m.data()));
      }
      return stream->finish();
    }));
    download d;
    d.filename = download_name(w.url, w.look.filename, "");
    return keep(w, std::move(file), std::move(d));
  }

  static status pause(int n, const job_context& job) {
    std::mutex m;
    std::unique_lock lock(m);
    std::condition_variable_any never;
    never.wait_for(lock, job.stop, configs::registry_backoff * (1 << n), [] { return false; });
    return job.check();
  }

  result<std::string> checksum_of(const store::ref& r, const std::string& name,
                                  const gw::ChecksumRequest& question, const job_context& job) {
    const EVP_MD* algorithm = nullptr;
    std::string prefix;
    switch (question.algo()) {
      case gw::ChecksumRequest::CHECKSUM_ALGO_SHA256: algorithm = EVP_sha256(), prefix = "sha256:"; break;
      case gw::ChecksumRequest::CHECKSUM_ALGO_SHA384: algorithm = EVP_sha384(), prefix = "sha384:"; break;
      case gw::ChecksumRequest::CHECKSUM_ALGO_SHA512: algorithm = EVP_sha512(), prefix = "sha512:"; break;
      default:
        return make_error(errc::invalid_argument,
                          "unsupported checksum algorithm " + std::to_string(question.algo()));
    }
    KILN_TRY(auto mounted, mount(r, job));
    KILN_TRY(auto root, store::open_confined(mounted.path()));
    auto file = store::open_regular_at(root.get(), name);
    if (!file.ok()) return std::move(file).error().with_context("http source payload");
    std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
    EVP_DigestInit_ex(context.get(), algorithm, nullptr);
    KILN_CHECK(for_each_block(file->get(), "read " + name, [&](std::string_view bytes) -> status {
      EVP_DigestUpdate(context.get(), bytes.data(), bytes.size());
      return {};
    }));
    EVP_DigestUpdate(context.get(), question.suffix().data(), question.suffix().size());
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_DigestFinal_ex(context.get(), sum, &size);
    return prefix + to_hex({reinterpret_cast<const char*>(sum), size});
  }

  store::ref_store& store_;
  distribution::hosts& hosts_;
  store::remembered_values downloads_;  // by URL hash: what was fetched from it
  std::mutex mutex_;                    // of remember()
};

}  // namespace

std::unique_ptr<source_handler> make_http_source(store::ref_store& store, distribution::hosts& hosts) {
  return std::make_unique<http_source>(store, hosts);
}

}  // namespace kiln::workers
