#include "exporters/cache/http_object_store.hpp"

#include <algorithm>
#include <charconv>

#include "base/parallel.hpp"
#include "base/pause.hpp"
#include "base/time_text.hpp"
#include "configs/remote_cache.hpp"
#include "store/files/first_bytes.hpp"

namespace kiln::exporters {
namespace {

request_pace::seconds time_now() { return std::chrono::steady_clock::now().time_since_epoch(); }

}  // namespace

result<std::optional<object_info>> http_object_store::find(const std::string& key) {
  object_call c{"HEAD", key};
  KILN_TRY(auto r, send(c));
  if (absent(r)) return std::optional<object_info>();
  if (r.status < 200 || r.status >= 300) return refusal(c, r);
  object_info out;
  auto length = distribution::header_of(r.headers, "content-length");
  std::from_chars(length.data(), length.data() + length.size(), out.size);
  out.modified_s = parse_http_date(distribution::header_of(r.headers, "last-modified"));
  return std::optional(out);
}

status http_object_store::get(const std::string& key, std::int64_t offset,
                              const std::function<status(std::string_view)>& use) {
  std::int64_t at = offset;
  for (int n = 1;; ++n) {
    object_call c{"GET", key};
    if (at > 0) c.headers["range"] = "bytes=" + std::to_string(at) + "-";
    std::int64_t skip = 0;
    bool begun = false;
    c.on_body = [&](const distribution::response& r, std::string_view bytes) -> status {
      if (!std::exchange(begun, true) && r.status == 200) skip = at;  // the range was not obeyed
      auto drop = std::min<std::int64_t>(skip, static_cast<std::int64_t>(bytes.size()));
      skip -= drop;
      bytes.remove_prefix(static_cast<std::size_t>(drop));
      at += static_cast<std::int64_t>(bytes.size());
      return bytes.empty() ? status() : use(bytes);
    };
    auto r = send(c);
    if (r.ok()) {
      if (absent(*r)) return make_error(errc::not_found, key + ": not found");
      if (r->status == 416 && at > 0) return {};  // nothing is left to read
      if (r->status < 200 || r->status >= 300) return refusal(c, *r);
      return {};
    }
    // What was given to `use` stays given: go on behind it.
    bool broken = r.error().code == errc::unavailable || r.error().code == errc::data_loss;
    if (!begun || !broken || n >= attempts_) return std::move(r).error();
  }
}

/// Repeated while the failure is temporary and nothing of the answer was used.
result<distribution::response> http_object_store::send(const object_call& c) {
  auto pause = configs::object_store_backoff;
  for (int n = 1;; ++n, pause *= 2) {
    bool used = false;
    KILN_TRY(auto q, signed_request(c));
    q.stop = job_.stop;
    q.follow_redirects = false;
    if (c.body) {
      q.open_body = [&] { return c.body->open(0); };
      q.body_size = c.body->size;
    }
    if (c.on_body)
      q.on_body = [&](const distribution::response& r, std::string_view bytes) {
        used = true;
        return c.on_body(r, bytes);
      };
    if (pace_ &&
        !pause_for(std::chrono::duration_cast<std::chrono::nanoseconds>(pace_->take(time_now())), job_.stop))
      return job_.check().error();
    auto r = transport_.perform(q);
    if (pace_ && r.ok()) pace_->answered(time_now(), r->status == 429 || r->status == 503);
    bool temporary = r.ok() ? r->status == 429 || r->status >= 500 : r.error().code == errc::unavailable;
    if (!temporary || used || n >= attempts_) return r;
    pause_for(pause, job_.stop);
    KILN_CHECK(job_.check());
  }
}

result<distribution::response> http_object_store::ask(const object_call& c) {
  KILN_TRY(auto r, send(c));
  if (r.status < 200 || r.status >= 300) return refusal(c, r);
  return r;
}

status http_object_store::tell(const object_call& c) {
  auto r = ask(c);
  return r.ok() ? status() : status(std::move(r).error());
}

result<std::size_t> put_in_parts(const object_body& body, std::int64_t least, std::int64_t most,
                                 const std::function<status(std::size_t n, object_body part)>& send) {
  auto size = std::max(least, (body.size + most - 1) / most);
  auto count = static_cast<std::size_t>((body.size + size - 1) / size);
  KILN_CHECK(parallel_try("upload", count, configs::object_parts_at_a_time, [&](std::size_t n) {
    auto at = static_cast<std::int64_t>(n) * size;
    return send(n, part_of(body, at, std::min(size, body.size - at)));
  }));
  return count;
}

object_body text_body(std::string text) {
  object_body out{static_cast<std::int64_t>(text.size()), sha256(text), {}};
  out.open = [text = std::move(text)](std::int64_t offset) -> result<std::unique_ptr<store::byte_source>> {
    return std::unique_ptr<store::byte_source>(
        new store::text_source(text, static_cast<std::size_t>(offset)));
  };
  return out;
}

object_body part_of(const object_body& whole, std::int64_t begin, std::int64_t size) {
  return {
      size, {}, [&whole, begin, size](std::int64_t offset) -> result<std::unique_ptr<store::byte_source>> {
        KILN_TRY(auto rest, whole.open(begin + offset));
        return std::unique_ptr<store::byte_source>(new store::first_bytes(std::move(rest), size - offset));
      }};
}

}  // namespace kiln::exporters
