#include "exporters/cache/gha_service.hpp"

#include <algorithm>
#include <condition_variable>

#include "base/duration.hpp"
#include "base/json_text.hpp"
#include "base/text.hpp"
#include "base/url.hpp"
#include "exporters/cache/azure_blob_store.hpp"
#include "exporters/cache/cache_attributes.hpp"
#include "exporters/cache/request_text.hpp"
#include "exporters/layers.hpp"
#include "distribution/client.hpp"
#include "distribution/retry_after.hpp"

namespace kiln::exporters {
namespace {

using clock = rate_gate::clock;

/// Entries of others under equal keys are none of ours: they are of another version. GitHub's own tools put
/// the paths and the compression of an entry in here; this is the text that BuildKit's have instead.
const std::string& entry_version() {
  static const std::string version(sha256("|go-actionscache-1.0").hex());
  return version;
}

/// What the service says of a refusal: each version, and the REST API, in its own way.
struct said {
  std::string kind, text;
  explicit said(const distribution::response& r) {
    std::string_view body = r.body;
    if (body.starts_with("\xef\xbb\xbf")) body.remove_prefix(3);
    auto j = json_or_null(body);
    kind = text_member(j, "typeKey") + text_member(j, "code");
    text = text_member(j, "message") + text_member(j, "msg");
  }
  bool taken() const {
    return kind == "already_exists" || kind.find("AlreadyExists") != kind.npos ||
           to_lower(text).find("already exists") != text.npos;
  }
};

error refusal(const std::string& what, const distribution::response& r) {
  auto failure = distribution::status_error("", "", r);
  auto why = said(r);
  failure.message = "gha: " + what + ": the service answers " + std::to_string(r.status) +
                    (why.text.empty() ? "" : ": " + why.text);
  return failure;
}

/// Requests to the service, with patience.
class client : public gha_service {
 public:
  client(std::shared_ptr<gha_place> place, distribution::transport& transport, const job_context& job)
      : place_(std::move(place)), transport_(transport), job_(job) {}

 protected:
  struct call {
    std::string what;  // for errors: "reserving x"
    std::string method, url;
    std::vector<std::string> headers;
    std::string body;
    std::optional<object_body> bytes = {};
    bool repeatable = true;  // to do it twice is to do it once
  };

  /// The answer, whatever its status but 429.
  result<distribution::response> send(const call& c) {
    auto deadline = clock::now() + place_->patience;
    for (int failures = 0;;) {
      auto open = place_->gate.wait(deadline, job_.stop);
      if (!open.ok()) return std::move(open).error().with_context("gha: " + c.what);
      auto r = transport_.perform(request_of(c));
      if (r.ok() && r->status == 429) {
        place_->gate.close(distribution::retry_after(r->headers));
        continue;
      }
      bool temporary = r.ok() ? r->status >= 500 : r.error().code == errc::unavailable;
      if (temporary && c.repeatable && ++failures < configs::object_store_attempts) {
        place_->gate.close(configs::object_store_backoff * failures);
        continue;
      }
      if (!r.ok()) return std::move(r).error().with_context("gha: " + c.what);
      place_->gate.passed();
      return r;
    }
  }
  /// A 2xx answer, or what the service says against it.
  result<distribution::response> ask(const call& c) {
    KILN_TRY(auto r, send(c));
    if (r.status < 200 || r.status >= 300) return refusal(c.what, r);
    return r;
  }
  /// The same for a reservation; nothing when the key is taken.
  result<std::optional<nlohmann::json>> ask_for_key(const call& c) {
    KILN_TRY(auto r, send(c));
    if (r.status == 409 || (r.status >= 400 && said(r).taken())) return std::optional<nlohmann::json>();
    if (r.status < 200 || r.status >= 300) return refusal(c.what, r);
    return std::optional(json_or_null(r.body));
  }

  std::shared_ptr<gha_place> place_;
  distribution::transport& transport_;
  const job_context job_;

 private:
  distribution::request request_of(const call& c) const {
    distribution::request q;
    q.method = c.method;
    q.url = c.url;
    q.headers = c.headers;
    q.headers.push_back("Authorization: Bearer " + place_->token.text);
    q.body = c.body;
    q.stop = job_.stop;
    q.follow_redirects = false;  // the token is for this server
    if (c.bytes) {
      q.open_body = [&c] { return c.bytes->open(0); };
      q.body_size = c.bytes->size;
    }
    return q;
  }
};

class version_1 final : public client {
 public:
  using client::client;

