// What all who ask for the daemon's identity send and read alike: services far away and of the machine
// itself, and files with a token. Blocking.
#pragma once

#include <string>

#include "base/files.hpp"
#include "base/text.hpp"
#include "configs/remote_cache.hpp"
#include "distribution/transport.hpp"
#include "messages/job.hpp"

namespace kiln::exporters {

inline distribution::request identity_request(const job_context& job, std::string method, std::string url) {
  distribution::request q;
  q.method = std::move(method);
  q.url = std::move(url);
  q.stop = job.stop;
  q.follow_redirects = false;
  return q;
}

/// To a service of the machine itself: near, or not there at all.
inline distribution::request machine_request(const job_context& job, std::string method, std::string url) {
  auto q = identity_request(job, std::move(method), std::move(url));
  q.by_proxy = false;
  q.connect_timeout = configs::machine_service_connect_timeout;
  q.stall_timeout = configs::machine_service_stall_timeout;
  return q;
}

/// The file's text, read anew each time: its writer rotates it. Empty when it cannot be read.
inline std::string read_token(const std::string& file) {
  auto text = read_file(file, configs::token_file_size);
  return text.ok() ? std::string(trim(*text)) : std::string();
}

}  // namespace kiln::exporters
