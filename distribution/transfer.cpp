// The bulk half of distribution/client.hpp: blobs in both directions, resumable and verified.
#include <algorithm>

#include "base/url.hpp"
#include "distribution/client.hpp"
#include "distribution/media_types.hpp"
#include "distribution/place_failures.hpp"

namespace kiln::distribution {
namespace {

bool success(int status) { return status >= 200 && status < 300; }

/// Reads a part of a blob of the store, and tells how far it got.
class part_source : public store::byte_source {
 public:
  part_source(std::unique_ptr<store::byte_source> in, std::int64_t begin, std::int64_t size,
              byte_progress progress)
      : in_(std::move(in)), at_(begin), end_(begin + size), progress_(std::move(progress)) {}
  result<std::size_t> read(std::span<char> buffer) override {
    auto n = std::min<std::int64_t>(static_cast<std::int64_t>(buffer.size()), end_ - at_);
    if (n <= 0) return std::size_t{0};
    KILN_TRY(std::size_t got, in_->read(buffer.first(static_cast<std::size_t>(n))));
    if (got == 0)
      return make_error(errc::data_loss, "blob in the local store is shorter than its descriptor says");
    at_ += static_cast<std::int64_t>(got);
    if (progress_) progress_(at_, 0);
    return got;
  }

 private:
  std::unique_ptr<store::byte_source> in_;
  std::int64_t at_, end_;
  byte_progress progress_;
};

std::string with_query(const std::string& location, const std::string& query) {
  return location + (location.find('?') == location.npos ? "?" : "&") + query;
}

}  // namespace

void remember_source(store::blob_store& blobs, const digest& d, const image_reference& ref) {
  (void)blobs.change_labels(d, [&](store::blob_store::label_map& labels) {
    auto& known = labels[source_label(ref.domain)];
    if (("," + known + ",").find("," + ref.path + ",") != known.npos) return;
    known += (known.empty() ? "" : ",") + ref.path;
  });
}

status repository::fetch_from(const endpoint& e, const std::string& from, const descriptor& d,
                              store::blob_store& into, const byte_progress& progress, int attempts) {
  // Before the permit: whoever brings a blob may be waiting for one.
  KILN_TRY(auto writer, into.bring(d.digest, d.size, job_.stop));
  if (!writer) return {};
  std::optional<error> last;
  for (int n = 1, idle = 0;; ++n) {
    std::int64_t begin = writer->offset();
    if (begin > d.size) {
      KILN_CHECK(writer->truncate());
      begin = 0;
    }
    if (begin == d.size && d.size > 0) break;
    request get;
    get.url = from;
    if (begin > 0) get.headers.push_back("Range: bytes=" + std::to_string(begin) + "-");
    bool started = false;
    get.on_body = [&](const response& r, std::string_view bytes) -> status {
      if (!started) {
        started = true;
        // A server that ignores ranges, or sends another one, starts over.
        std::string range = header_of(r.headers, "content-range");
        bool resumed = r.status == 206 && range.starts_with("bytes " + std::to_string(begin) + "-");
        if (begin > 0 && !resumed) {
          if (r.status == 206)
            return make_error(errc::data_loss, "registry sent a range that was not asked for: " + range);
          KILN_CHECK(writer->truncate());
        }
      }
      if (writer->offset() + static_cast<std::int64_t>(bytes.size()) > d.size)
        return make_error(errc::data_loss, "content of " + d.digest.str() + " from " + from +
                                               " is longer than the " + std::to_string(d.size) +
                                               " bytes its descriptor says");
      KILN_CHECK(writer->write(bytes));
      if (progress) progress(writer->offset(), d.size);
      return {};
    };
    auto permit = hosts_.transport().acquire(e.host, job_.stop);
    if (!permit.ok()) return std::move(permit).error();
    auto answer = send(e, get);
    if (answer.ok() && success(answer->status)) {
      if (writer->offset() == d.size) break;
      last = make_error(errc::unavailable, "content of " + d.digest.str() + " from " + from + " ended at " +
                                               std::to_string(writer->offset()) + " of " +
                                               std::to_string(d.size) + " bytes");
    } else if (answer.ok() && answer->status == 416) {
      KILN_CHECK(writer->truncate());
      last = status_error("GET", from, *answer);
    } else {
      last = answer.ok() ? status_error("GET", from, *answer) : answer.error();
      if (last->code == errc::data_loss) KILN_CHECK(writer->truncate());
      if (last->code != errc::unavailable) return *last;
    }
    // Attempts that moved bytes do not count: a slow link gets there in the end.
    idle = writer->offset() > begin ? 0 : idle + 1;
    if (idle >= attempts) return *last;
    KILN_CHECK(pause(idle + 1, answer.ok() ? &*answer : nullptr));
  }
  auto done = writer->commit();
  if (!done.ok()) return std::move(done).error().with_context("content from " + from);
  return {};
}

status repository::fetch_blob(const descriptor& d, store::blob_store& into, const byte_progress& progress) {
  if (into.has(d.digest)) return {};
  place_failures failures;
  std::optional<error> cancelled;
  auto attempt = [&](const endpoint& e, const std::string& from, int attempts) {
    auto s = fetch_from(e, from, d, into, progress, attempts);
    if (s.ok()) return true;
    if (s.error().code == errc::cancelled) cancelled = s.error();
    failures.add(std::move(s).error());
    return false;
  };
  // Foreign layers live where their descriptor says.
  if (media::is_nondistributable(d.media_type)) {
    for (const auto& u : d.urls) {
      auto elsewhere = hosts_.foreign(u);
      if (!elsewhere.ok()) {
        failures.add(std::move(elsewhere).error());
      } else if (attempt(*elsewhere, u, 2)) {
        return {};
      }
    }
  }
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    const endpoint& e = endpoints_[i];
    if (cancelled) return *std::move(cancelled);
    if (!attempt(e, url(e, "/blobs/" + d.digest.str()), attempts_at(i))) continue;
    remember_source(into, d.digest, ref_);
    return {};
  }
  if (cancelled) return *std::move(cancelled);
  if (failures.told().code == errc::not_found)
    return make_error(errc::not_found, ref_.name() + "@" + d.digest.str() + ": not found");
  return failures.told();
}

