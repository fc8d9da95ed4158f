#include "exporters/cache/gha_store.hpp"

#include <ctime>

#include <spdlog/spdlog.h>

#include "base/pause.hpp"
#include "base/duration.hpp"
#include "base/numbers.hpp"
#include "base/url.hpp"
#include "distribution/hosts.hpp"
#include "exporters/cache/azure_blob_store.hpp"
#include "exporters/cache/cache_attributes.hpp"
#include "exporters/cache/gha_signing.hpp"
#include "exporters/cache/http_object_store.hpp"
#include "exporters/image_writer.hpp"

namespace kiln::exporters {
namespace {

constexpr const char* blob_prefix = "buildkit-blob-1-";

std::string signature_key(const digest& index) { return gha_blob_key(index) + "-sig"; }

error bad(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

class gha_store final : public object_store {
 public:
  gha_store(std::shared_ptr<gha_cache> cache, distribution::transport& transport, const job_context& job)
      : cache_(std::move(cache)),
        transport_(transport),
        job_(job),
        service_(open_gha_service(cache_->place, transport, job)) {}

  result<std::optional<object_info>> find(const std::string& key) override {
    if (const auto& listed = list())
      return listed->contains(key) ? std::optional<object_info>(object_info{}) : std::nullopt;
    KILN_TRY(auto entry, service_->find(key));
    return entry ? std::optional<object_info>(object_info{}) : std::nullopt;
  }

  status get(const std::string& key, std::int64_t offset,
             const std::function<status(std::string_view)>& use) override {
    return download(key, offset, use, [&] { return service_->find(key); });
  }

  /// Who has reserved the key has the same bytes.
  status put(const std::string& key, const object_body& body) override {
    KILN_TRY(auto mine, service_->reserve(key));
    return mine ? write(*mine, body) : status();
  }

  /// Under the number after that of the newest one. Where somebody else has that number and its bytes do not
  /// come, he died, or the service does not show them yet: then the next.
  status put_manifest(const std::string& key, const std::string& text) override {
    // First: who finds the index finds its signature.
    if (!cache_->signing.sign_command.empty()) {
      auto index = sha256(text);
      step signing(job_, "signing cache index " + index.str());
      KILN_TRY(auto bundle, sign_cache(cache_->signing, text, job_));
      KILN_CHECK(put(signature_key(index), text_body(bundle)));
    }
    auto body = text_body(text);
    const auto patient_until = std::chrono::steady_clock::now() + cache_->index_patience;
    for (std::int64_t least = 1;; ++least) {
      KILN_TRY(auto newest, service_->newest(key + "#"));
      if (newest) {
        auto number = parse_int(newest->key.substr(key.size() + 1));
        if (!number)
          return make_error(errc::internal, "gha: \"" + newest->key + "\" does not end in a number");
        least = std::max(least, *number + 1);
      }
      KILN_TRY(auto mine, service_->reserve(key + "#" + std::to_string(least)));
      if (mine) return write(*mine, body);
      if (std::chrono::steady_clock::now() >= patient_until) continue;
      --least;
      pause_for(cache_->index_pause, job_.stop);
      KILN_CHECK(job_.check());
    }
  }

  status get_manifest(const std::string& key, const std::function<status(std::string_view)>& use) override {
    auto look = [&] { return service_->newest(key + "#"); };
    if (!cache_->signing.verify) return download(key, 0, use, look);
    std::string text;
    auto keep = [&](std::string& into, std::int64_t limit) {
      return [&into, limit](std::string_view bytes) -> status {
        if (static_cast<std::int64_t>(into.size() + bytes.size()) > limit)
          return make_error(errc::resource_exhausted, "gha: an index or its signature is too large");
        into += bytes;
        return {};
      };
    };
    KILN_CHECK(download(key, 0, keep(text, configs::max_cache_object_size), look));
    auto index = sha256(text);
    step verifying(job_, "verifying signature of cache index " + index.str());
    std::string bundle;
    auto got = get(signature_key(index), 0, keep(bundle, configs::cache_signature_size));
    if (!got.ok() && got.error().code == errc::not_found)
      return make_error(errc::permission_denied, "missing signature for github actions cache");
    if (!got.ok()) return got;
    KILN_CHECK(check_cache_signature(cache_->signing, text, bundle));
    return use(text);
  }

 private:
  using entry = result<std::optional<gha_service::entry>>;

  /// A URL is good for some time only, and a long download may outlive it: then the next one goes on.
  status download(const std::string& key, std::int64_t offset,
                  const std::function<status(std::string_view)>& use, const std::function<entry()>& look) {
    for (std::int64_t at = offset, begin = -1;;) {
      KILN_TRY(auto found, look());
      if (!found) return make_error(errc::not_found, key + ": not found");
      signed_blob blob(found->url, found->key, transport_, job_);
      auto got = blob.get("", at, [&](std::string_view bytes) {
        at += static_cast<std::int64_t>(bytes.size());
        return use(bytes);
      });
      bool refused = !got.ok() && (got.error().code == errc::permission_denied ||
                                   got.error().code == errc::unauthenticated);
      if (!refused || std::exchange(begin, at) == at) return got;
    }
  }

  status write(const gha_service::reservation& mine, const object_body& body) {
    KILN_CHECK(service_->fill(mine, body));
    return service_->commit(mine, body.size);
  }

  const std::optional<std::set<std::string>>& list() {
    std::call_once(cache_->listing, [&] {
      if (cache_->repository.empty() || cache_->github_token.empty()) return;
      auto keys = list_gha_keys(cache_->repository, cache_->github_token, cache_->place->token, blob_prefix,
                                transport_, job_);
      if (keys.ok()) cache_->listed = *std::move(keys);
      else spdlog::warn("{}; the cache is asked for each blob instead", keys.error().message);
    });
    return cache_->listed;
  }

  std::shared_ptr<gha_cache> cache_;
  distribution::transport& transport_;
  const job_context job_;
  std::unique_ptr<gha_service> service_;
};

/// Version 2 where the client has its URL, unless it wants version 1; old clients call both `url`.
/// Source: gha.go, getConfig.
status read_place(const attributes& attrs, gha_place& out) {
  if (!attrs.contains("token")) return bad("token not set for github actions cache");
  std::int64_t version = 0;
  if (attrs.contains("version")) {
    auto text = cache_text(attrs, "version");
    auto number = parse_int(text);
    if (!number || *number < 0 || *number > 2)
      return bad("failed to parse api version \"" + text + "\": expected 1 or 2");
    version = *number;
  }
  if (version != 1 && attrs.contains("url_v2")) {
    out.url = cache_text(attrs, "url_v2");
    version = 2;
  }
  if (out.url.empty()) out.url = cache_text(attrs, "url");
  if (out.url.empty()) return bad("url not set for github actions cache");
  auto url = parse_url(out.url);
  if (!url.ok() || (url->scheme != "http" && url->scheme != "https"))
    return bad("url \"" + out.url + "\" of github actions cache is no http URL");
  while (out.url.ends_with('/')) out.url.pop_back();
  bool results = url->host.find(configs::gha_version_2_host) != std::string::npos;
  out.version = version != 0 ? static_cast<int>(version) : results ? 2 : 1;
  if (attrs.contains("timeout")) {
    auto timeout = parse_duration(cache_text(attrs, "timeout"));
    if (!timeout.ok())
      return std::move(timeout).error().with_context("failed to parse timeout for github actions cache");
    out.patience = std::chrono::nanoseconds(std::max<std::int64_t>(0, *timeout));
  }
  KILN_TRY(out.token, read_gha_token(cache_text(attrs, "token"), std::time(nullptr)));
  return {};
}

}  // namespace

std::string gha_blob_key(const digest& blob) { return blob_prefix + blob.str(); }

std::string gha_index_key(const std::string& name, const std::string& scope, bool with_signature) {
  return "index-" + name + "-1-" + std::string(sha256(scope).hex().substr(0, 8)) +
         (with_signature ? "-sig" : "");
}

std::unique_ptr<object_store> open_gha_store(std::shared_ptr<gha_cache> cache,
                                             distribution::transport& transport, const job_context& job) {
  return std::make_unique<gha_store>(std::move(cache), transport, job);
}

result<object_cache_settings> gha_settings(const attributes& attrs, exporter_resources resources) {
  auto cache = std::make_shared<gha_cache>();
  KILN_CHECK(read_place(attrs, *cache->place));
  cache->repository = cache_text(attrs, "repository");
  cache->github_token = cache_text(attrs, "ghtoken");
  object_cache_settings out;
  out.vertex_name = "exporting to GitHub Actions Cache";
  // Every scope has an index of its own.
  const auto& token = cache->place->token;
  out.export_names = {token.write_scope()};
  for (const auto& scope : token.scopes) out.import_names.push_back(scope.name);
  auto name = attrs.contains("scope") ? attrs.at("scope") : "buildkit";
  if (resources.gha_cache != nullptr) cache->signing = *resources.gha_cache;
  out.manifest_key = [name, sig = cache->signing.signed_caches()](const std::string& scope) {
    return gha_index_key(name, scope, sig);
  };
  out.blob_key = gha_blob_key;
  out.open = [cache,
              hosts = resources.hosts](const job_context& job) -> result<std::unique_ptr<object_store>> {
    return open_gha_store(cache, hosts->transport(), job);
  };
  return out;
}

}  // namespace kiln::exporters
