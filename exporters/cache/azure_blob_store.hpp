// Blobs as Azure keeps them, whoever allows the requests: large ones go up in blocks, refusals have codes.
// Source: learn.microsoft.com, Blob service REST API.
#pragma once

#include "exporters/cache/http_object_store.hpp"

namespace kiln::exporters {

class azure_blob_store : public http_object_store {
 public:
  using http_object_store::http_object_store;
  status put(const std::string& key, const object_body& body) override;

 protected:
  /// Where such a request went, for errors: "blob x in container y".
  virtual std::string place_of(const object_call& c) const = 0;
  error refusal(const object_call& c, const distribution::response& r) const override;

 private:
  status put_blocks(const std::string& key, const object_body& body);
};

/// What the service calls its refusal: answers to HEAD have no body.
std::string azure_error_code(const distribution::response& r);

/// One blob at a URL that allows itself what it is for; keys mean nothing. Errors do not tell the URL's
/// query, which is as good as a password.
class signed_blob final : public azure_blob_store {
 public:
  signed_blob(std::string url, std::string name, distribution::transport& transport, const job_context& job);
  status get(const std::string& key, std::int64_t offset,
             const std::function<status(std::string_view)>& use) override;
  status put(const std::string& key, const object_body& body) override;

 private:
  result<distribution::request> signed_request(const object_call& c) override;
  std::string place_of(const object_call& c) const override;
  status without_secret(status s) const;

  std::string url_, name_;
};

}  // namespace kiln::exporters
