// tests/support/github_cache.py as a process of its own: GitHub's Actions cache, with the rules of the real
// one.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "base/json_text.hpp"
#include "base/url.hpp"
#include "distribution/transport.hpp"

namespace kiln::test {

class github_cache {
 public:
  /// Empty, and without faults.
  github_cache() { ask("POST", "reset"); }
  github_cache(const github_cache&) = delete;
  github_cache& operator=(const github_cache&) = delete;

  const std::string& url() const { return running().url; }
  /// For "scope=refs/heads/main:3&scope=…&life=…": 1 may be read, 2 written.
  std::string token(const std::string& query) { return ask("GET", "token?" + query); }
  void set(const nlohmann::json& values) { ask("POST", "set", json_text(values)); }
  /// An entry of somebody else; without "data" he has not committed it.
  void reserve(const std::string& scope, const std::string& key, const nlohmann::json& more = {}) {
    nlohmann::json j{{"scope", scope}, {"key", key}, {"version", version}};
    if (more.is_object()) j.update(more);
    ask("POST", "reserve", json_text(j));
  }
  void evict(const std::string& key) { ask("POST", "evict", json_text(nlohmann::json{{"key", key}})); }
  nlohmann::json state() { return json_or_null(ask("GET", "state")); }
  /// "SCOPE KEY" of every committed entry, sorted.
  std::vector<std::string> keys() {
    std::vector<std::string> out;
    auto all = state();
    for (const auto& e : all["entries"])
      if (true_value(e["committed"])) out.push_back(text_member(e, "scope") + " " + text_member(e, "key"));
    std::sort(out.begin(), out.end());
    return out;
  }
  /// Requests of a method whose path ends so.
  int count(const std::string& method, const std::string& end) {
    auto all = state();
    return static_cast<int>(std::count_if(all["log"].begin(), all["log"].end(), [&](const auto& r) {
      return text_member(r, "method") == method && text_member(r, "path").ends_with(end);
    }));
  }

  static constexpr const char* version = "693bb7016429d80366022f036f84856888c9f13e00145f5f6f4dce303a38d6f2";

 private:
  struct process {
    process() {
      int out[2];
      if (::pipe2(out, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
      const char* argv[] = {"python3", KILN_SOURCE_DIR "/tests/support/github_cache.py", nullptr};
      posix_spawn_file_actions_t actions;
      posix_spawn_file_actions_init(&actions);
      posix_spawn_file_actions_adddup2(&actions, out[1], 1);
      if (posix_spawnp(&pid, argv[0], &actions, nullptr, const_cast<char**>(argv), environ) != 0) pid = -1;
      posix_spawn_file_actions_destroy(&actions);
      ::close(out[1]);
      FILE* in = ::fdopen(out[0], "r");
      char line[256] = "";
      bool up = std::fgets(line, sizeof line, in) != nullptr;
      std::fclose(in);
      if (!up) throw std::runtime_error("github_cache.py does not start");
      url = line;
      url.pop_back();
    }
    ~process() {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
    pid_t pid = -1;
    std::string url;
  };
  static const process& running() {
    static const process one;
    return one;
  }

  std::string ask(const std::string& method, const std::string& what, const std::string& body = "{}") {
    distribution::request q;
    q.method = method;
    q.url = url() + "/control/" + what;
    if (method == "POST") q.body = body;
    auto r = transport_.perform(q);
    if (!r.ok() || r->status != 200) throw std::runtime_error("github_cache.py: " + what + " failed");
    return r->body;
  }

  distribution::transport transport_{2};
};

}  // namespace kiln::test
