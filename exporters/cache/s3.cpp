// Caches in Amazon S3 and what speaks its protocol. Source: cache/remotecache/s3/s3.go.
#include <charconv>
#include <condition_variable>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <mutex>

#include "configs/remote_cache.hpp"
#include "configs/units.hpp"
#include "exporters/cache/aws_signature.hpp"
#include "exporters/cache/cache_attributes.hpp"
#include "exporters/cache/object_store.hpp"
#include "registry/client.hpp"
#include "registry/hosts.hpp"
#include "registry/transport.hpp"

namespace kiln::exporters {
namespace {

struct s3_place {
  std::string base;  // "https://bucket.s3.region.amazonaws.com/" or "http://host/bucket/"
  std::string bucket, region;
  aws_credentials who;
  int attempts = configs::s3_attempts;
};

error bad(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

std::optional<std::string> attribute_or_environment(const attributes& attrs, const char* name,
                                                    const char* variable) {
  if (auto it = attrs.find(name); it != attrs.end()) return it->second;
  if (const char* value = std::getenv(variable)) return value;
  return {};
}

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
    auto clean = [](std::string s) {
      s.erase(0, s.find_first_not_of(" \t"));
      s.erase(s.find_last_not_of(" \t\r") + 1);
      return s;
    };
    auto name = clean(line.substr(0, equals)), value = clean(line.substr(equals + 1));
    if (name == "aws_access_key_id") out.key_id = value;
    if (name == "aws_secret_access_key") out.secret = value;
    if (name == "aws_session_token") out.session_token = value;
  }
  if (out.key_id.empty() || out.secret.empty()) return {};
  return out;
}

std::string environment(const char* name, const std::string& otherwise = "") {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
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

/// The text between <name> and </name>; enough for the two answers we read.
std::string xml_text(const std::string& xml, const std::string& name) {
  auto begin = xml.find("<" + name + ">");
  if (begin == xml.npos) return {};
  begin += name.size() + 2;
  auto end = xml.find("</" + name + ">", begin);
  return end == xml.npos ? std::string() : xml.substr(begin, end - begin);
}

/// Bytes [begin, begin + size) of a source that can be opened again.
class part_source final : public store::byte_source {
 public:
  part_source(std::unique_ptr<store::byte_source> in, std::int64_t begin, std::int64_t size)
      : in_(std::move(in)), skip_(begin), left_(size) {}
  result<std::size_t> read(std::span<char> buffer) override {
    while (skip_ > 0) {
      auto n = std::min<std::int64_t>(skip_, static_cast<std::int64_t>(buffer.size()));
      KILN_TRY(std::size_t got, in_->read(buffer.first(static_cast<std::size_t>(n))));
      if (got == 0) return make_error(errc::data_loss, "blob is shorter than its descriptor says");
      skip_ -= static_cast<std::int64_t>(got);
    }
    auto n = std::min<std::int64_t>(left_, static_cast<std::int64_t>(buffer.size()));
    KILN_TRY(std::size_t got, in_->read(buffer.first(static_cast<std::size_t>(n))));
    left_ -= static_cast<std::int64_t>(got);
    return got;
  }

 private:
  std::unique_ptr<store::byte_source> in_;
  std::int64_t skip_, left_;
};

class s3_store final : public object_store {
 public:
  s3_store(s3_place place, registry::transport& transport, const job_context& job)
      : place_(std::move(place)), transport_(transport), job_(job) {}

  result<std::optional<object_info>> find(const std::string& key) override {
    KILN_TRY(auto r, send({"HEAD", key, {}, {}, {}, {}}));
    if (r.status == 404) return std::optional<object_info>();
    KILN_CHECK(expect(r, "HEAD", key));
    object_info out;
    auto length = registry::header_of(r.headers, "content-length");
    std::from_chars(length.data(), length.data() + length.size(), out.size);
    std::tm t{};
    if (::strptime(registry::header_of(r.headers, "last-modified").c_str(), "%a, %d %b %Y %H:%M:%S", &t) !=
        nullptr)
      out.modified_s = ::timegm(&t);
    return std::optional(out);
  }

  status get(const std::string& key, std::int64_t offset,
             const std::function<status(std::string_view)>& use) override {
    std::int64_t at = offset;
    for (int n = 1;; ++n) {
      call c{"GET", key, {}, {}, {}, {}};
      if (at > 0) c.headers["range"] = "bytes=" + std::to_string(at) + "-";
      std::int64_t skip = 0;
      bool begun = false;
      c.on_body = [&](const registry::response& r, std::string_view bytes) -> status {
        if (!std::exchange(begun, true) && r.status == 200) skip = at;  // the range was not obeyed
        auto drop = std::min<std::int64_t>(skip, static_cast<std::int64_t>(bytes.size()));
        skip -= drop;
        bytes.remove_prefix(static_cast<std::size_t>(drop));
        at += static_cast<std::int64_t>(bytes.size());
        return bytes.empty() ? status() : use(bytes);
      };
      auto r = send(c);
      if (r.ok()) {
        if (r->status == 404) return make_error(errc::not_found, key + ": not found");
        if (r->status == 416 && at > 0) return {};  // nothing is left to read
        return expect(*r, "GET", key);
      }
      // What was given to `use` stays given: go on behind it.
      bool broken = r.error().code == errc::unavailable || r.error().code == errc::data_loss;
      if (!begun || !broken || n >= place_.attempts) return std::move(r).error();
    }
  }

  status put(const std::string& key, const object_body& body) override {
    if (body.size > configs::s3_part_size) return put_parts(key, body);
    KILN_TRY(auto r, send({"PUT", key, {}, {}, body, {}}));
    return expect(r, "PUT", key);
  }

  status touch(const std::string& key, const object_info& info) override {
    // Larger objects cannot be copied in one piece, and what is used is read often enough.
    if (info.size >= configs::s3_copy_size_max) return {};
    call c{"PUT", key, {}, {}, {}, {}};
    c.headers["x-amz-copy-source"] = aws_path(place_.bucket + "/" + key);
    c.headers["x-amz-metadata-directive"] = "REPLACE";
    c.headers["x-amz-meta-updated-at"] = std::to_string(std::time(nullptr));
    KILN_TRY(auto r, send(c));
    return expect(r, "COPY", key);
  }

 private:
  struct call {
    std::string method, key;
    std::map<std::string, std::string> query;
    std::map<std::string, std::string> headers = {};  // lower case
    std::optional<object_body> body = {};
    std::function<status(const registry::response&, std::string_view)> on_body = {};
  };

  status put_parts(const std::string& key, const object_body& body) {
    KILN_TRY(auto begun, send({"POST", key, {{"uploads", ""}}, {}, {}, {}}));
    KILN_CHECK(expect(begun, "POST", key));
    auto upload = xml_text(begun.body, "UploadId");
    auto outcome = [&]() -> status {
      std::string list = "<CompleteMultipartUpload>";
      std::int64_t at = 0;
      for (int n = 1; at < body.size; ++n) {
        auto size = std::min(configs::s3_part_size, body.size - at);
        object_body part{
            size, {}, [&body, at, size]() -> result<std::unique_ptr<store::byte_source>> {
              KILN_TRY(auto whole, body.open());
              return std::unique_ptr<store::byte_source>(new part_source(std::move(whole), at, size));
            }};
        KILN_TRY(auto sent,
                 send({"PUT", key, {{"partNumber", std::to_string(n)}, {"uploadId", upload}}, {}, part, {}}));
        KILN_CHECK(expect(sent, "PUT", key));
        list += "<Part><PartNumber>" + std::to_string(n) + "</PartNumber><ETag>" +
                registry::header_of(sent.headers, "etag") + "</ETag></Part>";
        at += size;
      }
      list += "</CompleteMultipartUpload>";
      KILN_TRY(auto done, send({"POST", key, {{"uploadId", upload}}, {}, text_body(list), {}}));
      KILN_CHECK(expect(done, "POST", key));
      if (done.body.find("<Error>") != std::string::npos)
        return make_error(errc::unavailable,
                          "s3: completing the upload of " + key + ": " + xml_text(done.body, "Message"));
      return {};
    }();
    if (!outcome.ok()) (void)send({"DELETE", key, {{"uploadId", upload}}, {}, {}, {}});
    return outcome;
  }

  class text_source final : public store::byte_source {
   public:
    explicit text_source(std::string text) : text_(std::move(text)) {}
    result<std::size_t> read(std::span<char> buffer) override {
      auto n = text_.copy(buffer.data(), buffer.size(), at_);
      at_ += n;
      return n;
    }

   private:
    std::string text_;
    std::size_t at_ = 0;
  };

  static object_body text_body(const std::string& text) {
    return {static_cast<std::int64_t>(text.size()), sha256(text),
            [text]() -> result<std::unique_ptr<store::byte_source>> {
              return std::unique_ptr<store::byte_source>(new text_source(text));
            }};
  }

  /// One request, repeated while the failure is temporary and nothing of the answer was used.
  result<registry::response> send(const call& c) {
    auto pause = configs::s3_backoff;
    for (int n = 1;; ++n, pause *= 2) {
      bool used = false;
      auto r = send_once(c, used);
      bool temporary = r.ok() ? r->status == 429 || r->status >= 500 : r.error().code == errc::unavailable;
      if (!temporary || used || n >= place_.attempts) return r;
      std::mutex mutex;
      std::condition_variable_any waiting;
      std::unique_lock lock(mutex);
      waiting.wait_for(lock, job_.stop, pause, [] { return false; });
      KILN_CHECK(job_.check());
    }
  }

  result<registry::response> send_once(const call& c, bool& used) {
    registry::request q;
    q.method = c.method;
    q.url = place_.base + aws_path(c.key) + (c.query.empty() ? "" : "?" + aws_query(c.query));
    q.stop = job_.stop;
    q.follow_redirects = false;
    aws_request a;
    a.method = c.method;
    a.host = registry::host_of_url(q.url);
    auto path = q.url.find('/', q.url.find("://") + 3);
    a.path = q.url.substr(path, q.url.find('?') == q.url.npos ? q.url.npos : q.url.find('?') - path);
    a.query = c.query;
    a.headers = c.headers;
    a.payload_sha256 = std::string(sha256("").hex());
    if (c.body) {
      a.payload_sha256 = c.body->sha256.empty() ? "UNSIGNED-PAYLOAD" : std::string(c.body->sha256.hex());
      q.open_body = c.body->open;
      q.body_size = c.body->size;
    }
    for (const auto& [name, value] :
         aws_signed_headers(a, place_.who, place_.region, "s3", std::time(nullptr)))
      q.headers.push_back(name + ": " + value);
    if (c.on_body)
      q.on_body = [&](const registry::response& r, std::string_view bytes) {
        used = true;
        return c.on_body(r, bytes);
      };
    return transport_.perform(q);
  }

  status expect(const registry::response& r, const std::string& method, const std::string& key) const {
    if (r.status >= 200 && r.status < 300) return {};
    auto code = xml_text(r.body, "Code"), message = xml_text(r.body, "Message");
    auto failure = registry::status_error(method, r.url.empty() ? place_.base + key : r.url, r);
    if (!code.empty()) failure.message = "s3: " + method + " " + key + ": " + code + ": " + message;
    return failure;
  }

  s3_place place_;
  registry::transport& transport_;
  const job_context job_;
};

result<int> positive(const attributes& attrs, const char* name, int otherwise) {
  auto it = attrs.find(name);
  if (it == attrs.end()) return otherwise;
  int value = 0;
  const auto& v = it->second;
  auto [end, failure] = std::from_chars(v.data(), v.data() + v.size(), value);
  if (failure != std::errc() || end != v.data() + v.size() || value <= 0)
    return bad(std::string(name) + " must be a positive integer");
  return value;
}

}  // namespace

result<object_cache_settings> s3_settings(const attributes& attrs, exporter_resources resources) {
  s3_place place;
  auto bucket = attribute_or_environment(attrs, "bucket", "AWS_BUCKET");
  if (!bucket) return bad("bucket ($AWS_BUCKET) not set for s3 cache");
  auto region = attribute_or_environment(attrs, "region", "AWS_REGION");
  if (!region) return bad("region ($AWS_REGION) not set for s3 cache");
  place.bucket = *bucket;
  place.region = *region;
  object_cache_settings out;
  out.vertex_name = "exporting cache to Amazon S3";
  out.names = object_cache_names(attrs);
  KILN_TRY(int parallelism, positive(attrs, "upload_parallelism", configs::cache_upload_parallelism));
  out.parallelism = static_cast<unsigned>(parallelism);
  KILN_TRY(place.attempts, positive(attrs, "retry_max_attempts", configs::s3_attempts));
  if (auto mode = cache_text(attrs, "retry_mode");
      attrs.contains("retry_mode") && mode != "standard" && mode != "adaptive")
    return bad("retry_mode must be \"standard\" or \"adaptive\"");
  out.touch_after = configs::s3_touch_after;
  if (auto text = cache_text(attrs, "touch_refresh"); !text.empty())
    if (auto parsed = configs::parse_duration_ns(text); parsed.ok())
      out.touch_after = std::chrono::nanoseconds(*parsed);
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
