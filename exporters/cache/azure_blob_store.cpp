#include "exporters/cache/azure_blob_store.hpp"

#include <algorithm>

#include <spdlog/fmt/fmt.h>

#include "base/base64.hpp"
#include "base/text.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/request_text.hpp"
#include "distribution/client.hpp"

namespace kiln::exporters {

std::string azure_error_code(const distribution::response& r) {
  auto code = distribution::header_of(r.headers, "x-ms-error-code");
  return code.empty() ? xml_text(r.body, "Code") : code;
}

status azure_blob_store::put(const std::string& key, const object_body& body) {
  if (body.size > configs::azblob_block_size) return put_blocks(key, body);
  return tell({"PUT", key, {}, {{"x-ms-blob-type", "BlockBlob"}}, body});
}

status azure_blob_store::put_blocks(const std::string& key, const object_body& body) {
  // All ids of a blob's blocks have one length.
  auto id = [](std::size_t n) { return base64_encode(fmt::format("{:06}", n)); };
  KILN_TRY(auto count,
           put_in_parts(body, configs::azblob_block_size, configs::azblob_blocks_max,
                        [&](std::size_t n, object_body part) {
                          return tell({"PUT", key, {{"blockid", id(n)}, {"comp", "block"}}, {}, part});
                        }));
  std::string list = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>";
  for (std::size_t n = 0; n < count; ++n) list += "<Latest>" + id(n) + "</Latest>";
  auto done = tell({"PUT", key, {{"comp", "blocklist"}}, {}, text_body(list + "</BlockList>")});
  if (done.ok()) return {};
  // Whoever commits first takes the blocks of others with him; the blob is there all the same.
  auto there = find(key);
  return there.ok() && *there && (*there)->size == body.size ? status() : done;
}

error azure_blob_store::refusal(const object_call& c, const distribution::response& r) const {
  auto failure = distribution::status_error(c.method, r.url, r);
  // Absent blobs do not come here: something that must be there is not.
  if (failure.code == errc::not_found) failure.code = errc::failed_precondition;
  auto code = azure_error_code(r), message = xml_text(r.body, "Message");
  message = message.substr(0, message.find('\n'));  // the rest is ids of the request
  failure.message =
      place_of(c) + ": " + (code.empty() ? failure.message : code) + (message.empty() ? "" : ": " + message);
  return failure;
}

signed_blob::signed_blob(std::string url, std::string name, distribution::transport& transport,
                         const job_context& job)
    : azure_blob_store(transport, job, configs::signed_blob_attempts),
      url_(std::move(url)),
      name_(std::move(name)) {}

status signed_blob::get(const std::string& key, std::int64_t offset,
                        const std::function<status(std::string_view)>& use) {
  return without_secret(azure_blob_store::get(key, offset, use));
}

status signed_blob::put(const std::string& key, const object_body& body) {
  return without_secret(azure_blob_store::put(key, body));
}

result<distribution::request> signed_blob::signed_request(const object_call& c) {
  distribution::request q;
  q.method = c.method;
  q.url = url_;
  if (!c.query.empty()) q.url += (url_.find('?') == url_.npos ? "?" : "&") + encoded_query(c.query);
  q.headers.push_back(std::string("x-ms-version: ") + configs::azure_storage_version);
  for (const auto& [name, value] : c.headers) q.headers.push_back(name + ": " + value);
  return q;
}

std::string signed_blob::place_of(const object_call& c) const {
  return c.method + " of the blob of " + name_;
}

status signed_blob::without_secret(status s) const {
  auto secret = url_.substr(std::min(url_.find('?'), url_.size()));
  if (s.ok() || secret.empty()) return s;
  auto failure = std::move(s).error();
  for (std::size_t at; (at = failure.message.find(secret)) != std::string::npos;)
    failure.message.erase(at, secret.size());
  return failure;
}

}  // namespace kiln::exporters
