#include "workers/sources/http_fetch.hpp"

#include "base/pause.hpp"
#include "base/time_text.hpp"
#include "configs/registry.hpp"
#include "configs/sources.hpp"
#include "distribution/transport.hpp"
#include "store/files/confinement.hpp"
#include "store/files/regular_file.hpp"
#include "upload.pb.h"
#include "workers/sources/download_name.hpp"
#include "workers/sources/file_blocks.hpp"
#include "workers/sources/http_headers.hpp"

namespace kiln::workers {

namespace {

using downloads_by_etag = std::map<std::string, download>;

/// Without the mark of weakness, so that tags can be compared.
std::string etag_value(std::string v) { return v.starts_with("W/") ? v.substr(2) : v; }

distribution::request make_request(const http_reference& w, const std::vector<std::string>& headers,
                                   const job_context& job) {
  distribution::request r;
  r.url = w.url;
  r.headers = headers;
  r.stop = job.stop;
  r.accept_gzip = true;  // some servers give a different ETag without
  return r;
}

/// The remembered download that a 200 to HEAD or a 304 speaks of.
const download* unchanged(const distribution::response& r, const downloads_by_etag& by_etag) {
  if (r.status != 200 && r.status != 304) return nullptr;
  std::string etag = etag_value(distribution::header_of(r.headers, "etag"));
  // A server asked about a single tag need not repeat it.
  if (etag.empty() && r.status == 304 && by_etag.size() == 1) return &by_etag.begin()->second;
  auto it = by_etag.find(etag);
  return it == by_etag.end() ? nullptr : &it->second;
}

download renamed(download d, const http_reference& w, const distribution::response& r) {
  d.disposition = distribution::header_of(r.headers, "content-disposition");
  d.filename = download_name(w.url, w.look.filename, d.disposition);
  return d;
}

/// Bytes that are still to come by a server's word; 0 when it gives none.
std::int64_t announced_size(const distribution::response& answer) {
  std::string length = distribution::header_of(answer.headers, "content-length");
  bool known = !length.empty() && length.size() < 16 && length.find_first_not_of("0123456789") == length.npos;
  return known ? std::stoll(length) : 0;
}

/// How often it takes, within reason: servers have bad moments.
result<distribution::response> perform(distribution::transport& transport, const distribution::request& r,
                                       single_file& file, const job_context& job) {
  for (int n = 1;; ++n) {
    auto answer = transport.perform(r);
    bool again = answer.ok() ? answer->status >= 500 || answer->status == 429
                             : answer.error().code == errc::unavailable;
    if (!again || n >= configs::download_attempts) return answer;
    pause_for(configs::registry_backoff * (1 << n), job.stop);
    KILN_CHECK(job.check());
    KILN_CHECK(file.restart());
  }
}

}  // namespace

file_look look_of(const http_reference& w, const download& d) {
  return {d.filename, w.look.perm ? w.look.perm : 0600, w.look.uid, w.look.gid, d.modified.value_or(0)};
}

result<download> http_fetcher::fetch(const http_reference& w, const job_context& job) {
  if (w.from_session()) return fetch_upload(w, job);
  KILN_TRY(auto headers, download_headers(w, hosts_, job));
  downloads_by_etag by_etag;
  for (auto& d : downloads_.of(w))
    if (!d.etag.empty() && !by_etag.contains(d.etag) && store_.get(d.ref).ok())
      by_etag.emplace(d.etag, std::move(d));
  if (!by_etag.empty()) {
    std::string all;
    for (const auto& [etag, d] : by_etag) all += (all.empty() ? "" : ", ") + etag;
    headers.push_back("If-None-Match: " + all);
    // Some servers send tags but do not honour If-None-Match: a HEAD lets us compare for ourselves.
    distribution::request head = make_request(w, headers, job);
    head.method = "HEAD";
    if (auto r = hosts_.transport().perform(head); r.ok()) {
      if (const download* same = unchanged(*r, by_etag)) return renamed(*same, w, *r);
    } else if (r.error().code == errc::cancelled) {
      return std::move(r).error();
    }
  }
  return get(w, make_request(w, headers, job), by_etag, job);
}

result<download> http_fetcher::get(const http_reference& w, distribution::request r,
                                   const downloads_by_etag& by_etag, const job_context& job) {
  KILN_TRY(single_file file, begin_file(w, job));
  job.progress->progress(w.url, 0, 0, false);
  r.on_body = [&](const distribution::response& answer, std::string_view bytes) -> status {
    if (file.size() + static_cast<std::int64_t>(bytes.size()) > configs::max_download_size)
      return make_error(errc::resource_exhausted,
                        w.url + " is larger than " + std::to_string(configs::max_download_size) + " bytes");
    KILN_CHECK(file.write(bytes));
    job.progress->progress(w.url, file.size(), announced_size(answer), false);
    return {};
  };
  auto answer = perform(hosts_.transport(), r, file, job);
  if (!answer.ok() && answer.error().code == errc::cancelled) return std::move(answer).error();
  job.progress->progress(w.url, file.size(), file.size(), true);
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

/// "http://buildkit-session/<id>": what the client uploads. Source: session/upload.
result<download> http_fetcher::fetch_upload(const http_reference& w, const job_context& job) {
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

std::optional<store::ref> http_fetcher::find(const http_reference& w, const download& d) const {
  for (const auto& known : downloads_.of(w))
    if (known.checksum == d.checksum && known.filename == d.filename)
      if (auto r = store_.get(known.ref); r.ok()) return *std::move(r);
  return std::nullopt;
}

result<store::ref> http_fetcher::copy(const http_reference& w, const download& d, const store::ref& content,
                                      const std::string& name, const job_context& job) {
  KILN_TRY(auto mounted, mount(content, job));
  KILN_TRY(auto root, store::open_confined(mounted.path()));
  KILN_TRY(auto from, store::open_regular_at(root.get(), name));
  KILN_TRY(single_file file, begin_file(w, job));
  KILN_CHECK(for_each_block(from.get(), "read " + name, [&](std::string_view bytes) -> status {
    KILN_CHECK(job.check());
    return file.write(bytes);
  }));
  KILN_TRY(download made, keep(w, std::move(file), d));
  return store_.get(made.ref);
}

result<store::mounted> http_fetcher::mount(const store::ref& r, const job_context& job) const {
  KILN_TRY(auto specs, store_.files().mounts(r, job));
  return store::mounted::make(store_, specs);
}

result<single_file> http_fetcher::begin_file(const http_reference& w, const job_context& job) {
  return single_file::begin(store_, {"http url " + w.url, store::record_type::regular, 0}, job);
}

result<download> http_fetcher::keep(const http_reference& w, single_file file, download d) {
  d.checksum = file.sum();
  if (w.checksum && d.checksum != w.checksum)
    return make_error(errc::failed_precondition, "digest mismatch for " + w.url + ": " + d.checksum.str() +
                                                     " (expected: " + w.checksum.str() + ")");
  KILN_TRY(store::ref r, file.commit(look_of(w, d)));
  d.ref = r.id();
  downloads_.add(w, d);
  return d;
}

}  // namespace kiln::workers
