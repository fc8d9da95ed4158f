// A client session answered by functions of the test, and the directory that finds it.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "messages/job.hpp"
#include "messages/session.hpp"

namespace kiln::test {

class fake_session : public session_caller {
 public:
  using unary = std::function<result<std::string>(std::string_view request, const call_metadata&)>;
  using streaming = std::function<result<std::unique_ptr<message_stream>>(const call_metadata&)>;

  explicit fake_session(std::string id) : id_(std::move(id)) {}
  void on_call(const std::string& method, unary f) { calls_[method] = std::move(f); }
  void on_open(const std::string& method, streaming f) { streams_[method] = std::move(f); }

  const std::string& id() const override { return id_; }
  const std::string& shared_key() const override { return shared_key_; }
  bool supports(std::string_view method) const override {
    return calls_.contains(std::string(method)) || streams_.contains(std::string(method));
  }
  result<std::string> call(std::string_view method, std::string_view request, const call_metadata& metadata,
                           std::chrono::milliseconds, std::stop_token) override {
    auto it = calls_.find(std::string(method));
    if (it == calls_.end()) return make_error(errc::unimplemented, "unknown method " + std::string(method));
    return it->second(request, metadata);
  }
  result<std::unique_ptr<message_stream>> open(std::string_view method, const call_metadata& metadata,
                                               std::stop_token) override {
    auto it = streams_.find(std::string(method));
    if (it == streams_.end()) return make_error(errc::unimplemented, "unknown method " + std::string(method));
    return it->second(metadata);
  }

 private:
  std::string id_, shared_key_;
  std::map<std::string, unary> calls_;
  std::map<std::string, streaming> streams_;
};

class fake_directory : public session_directory {
 public:
  void add(std::shared_ptr<fake_session> s) { sessions_[s->id()] = std::move(s); }
  result<std::shared_ptr<session_caller>> find(std::string_view id, std::chrono::milliseconds,
                                               std::stop_token) override {
    auto it = sessions_.find(std::string(id));
    if (it == sessions_.end()) return make_error(errc::not_found, "no active session for " + std::string(id));
    return std::shared_ptr<session_caller>(it->second);
  }
  job_context job(std::stop_token stop = {}) {
    job_context j;
    j.stop = stop;
    j.directory = this;
    for (const auto& [id, s] : sessions_) j.sessions.ids.push_back(id);
    return j;
  }

 private:
  std::map<std::string, std::shared_ptr<fake_session>> sessions_;
};

/// Keeps what a job told.
class recording_progress : public progress_sink {
 public:
  void log(int, std::string_view bytes) override {
    std::lock_guard lock(mutex_);
    logs += bytes;
  }
  void progress(std::string_view id, std::int64_t, std::int64_t, bool done) override {
    std::lock_guard lock(mutex_);
    (done ? ended : begun).push_back(std::string(id));
  }
  void warn(std::string_view text) override {
    std::lock_guard lock(mutex_);
    warnings.push_back(std::string(text));
  }
  std::string logs;
  std::vector<std::string> begun, ended, warnings;

 private:
  std::mutex mutex_;
};

}  // namespace kiln::test
