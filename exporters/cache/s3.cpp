// Caches in Amazon S3 and what speaks its protocol. Source: cache/remotecache/s3/s3.go.
#include <ctime>
#include <mutex>

#include "base/duration.hpp"
#include "base/url.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/aws_identity.hpp"
#include "exporters/cache/aws_signature.hpp"
#include "exporters/cache/cache_attributes.hpp"
#include "exporters/cache/http_object_store.hpp"
#include "exporters/cache/request_text.hpp"
#include "distribution/client.hpp"
#include "distribution/hosts.hpp"

namespace kiln::exporters {
namespace {

struct s3_place {
  std::string base;  // "https://bucket.s3.region.amazonaws.com/" or "http://host/bucket/"
  std::string bucket, region;
  std::optional<aws_credentials> keys;     // of the attributes
  std::shared_ptr<aws_identity> identity;  // when these have none
  int attempts = configs::object_store_attempts;
  std::shared_ptr<request_pace> pace;
};

constexpr const char* bucket_characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

error bad(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

class s3_store final : public http_object_store {
 public:
  s3_store(s3_place place, distribution::transport& transport, const job_context& job)
      : http_object_store(transport, job, place.attempts, place.pace), place_(std::move(place)) {}

  status put(const std::string& key, const object_body& body) override {
    if (body.size > configs::s3_part_size) return put_parts(key, body);
    return tell({"PUT", key, {}, {}, body});
  }

  status touch(const std::string& key, const object_info& info) override {
    // Larger objects cannot be copied in one piece, and what is used is read often enough.
    if (info.size >= configs::s3_copy_size_max) return {};
    object_call c{"PUT", key};
    c.headers["x-amz-copy-source"] = encoded_path(place_.bucket + "/" + key);
    c.headers["x-amz-metadata-directive"] = "REPLACE";
    c.headers["x-amz-meta-updated-at"] = std::to_string(std::time(nullptr));
    return tell(c);
  }

 private:
  status put_parts(const std::string& key, const object_body& body) {
    KILN_TRY(auto begun, ask({"POST", key, {{"uploads", ""}}}));
    auto upload = xml_text(begun.body, "UploadId");
    auto outcome = [&]() -> status {
      std::mutex mutex;
      std::map<std::size_t, std::string> tags;
      KILN_CHECK(put_in_parts(
          body, configs::s3_part_size, configs::s3_parts_max, [&](std::size_t n, object_body part) -> status {
            KILN_TRY(auto sent, ask({"PUT",
                                     key,
                                     {{"partNumber", std::to_string(n + 1)}, {"uploadId", upload}},
                                     {},
                                     std::move(part)}));
            std::lock_guard lock(mutex);
            tags[n] = distribution::header_of(sent.headers, "etag");
            return {};
          }));
      std::string list = "<CompleteMultipartUpload>";
      for (const auto& [n, tag] : tags)
        list += "<Part><PartNumber>" + std::to_string(n + 1) + "</PartNumber><ETag>" + tag + "</ETag></Part>";
      list += "</CompleteMultipartUpload>";
      KILN_TRY(auto done, ask({"POST", key, {{"uploadId", upload}}, {}, text_body(list)}));
      if (done.body.find("<Error>") != std::string::npos)
        return make_error(errc::unavailable,
                          "s3: completing the upload of " + key + ": " + xml_text(done.body, "Message"));
      return {};
    }();
    if (!outcome.ok()) (void)send({"DELETE", key, {{"uploadId", upload}}});
    return outcome;
  }

  result<distribution::request> signed_request(const object_call& c) override {
    distribution::request q;
    q.method = c.method;
    q.url = place_.base + encoded_path(c.key) + (c.query.empty() ? "" : "?" + encoded_query(c.query));
    aws_request a;
    a.method = c.method;
    a.host = host_of_url(q.url);
    a.path = path_of_url(q.url);
    a.query = c.query;
    a.headers = c.headers;
    a.payload_sha256 = std::string(sha256("").hex());
    if (c.body)
      a.payload_sha256 = c.body->sha256.empty() ? "UNSIGNED-PAYLOAD" : std::string(c.body->sha256.hex());
    auto keys = place_.keys;
    if (!keys) {
      KILN_TRY(keys, place_.identity->credentials(transport_, job_));
    }
    for (const auto& [name, value] : aws_signed_headers(a, *keys, place_.region, "s3", std::time(nullptr)))
      q.headers.push_back(name + ": " + value);
    return q;
  }

  error refusal(const object_call& c, const distribution::response& r) const override {
    auto code = xml_text(r.body, "Code");
    auto failure = distribution::status_error(c.method, r.url.empty() ? place_.base + c.key : r.url, r);
    if (!code.empty())
      failure.message = "s3: " + c.method + " " + c.key + ": " + code + ": " + xml_text(r.body, "Message");
    return failure;
  }

  s3_place place_;
};

/// Attribute, environment, or as many as the other object stores get.
result<int> retry_attempts(const attributes& attrs) {
  int otherwise = configs::object_store_attempts;
  if (auto text = environment("AWS_MAX_ATTEMPTS"); !text.empty() && !attrs.contains("retry_max_attempts")) {
    KILN_TRY(otherwise, cache_positive({{"AWS_MAX_ATTEMPTS", text}}, "AWS_MAX_ATTEMPTS", otherwise));
  }
  return cache_positive(attrs, "retry_max_attempts", otherwise);
}

result<bool> retries_adaptively(const attributes& attrs) {
  bool given = attrs.contains("retry_mode");
  auto mode = given ? cache_text(attrs, "retry_mode") : environment("AWS_RETRY_MODE", "standard");
  if (mode == "standard" || mode == "adaptive" || (!given && mode == "legacy")) return mode == "adaptive";
  return bad(std::string(given ? "retry_mode" : "AWS_RETRY_MODE") + " must be \"standard\" or \"adaptive\"");
}

}  // namespace

result<object_cache_settings> s3_settings(const attributes& attrs, exporter_resources resources) {
  s3_place place;
  auto bucket = cache_setting(attrs, "bucket", "AWS_BUCKET");
  if (!bucket) return bad("bucket ($AWS_BUCKET) not set for s3 cache");
  auto region = cache_setting(attrs, "region", "AWS_REGION");
  if (!region) return bad("region ($AWS_REGION) not set for s3 cache");
  // Both become parts of host names to which credentials go.
  if (bucket->empty() || bucket->find_first_not_of(bucket_characters) != bucket->npos)
    return bad("bucket \"" + *bucket + "\" for s3 cache is no name of a bucket");
  if (!is_aws_region(*region)) return bad("region \"" + *region + "\" for s3 cache is no name of a region");
  place.bucket = *bucket;
  place.region = *region;
  object_cache_settings out;
  out.vertex_name = "exporting cache to Amazon S3";
  out.export_names = object_cache_names(attrs);
  out.import_names = {out.export_names.front()};
  KILN_TRY(int parallelism, cache_positive(attrs, "upload_parallelism", configs::cache_upload_parallelism));
  out.parallelism = static_cast<unsigned>(parallelism);
  KILN_TRY(place.attempts, retry_attempts(attrs));
  KILN_TRY(bool adaptive, retries_adaptively(attrs));
  if (adaptive) place.pace = std::make_shared<request_pace>();
  out.touch_after = configs::s3_touch_after;
  if (auto text = cache_text(attrs, "touch_refresh"); !text.empty())
    if (auto parsed = parse_duration(text); parsed.ok()) out.touch_after = std::chrono::nanoseconds(*parsed);
  aws_credentials keys{cache_text(attrs, "access_key_id"), cache_text(attrs, "secret_access_key"),
                       cache_text(attrs, "session_token")};
  if (!keys.key_id.empty() && !keys.secret.empty()) {
    place.keys = keys;
  } else if (!keys.key_id.empty() || !keys.secret.empty()) {
    return bad("access_key_id and secret_access_key for s3 cache go together");
  } else {
    place.identity = std::make_shared<aws_identity>(place.region);
  }

  auto endpoint = cache_text(attrs, "endpoint_url");
  if (endpoint.empty()) endpoint = environment("AWS_ENDPOINT_URL_S3", environment("AWS_ENDPOINT_URL"));
  bool named = !endpoint.empty();
  if (!named) endpoint = "https://s3." + place.region + "." + aws_domain(place.region);
  if (!parse_url(endpoint).ok()) return bad("endpoint_url \"" + endpoint + "\" is no URL");
  while (endpoint.ends_with('/')) endpoint.pop_back();
  auto path_style = cache_bool(attrs, "use_path_style", false);
  // No certificate is for a host of more than one part before the service's.
  bool in_path = path_style.ok() && *path_style;
  if (!named && place.bucket.find('.') != place.bucket.npos) in_path = true;
  place.base = in_path ? endpoint + "/" + place.bucket + "/"
                       : std::string(endpoint).insert(endpoint.find("://") + 3, place.bucket + ".") + "/";
  auto prefix_or = [&](const char* name, const char* otherwise) {
    return cache_text(attrs, "prefix") + (attrs.contains(name) ? attrs.at(name) : std::string(otherwise));
  };
  out.manifest_key = [p = prefix_or("manifests_prefix", "manifests/")](const std::string& name) {
    return p + name;
  };
  out.blob_key = [p = prefix_or("blobs_prefix", "blobs/")](const digest& d) { return p + d.str(); };
  out.open = [place,
              hosts = resources.hosts](const job_context& job) -> result<std::unique_ptr<object_store>> {
    return std::unique_ptr<object_store>(new s3_store(place, hosts->transport(), job));
  };
  return out;
}

}  // namespace kiln::exporters
