// One request to the outside by libcurl, both bodies streamed: nothing is kept of them, nothing is unpacked.
// The calling thread does it all, and its network namespace is where the request leaves from. Connections to
// servers are kept for the next request of the same fetcher.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "workers/proxy/http_head.hpp"

namespace kiln::workers::proxy {

struct fetch_request {
  std::string method;
  std::string url;      // as judged
  header_list headers;  // end to end
  bool has_body = false;
  std::optional<std::int64_t> length;  // of the body; none: chunks
};

struct answer_head {
  int status = 0;
  std::string reason;
  header_list headers;                 // end to end
  std::optional<std::int64_t> length;  // as the server says
};

/// Where the answer goes and the body comes from. What these return as an error ends the transfer with it.
struct fetch_ends {
  /// Once, before any body.
  std::function<status(const answer_head&)> on_head;
  std::function<status(std::string_view)> on_body;
  /// Part of the request's body: 0 at its end, nothing when it is to be asked again once `body_fd` can be
  /// read.
  std::function<result<std::optional<std::size_t>>(std::span<char>)> read_body;
  int body_fd = -1;
};

class fetcher {
 public:
  /// `stop_fd` becomes readable when everything is to end.
  explicit fetcher(int stop_fd);
  ~fetcher();
  fetcher(const fetcher&) = delete;
  fetcher& operator=(const fetcher&) = delete;

  /// Any status is an answer. unavailable tells what failed on the way to the server or with it (data_loss: a
  /// body broke off); cancelled; or what an end returned, and then `ends_failed` is set.
  status fetch(const fetch_request& request, const fetch_ends& ends, bool& ends_failed);

 private:
  struct handles;
  std::unique_ptr<handles> handles_;
  int stop_fd_;
};

}  // namespace kiln::workers::proxy