  result<std::optional<reservation>> reserve(const std::string& key) override {
    auto c = to("reserving " + key, "POST", "caches",
                json_text(nlohmann::json{{"key", key}, {"version", entry_version()}}));
    c.repeatable = false;
    KILN_TRY(auto answer, ask_for_key(c));
    if (!answer) return std::optional<reservation>();
    auto id = integer_member(*answer, "cacheId");
    if (!id) id = integer_member(*answer, "cacheID");
    if (!id || *id == 0) return make_error(errc::internal, "gha: " + c.what + ": the answer has no cacheId");
    return std::optional(reservation{key, std::to_string(*id)});
  }

  status fill(const reservation& place, const object_body& body) override {
    auto chunks =
        static_cast<std::size_t>((body.size + configs::gha_chunk_size - 1) / configs::gha_chunk_size);
    return in_parallel(chunks, configs::gha_chunks_at_a_time, [&](std::size_t i) -> status {
      auto begin = static_cast<std::int64_t>(i) * configs::gha_chunk_size;
      auto size = std::min(configs::gha_chunk_size, body.size - begin);
      auto c = to("writing " + place.key, "PATCH", "caches/" + place.where, "");
      c.headers.push_back("Content-Type: application/octet-stream");
      c.headers.push_back("Content-Range: bytes " + std::to_string(begin) + "-" +
                          std::to_string(begin + size - 1) + "/*");
      c.bytes = part_of(body, begin, size);
      auto sent = ask(c);
      return sent.ok() ? status() : status(std::move(sent).error());
    });
  }

  status commit(const reservation& place, std::int64_t size) override {
    auto c = to("committing " + place.key, "POST", "caches/" + place.where,
                json_text(nlohmann::json{{"size", size}}));
    c.repeatable = false;
    auto done = ask(c);
    return done.ok() ? status() : status(std::move(done).error());
  }

 protected:
  result<std::optional<entry>> look_up(const std::string& key, bool) override {
    auto query = encoded_query({{"keys", key}, {"version", entry_version()}});
    KILN_TRY(auto r, ask(to("looking for " + key, "GET", "cache?" + query, "")));
    auto j = json_or_null(r.body);
    entry found{text_member(j, "cacheKey"), text_member(j, "archiveLocation")};
    return found.key.empty() ? std::optional<entry>() : std::optional(std::move(found));
  }

 private:
  call to(std::string what, const char* method, const std::string& path, std::string json) const {
    call c{std::move(what), method, place_->url + "/_apis/artifactcache/" + path, {}, std::move(json)};
    c.headers.push_back("Accept: application/json;api-version=6.0-preview.1");
    if (!c.body.empty()) c.headers.push_back("Content-Type: application/json");
    return c;
  }
};

class version_2 final : public client {
 public:
  using client::client;

  result<std::optional<reservation>> reserve(const std::string& key) override {
    auto c = to("reserving " + key, "CreateCacheEntry", {{"key", key}, {"version", entry_version()}});
    c.repeatable = false;
    KILN_TRY(auto answer, ask_for_key(c));
    if (!answer) return std::optional<reservation>();
    auto url = text_member(*answer, "signed_upload_url");
    if (!agrees(*answer) || url.empty())
      return make_error(errc::internal, "gha: " + c.what + ": the service gives no URL to write to");
    return std::optional(reservation{key, std::move(url)});
  }

  status fill(const reservation& place, const object_body& body) override {
    return signed_blob(place.where, place.key, transport_, job_).put("", body);
  }

  status commit(const reservation& place, std::int64_t size) override {
    auto c = to("committing " + place.key, "FinalizeCacheEntryUpload",
                {{"key", place.key}, {"version", entry_version()}, {"size_bytes", size}});
    c.repeatable = false;
    KILN_TRY(auto r, ask(c));
    if (!agrees(json_or_null(r.body)))
      return make_error(errc::internal, "gha: " + c.what + ": the service does not say that it is done");
    return {};
  }

