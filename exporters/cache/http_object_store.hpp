// What object stores behind HTTP have in common: requests repeated while a failure is temporary, downloads
// that go on where they broke off, bodies in parts. How requests are signed and refusals read is each
// service's own.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "exporters/cache/object_store.hpp"
#include "exporters/cache/request_pace.hpp"
#include "distribution/transport.hpp"

namespace kiln::exporters {

/// One request, before it is signed.
struct object_call {
  std::string method, key;
  std::map<std::string, std::string> query = {};    // decoded
  std::map<std::string, std::string> headers = {};  // names in lower case
  std::optional<object_body> body = {};
  std::function<status(const distribution::response&, std::string_view)> on_body = {};  // of a 2xx answer
};

class http_object_store : public object_store {
 public:
  /// `pace`: shared by all jobs of an import or export, or none.
  http_object_store(distribution::transport& transport, job_context job, int attempts,
                    std::shared_ptr<request_pace> pace = nullptr)
      : transport_(transport), job_(std::move(job)), attempts_(attempts), pace_(std::move(pace)) {}

  result<std::optional<object_info>> find(const std::string& key) override;
  status get(const std::string& key, std::int64_t offset,
             const std::function<status(std::string_view)>& use) override;

 protected:
  /// Method, address and headers; the rest of the request is filled in by send().
  virtual result<distribution::request> signed_request(const object_call& c) = 0;
  /// The error an answer other than 2xx stands for.
  virtual error refusal(const object_call& c, const distribution::response& r) const = 0;
  /// Whether an answer says that there is no such object, rather than that something is wrong.
  virtual bool absent(const distribution::response& r) const { return r.status == 404; }

  /// The answer, whatever its status.
  result<distribution::response> send(const object_call& c);
  /// A 2xx answer, or the refusal.
  result<distribution::response> ask(const object_call& c);
  status tell(const object_call& c);

  distribution::transport& transport_;
  const job_context job_;

 private:
  const int attempts_;
  const std::shared_ptr<request_pace> pace_;
};

/// A body in parts of at least `least` bytes, and at most `most` of them: `send` puts the part `n` (from 0)
/// of `body`; several are under way at a time. How many there are.
result<std::size_t> put_in_parts(const object_body& body, std::int64_t least, std::int64_t most,
                                 const std::function<status(std::size_t n, object_body part)>& send);

object_body text_body(std::string text);
/// Bytes [begin, begin + size) of a body. `whole` must outlive it.
object_body part_of(const object_body& whole, std::int64_t begin, std::int64_t size);

}  // namespace kiln::exporters
