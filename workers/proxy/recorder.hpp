// What went through the proxy of one step: for its log and for provenance. Thread-safe.
// Source: BuildKit util/network/proxy.go.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "messages/proxy_capture.hpp"

namespace kiln::workers::proxy {

class recorder {
 public:
  // URLs as shown_url() makes them.

  /// A request and what became of it: a status, and in words why, where it is the proxy's own.
  void request(const std::string& method, const std::string& url, int status, const std::string& why = {});
  /// The answer to `url` says that it is at `target`: what is found there is what `url` led to.
  void redirect(const std::string& url, const std::string& target);
  void material(const std::string& url, const std::string& digest);
  void gap(const std::string& method, const std::string& url, const std::string& reason);

  proxy_capture captured() const;
  /// For the step's log: a line for each request; empty without any.
  std::string summary() const;

 private:
  struct line {
    std::string method, url, why;
    int status;
  };
  bool has_room(std::size_t count, std::size_t bytes);

  mutable std::mutex mutex_;
  std::vector<line> lines_;
  std::map<std::string, std::string> redirects_;
  proxy_capture captured_;
  std::size_t bytes_ = 0;  // of all texts
  bool is_full_ = false;
};

}  // namespace kiln::workers::proxy
