// What is said on one connection to the proxy: requests one after the other, also inside a tunnel of TLS,
// each judged, fetched and recorded. Runs on one thread from the first byte to the last.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "workers/proxy/certificates.hpp"
#include "workers/proxy/chunked_body.hpp"
#include "workers/proxy/client_stream.hpp"
#include "workers/proxy/fetcher.hpp"
#include "workers/proxy/judge.hpp"
#include "workers/proxy/recorder.hpp"

namespace kiln::workers::proxy {

/// What all connections of one step share; outlives them.
struct services {
  std::shared_ptr<certificates> authority;
  judge may;  // null: everything
  recorder* record = nullptr;
  std::stop_token stop;
  int stop_fd = -1;
};

class dialogue {
 public:
  /// `idle` hears when nothing is asked and nothing under way, and when that is over.
  dialogue(client_stream& client, const services& shared, std::function<void(bool)> idle)
      : client_(client), s_(shared), idle_(std::move(idle)), fetcher_(shared.stop_fd) {}

  /// Until either side ends it, or the proxy does.
  void run();

 private:
  enum class next { another, no_more };

  /// The next head; an error ends the dialogue, after an answer where the client gave reason for it.
  result<request_head> read_head();
  next open_tunnel(const request_head& head);
  next serve(const request_head& head);
  next pass_on(const request_head& head, const std::string& url);
  result<std::optional<std::size_t>> read_body(const request_head& head, std::span<char> room);
  /// An answer of the proxy's own, in words. `open`: more may follow.
  next answer(int status, const std::string& why, bool open = false);
  next refuse(const error& why);
  /// Lets the client read what it was told before the connection goes.
  void linger();

  client_stream& client_;
  const services& s_;
  std::function<void(bool)> idle_;
  fetcher fetcher_;
  std::string tunnel_;  // its origin; empty: none
  std::string buffer_;  // read and not yet used
  int minor_ = 1;       // of the request that is answered
  bool is_head_ = false;
  // Of the body of the request at hand.
  chunked_body chunks_;
  std::int64_t body_left_ = 0;
  bool body_done_ = true;
  bool invited_ = true;  // the client was told to send it
};

}  // namespace kiln::workers::proxy
