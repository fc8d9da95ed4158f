// Caches in Azure Blob Storage. Source: cache/remotecache/azblob.
#include <algorithm>
#include <atomic>
#include <ctime>
#include <vector>

#include "base/base64.hpp"
#include "base/slash_path.hpp"
#include "base/time_text.hpp"
#include "base/url.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/azure_blob_store.hpp"
#include "exporters/cache/azure_identity.hpp"
#include "exporters/cache/azure_signature.hpp"
#include "exporters/cache/cache_attributes.hpp"
#include "exporters/cache/request_text.hpp"
#include "distribution/client.hpp"
#include "distribution/hosts.hpp"

namespace kiln::exporters {
namespace {

/// A container and how to get at it; shared by all jobs of one import or export.
struct azure_container {
  std::string base;  // "https://account.blob.core.windows.net" or "http://host/account"
  std::string account, name;
  std::string key;                           // decoded
  std::shared_ptr<azure_identity> identity;  // when there is no key
  std::atomic<bool> known_to_exist = false;
};

error bad(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

class azblob_store final : public azure_blob_store {
 public:
  azblob_store(std::shared_ptr<azure_container> place, distribution::transport& transport,
               const job_context& job)
      : azure_blob_store(transport, job, configs::object_store_attempts), place_(std::move(place)) {}

  /// Makes the container unless it is there.
  status prepare() {
    if (place_->known_to_exist) return {};
    object_call look{"HEAD", "", {{"restype", "container"}}};
    KILN_TRY(auto r, send(look));
    if (r.status == 404) {
      object_call make{"PUT", "", {{"restype", "container"}}};
      KILN_TRY(auto made, send(make));
      if (made.status != 201 && azure_error_code(made) != "ContainerAlreadyExists")
        return refusal(make, made);
    } else if (r.status != 200) {
      return refusal(look, r);
    }
    place_->known_to_exist = true;
    return {};
  }

 private:
  result<distribution::request> signed_request(const object_call& c) override {
    distribution::request q;
    q.method = c.method;
    q.url = place_->base + "/" + encoded_path(place_->name);
    if (!c.key.empty()) q.url += "/" + encoded_path(c.key);
    azure_request a{c.method, path_of_url(q.url), c.query, c.headers};
    if (!c.query.empty()) q.url += "?" + encoded_query(c.query);
    a.headers["x-ms-date"] = format_http_date(std::time(nullptr));
    a.headers["x-ms-version"] = configs::azure_storage_version;
    for (const auto& [name, value] : a.headers) q.headers.push_back(name + ": " + value);
    if (!place_->key.empty()) {
      if (c.body) a.headers["content-length"] = std::to_string(c.body->size);
      q.headers.push_back("authorization: " + azure_authorization(a, place_->account, place_->key));
    } else {
      KILN_TRY(auto token, place_->identity->token(transport_, job_));
      q.headers.push_back("authorization: Bearer " + token);
    }
    return q;
  }

  std::string place_of(const object_call& c) const override {
    return "azblob: " + c.method + (c.key.empty() ? "" : " " + c.key) + " in container " + place_->name +
           " of account " + place_->account;
  }

  /// A container that is gone is no absent blob.
  bool absent(const distribution::response& r) const override {
    return r.status == 404 && azure_error_code(r) != "ContainerNotFound";
  }

  std::shared_ptr<azure_container> place_;
};

/// Where blobs of one kind are, without empty and superfluous parts.
std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const auto& part : parts) out = path_join(out, part);
  return out;
}

/// Whether the daemon's own token may go there: a client names the URL, and a token is good for whoever gets
/// it.
bool is_azure(const std::string& account_url) {
  auto own = environment("BUILDKIT_AZURE_STORAGE_ACCOUNT_URL");
  if (!own.empty() && same_origin(account_url, own)) return true;
  auto u = parse_url(account_url);
  return u.ok() && u->scheme == "https" && u->port.empty() &&
         std::any_of(std::begin(configs::azure_storage_hosts), std::end(configs::azure_storage_hosts),
                     [&](const char* end) { return u->host.ends_with(end); });
}

}  // namespace

result<object_cache_settings> azblob_settings(const attributes& attrs, exporter_resources resources) {
  auto place = std::make_shared<azure_container>();
  auto url = cache_setting(attrs, "account_url", "BUILDKIT_AZURE_STORAGE_ACCOUNT_URL");
  if (!url) return bad("account_url ($BUILDKIT_AZURE_STORAGE_ACCOUNT_URL) not set for azblob cache");
  auto host = host_of_url(*url);
  if (host.empty() || url->find_first_of("?#") != url->npos)
    return bad("account_url \"" + *url + "\" is no URL of a storage account");
  place->base = *url;
  while (place->base.ends_with('/')) place->base.pop_back();
  place->account = cache_setting(attrs, "account_name", "BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME")
                       .value_or(host.substr(0, host.find_first_of(".:")));
  if (place->account.empty())
    return bad(
        "account_name ($BUILDKIT_AZURE_STORAGE_ACCOUNT_NAME) not set for azblob cache, and account_url \"" +
        *url + "\" begins with none");
  place->name =
      cache_setting(attrs, "container", "BUILDKIT_AZURE_STORAGE_CONTAINER").value_or("buildkit-cache");
  if (auto text = cache_text(attrs, "secret_access_key"); !text.empty()) {
    auto key = base64_decode(text);
    if (!key || key->empty()) return bad("secret_access_key for azblob cache is no base64");
    place->key = *std::move(key);
  } else if (place->identity = std::make_shared<azure_identity>(); !is_azure(*url)) {
    return make_error(
        errc::permission_denied,
        "account_url \"" + *url +
            "\" is not Azure's: the daemon's credentials go there only if its environment says so "
            "($BUILDKIT_AZURE_STORAGE_ACCOUNT_URL); or set secret_access_key");
  }

  object_cache_settings out;
  out.vertex_name = "exporting cache to Azure Blob Storage";
  out.export_names = out.import_names = object_cache_names(attrs);
  KILN_TRY(int parallelism, cache_positive(attrs, "upload_parallelism", configs::cache_upload_parallelism));
  out.parallelism = static_cast<unsigned>(parallelism);
  auto folder = [&, prefix = cache_setting(attrs, "prefix", "BUILDKIT_AZURE_STORAGE_PREFIX").value_or("")](
                    const char* name, const char* otherwise) {
    return joined({prefix, attrs.contains(name) ? attrs.at(name) : otherwise});
  };
  out.manifest_key = [in = folder("manifests_prefix", "manifests")](const std::string& name) {
    return joined({in, name});
  };
  out.blob_key = [in = folder("blobs_prefix", "blobs")](const digest& d) { return joined({in, d.str()}); };
  out.open = [place,
              hosts = resources.hosts](const job_context& job) -> result<std::unique_ptr<object_store>> {
    auto opened = std::make_unique<azblob_store>(place, hosts->transport(), job);
    KILN_CHECK(opened->prepare());
    return std::unique_ptr<object_store>(std::move(opened));
  };
  return out;
}

}  // namespace kiln::exporters
