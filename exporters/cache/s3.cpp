// Caches in Amazon S3 and what speaks its protocol. Source: cache/remotecache/s3/s3.go.
#include <ctime>
#include <fstream>

#include "base/duration.hpp"
#include "base/text.hpp"
#include "base/url.hpp"
#include "configs/remote_cache.hpp"
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
  aws_credentials who;
  int attempts = configs::object_store_attempts;
};

error bad(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

/// [profile] of an INI file as the AWS tools write it.
std::optional<aws_credentials> credentials_of_file(const std::string& path, const std::string& profile) {
  std::ifstream in(path);
  aws_credentials out;
  bool here = false;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('[')) {
      here = line == "[" + profile + "]";
      continue;
    }
    auto equals = line.find('=');
    if (!here || equals == line.npos) continue;
    auto name = trim(std::string_view(line).substr(0, equals)),
         value = trim(std::string_view(line).substr(equals + 1));
    if (name == "aws_access_key_id") out.key_id = value;
    if (name == "aws_secret_access_key") out.secret = value;
    if (name == "aws_session_token") out.session_token = value;
  }
  if (out.key_id.empty() || out.secret.empty()) return {};
  return out;
}

/// Attributes, then the environment, then the shared credentials file.
result<aws_credentials> credentials(const attributes& attrs) {
  aws_credentials out{cache_text(attrs, "access_key_id"), cache_text(attrs, "secret_access_key"),
                      cache_text(attrs, "session_token")};
  if (!out.key_id.empty() && !out.secret.empty()) return out;
  out = {environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"),
         environment("AWS_SESSION_TOKEN")};
  if (!out.key_id.empty() && !out.secret.empty()) return out;
  auto file = environment("AWS_SHARED_CREDENTIALS_FILE", environment("HOME", "/root") + "/.aws/credentials");
  if (auto found = credentials_of_file(file, environment("AWS_PROFILE", "default"))) return *found;
  return make_error(
      errc::unauthenticated,
      "no credentials for s3 cache: set access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and "
      "AWS_SECRET_ACCESS_KEY, or " +
          file);
}

class s3_store final : public http_object_store {
 public:
  s3_store(s3_place place, distribution::transport& transport, const job_context& job)
      : http_object_store(transport, job, place.attempts), place_(std::move(place)) {}

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
      std::string list = "<CompleteMultipartUpload>";
      std::int64_t at = 0;
      for (int n = 1; at < body.size; ++n) {
        auto size = std::min(configs::s3_part_size, body.size - at);
        KILN_TRY(auto sent, ask({"PUT",
                                 key,
                                 {{"partNumber", std::to_string(n)}, {"uploadId", upload}},
                                 {},
                                 part_of(body, at, size)}));
        list += "<Part><PartNumber>" + std::to_string(n) + "</PartNumber><ETag>" +
                distribution::header_of(sent.headers, "etag") + "</ETag></Part>";
        at += size;
      }
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
    for (const auto& [name, value] :
         aws_signed_headers(a, place_.who, place_.region, "s3", std::time(nullptr)))
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

}  // namespace

result<object_cache_settings> s3_settings(const attributes& attrs, exporter_resources resources) {
  s3_place place;
  auto bucket = cache_setting(attrs, "bucket", "AWS_BUCKET");
  if (!bucket) return bad("bucket ($AWS_BUCKET) not set for s3 cache");
  auto region = cache_setting(attrs, "region", "AWS_REGION");
  if (!region) return bad("region ($AWS_REGION) not set for s3 cache");
  place.bucket = *bucket;
  place.region = *region;
  object_cache_settings out;
  out.vertex_name = "exporting cache to Amazon S3";
  out.export_names = object_cache_names(attrs);
  out.import_names = {out.export_names.front()};
  KILN_TRY(int parallelism, cache_positive(attrs, "upload_parallelism", configs::cache_upload_parallelism));
  out.parallelism = static_cast<unsigned>(parallelism);
  KILN_TRY(place.attempts, cache_positive(attrs, "retry_max_attempts", configs::object_store_attempts));
  if (auto mode = cache_text(attrs, "retry_mode");
      attrs.contains("retry_mode") && mode != "standard" && mode != "adaptive")
    return bad("retry_mode must be \"standard\" or \"adaptive\"");
  out.touch_after = configs::s3_touch_after;
  if (auto text = cache_text(attrs, "touch_refresh"); !text.empty())
    if (auto parsed = parse_duration(text); parsed.ok()) out.touch_after = std::chrono::nanoseconds(*parsed);
  KILN_TRY(place.who, credentials(attrs));

  auto endpoint = cache_text(attrs, "endpoint_url");
  auto path_style = cache_bool(attrs, "use_path_style", false);
  if (endpoint.empty()) {
    place.base = "https://" + place.bucket + ".s3." + place.region + ".amazonaws.com/";
  } else {
    if (endpoint.find("://") == endpoint.npos) return bad("endpoint_url \"" + endpoint + "\" is no URL");
    while (endpoint.ends_with('/')) endpoint.pop_back();
    if (path_style.ok() && *path_style) {
      place.base = endpoint + "/" + place.bucket + "/";
    } else {
      place.base = endpoint.insert(endpoint.find("://") + 3, place.bucket + ".") + "/";
    }
  }
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