result<bool> repository::has_blob(const digest& d) {
  request head;
  head.method = "HEAD";
  head.url = url(endpoints_.front(), "/blobs/" + d.str());
  KILN_TRY(response r, send_with_retries(endpoints_.front(), head, configs::registry_attempts));
  if (r.status == 404) return false;
  if (!success(r.status)) return status_error("HEAD", head.url, r);
  return true;
}

result<bool> repository::mount_blob(const digest& d, const std::string& from) {
  const endpoint& e = endpoints_.front();
  request post;
  post.method = "POST";
  post.url = url(e, "/blobs/uploads/?mount=" + url_escape(d.str()) + "&from=" + url_escape(from));
  // Being refused the other repository is no failure of the push.
  auto r = send(e, post, {"repository:" + from + ":pull"});
  if (!r.ok()) {
    if (r.error().code == errc::cancelled) return std::move(r).error();
    return false;
  }
  if (r->status == 201) return true;
  if (r->status == 202) {  // an upload was opened instead; it is not needed
    std::string location = resolve_url(r->url, header_of(r->headers, "location"));
    request cancel;
    cancel.method = "DELETE";
    cancel.url = location;
    if (!location.empty()) (void)send(e, cancel);
  }
  return false;
}

result<std::string> repository::begin_upload(const endpoint& e) {
  request post;
  post.method = "POST";
  post.url = url(e, "/blobs/uploads/");
  KILN_TRY(response r, send_with_retries(e, post, configs::registry_attempts));
  if (r.status != 202 && r.status != 201) return status_error("POST", post.url, r);
  std::string location = resolve_url(r.url, header_of(r.headers, "location"));
  if (location.empty())
    return make_error(errc::unknown, "registry opened an upload without telling where: POST " + post.url);
  return location;
}