 protected:
  result<std::optional<entry>> look_up(const std::string& key, bool as_prefix) override {
    auto prefixes = nlohmann::json::array();
    if (as_prefix) prefixes.push_back(key);
    KILN_TRY(auto r, ask(to("looking for " + key, "GetCacheEntryDownloadURL",
                            {{"key", key}, {"restore_keys", prefixes}, {"version", entry_version()}})));
    auto j = json_or_null(r.body);
    if (!agrees(j)) return std::optional<entry>();
    return std::optional(entry{text_member(j, "matched_key"), text_member(j, "signed_download_url")});
  }

 private:
  call to(std::string what, const char* method, const nlohmann::json& message) const {
    call c{std::move(what),
           "POST",
           place_->url + "/twirp/github.actions.results.api.v1.CacheService/" + method,
           {},
           json_text(message)};
    c.headers.push_back("Content-Type: application/json");
    return c;
  }
  static bool agrees(const nlohmann::json& answer) {
    const auto* ok = member_of(answer, "ok");
    return ok != nullptr && true_value(*ok);
  }
};

}  // namespace

status rate_gate::wait(clock::time_point deadline, std::stop_token stop) {
  std::condition_variable_any never;
  std::unique_lock lock(mutex_);
  while (clock::now() < opens_) {
    if (opens_ > deadline)
      return make_error(errc::resource_exhausted,
                        "too many requests: the next one may be sent in " +
                            format_duration(std::chrono::nanoseconds(opens_ - clock::now()).count()) +
                            ", which is after the timeout");
    auto until = opens_;
    never.wait_until(lock, stop, until, [] { return false; });
    if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
  }
  return {};
}

void rate_gate::close(std::optional<std::chrono::nanoseconds> pause) {
  std::lock_guard lock(mutex_);
  auto now = clock::now();
  if (!pause && now < opens_) return;  // one of those that were under way when it closed
  if (!pause) {
    pause = next_pause_;
    next_pause_ = std::min<std::chrono::nanoseconds>(2 * next_pause_, configs::gha_longest_pause);
  }
  opens_ = std::max(opens_, now + *pause);
}

void rate_gate::passed() {
  std::lock_guard lock(mutex_);
  next_pause_ = configs::gha_first_pause;
}

result<std::optional<gha_service::entry>> gha_service::find(const std::string& key) {
  KILN_TRY(auto found, look_up(key, false));
  if (found && found->key != key) found.reset();  // version 1 takes any key for the beginning of one
  return found;
}

result<std::optional<gha_service::entry>> gha_service::newest(const std::string& prefix) {
  KILN_TRY(auto found, look_up(prefix, true));
  if (found && !found->key.starts_with(prefix)) found.reset();
  return found;
}

std::unique_ptr<gha_service> open_gha_service(std::shared_ptr<gha_place> place,
                                              distribution::transport& transport, const job_context& job) {
  if (place->version == 1) return std::make_unique<version_1>(std::move(place), transport, job);
  return std::make_unique<version_2>(std::move(place), transport, job);
}

result<std::set<std::string>> list_gha_keys(const std::string& repository, const std::string& github_token,
                                            const gha_token& token, const std::string& prefix,
                                            distribution::transport& transport, const job_context& job) {
  std::set<std::string> out;
  auto api = environment("GITHUB_API_URL", configs::github_api_url);
  for (const auto& scope : token.scopes) {
    for (int page = 1; page <= configs::gha_key_pages_max; ++page) {
      distribution::request q;
      q.url = api + "/repos/" + encoded_path(repository) + "/actions/caches?" +
              encoded_query({{"key", prefix},
                             {"page", std::to_string(page)},
                             {"per_page", std::to_string(configs::gha_keys_per_page)},
                             {"ref", scope.name}});
      q.headers = {"Accept: application/vnd.github+json", "Authorization: Bearer " + github_token,
                   "X-GitHub-Api-Version: 2022-11-28"};
      q.stop = job.stop;
      q.follow_redirects = false;
      KILN_TRY(auto r, transport.perform(q));
      if (r.status != 200) return refusal("listing the caches of " + repository, r);
      KILN_TRY(auto j, parse_json(r.body));
      const auto* caches = member_of(j, "actions_caches");
      if (caches == nullptr || !caches->is_array() || caches->empty()) break;
      for (const auto& c : *caches)
        if (text_member(c, "version") == entry_version()) out.insert(text_member(c, "key"));
      if (integer_member(j, "total_count").value_or(0) <= std::int64_t{page} * configs::gha_keys_per_page)
        break;
    }
  }
  return out;
}

}  // namespace kiln::exporters