status repository::upload_whole(const endpoint& e, const std::string& location, const descriptor& d,
                                const store::blob_store& from, const byte_progress& progress) {
  request put;
  put.method = "PUT";
  put.url = with_query(location, "digest=" + url_escape(d.digest.str()));
  put.headers = {"Content-Type: application/octet-stream"};
  put.stall_timeout = configs::registry_commit_timeout;
  put.body_size = d.size;
  put.open_body = [&]() -> result<std::unique_ptr<store::byte_source>> {
    KILN_TRY(auto in, from.read(d.digest));
    return std::unique_ptr<store::byte_source>(
        std::make_unique<part_source>(std::move(in), 0, d.size, progress));
  };
  KILN_TRY(response r, send(e, put));
  if (r.status != 201 && r.status != 204 && r.status != 200 && r.status != 202)
    return status_error("PUT", put.url, r);
  return {};
}

status repository::upload_chunks(const endpoint& e, std::string location, const descriptor& d,
                                 const store::blob_store& from, const byte_progress& progress) {
  for (std::int64_t at = 0; at < d.size;) {
    std::int64_t n = std::min(configs::registry_chunk_size, d.size - at);
    request patch;
    patch.method = "PATCH";
    patch.url = location;
    patch.headers = {"Content-Type: application/octet-stream",
                     "Content-Range: " + std::to_string(at) + "-" + std::to_string(at + n - 1)};
    patch.stall_timeout = configs::registry_commit_timeout;
    patch.body_size = n;
    patch.open_body = [&]() -> result<std::unique_ptr<store::byte_source>> {
      KILN_TRY(auto in, from.read(d.digest, at));
      return std::unique_ptr<store::byte_source>(
          std::make_unique<part_source>(std::move(in), at, n, progress));
    };
    KILN_TRY(response r, send(e, patch));
    if (r.status != 202) return status_error("PATCH", patch.url, r);
    at += n;
    if (auto next = resolve_url(r.url, header_of(r.headers, "location")); !next.empty()) location = next;
  }
  request put;
  put.method = "PUT";
  put.url = with_query(location, "digest=" + url_escape(d.digest.str()));
  put.stall_timeout = configs::registry_commit_timeout;
  KILN_TRY(response r, send(e, put));
  if (!success(r.status)) return status_error("PUT", put.url, r);
  return {};
}

status repository::push_blob(const descriptor& d, const store::blob_store& from,
                             const byte_progress& progress) {
  const endpoint& e = endpoints_.front();
  for (int n = 1;; ++n) {
    status s;
    {
      KILN_TRY(auto permit, hosts_.transport().acquire(e.host, job_.stop));
      auto location = begin_upload(e);
      if (!location.ok()) return std::move(location).error();
      // Proxies that refuse or cut long bodies get them in pieces.
      bool pieces = n > 1 && d.size > configs::registry_chunk_size;
      s = pieces ? upload_chunks(e, *location, d, from, progress)
                 : upload_whole(e, *location, d, from, progress);
    }
    if (s.ok()) return {};
    bool again =
        s.error().code == errc::unavailable || (s.error().code == errc::resource_exhausted && n == 1);
    if (!again || n >= configs::registry_attempts) return s;
    KILN_CHECK(pause(n, nullptr));
  }
}

status repository::push_manifest(const descriptor& d, std::string_view bytes, const std::string& name) {
  const endpoint& e = endpoints_.front();
  request put;
  put.method = "PUT";
  put.url = url(e, "/manifests/" + name);
  put.headers = {"Content-Type: " + d.media_type};
  put.body = bytes;
  put.stall_timeout = configs::registry_commit_timeout;
  KILN_TRY(response r, send_with_retries(e, put, configs::registry_attempts));
  if (!success(r.status)) return status_error("PUT", put.url, r);
  std::string said = header_of(r.headers, "docker-content-digest");
  if (!said.empty() && said != d.digest.str())
    return make_error(errc::data_loss, "registry stored manifest " + d.digest.str() + " as " + said);
  return {};
}

}  // namespace kiln::distribution
