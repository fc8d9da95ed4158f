// The git source with repositories that servers on loopback give out as files: git's "dumb" protocol.
#pragma once

#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>

#include "distribution/hosts.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/secrets.hpp"
#include "tests/support/temp_dir.hpp"
#include "workers/sources/git.hpp"
#include "workers/sources/resolutions.hpp"

namespace kiln::test {

inline void shell(const std::string& script) {
  INFO(script);
  REQUIRE(
      std::system(
          ("set -e; export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b "
           "GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; { " +
           script + "; } >/dev/null 2>&1")
              .c_str()) == 0);
}

struct git_setup {
  temp_dir dir;
  std::filesystem::path served = dir / "served";
  std::unique_ptr<store::ref_store> store = store::ref_store::open({dir / "state"}).value();
  distribution::hosts hosts;
  std::shared_ptr<workers::source_handler> source = workers::make_git_source(*store, hosts);
  recording_progress progress;
  fake_directory clients;
  std::map<std::string, std::string> secrets;
  job_context job;

  git_setup() {
    std::filesystem::create_directories(served);
    auto session = std::make_shared<fake_session>("client");
    serve_secrets(*session, [this](const std::string& id) {
      auto found = secrets.find(id);
      return found == secrets.end() ? std::nullopt : std::optional(found->second);
    });
    clients.add(session);
    job = clients.job();
    job.progress = &progress;
  }

  /// A repository NAME.git, whose branch main is made by a script in its work tree.
  void repository(const std::string& name, const std::string& script) {
    auto tree = (dir / ("tree-" + name)).string(), bare = (served / (name + ".git")).string();
    shell("git -c init.defaultBranch=main init " + tree + " && cd " + tree + " && " + script +
          " && git add -A && git commit -m m && git clone --bare " + tree + " " + bare + " && git -C " +
          bare + " update-server-info");
  }
  http_answer serve(const http_request& r) const {
    auto file = served / r.path.substr(1);
    if (!std::filesystem::is_regular_file(file)) return {404, {}, ""};
    return {200, {}, read_file(file)};
  }

  static workers::op_request op(const std::string& url,
                                const std::map<std::string, std::string>& attrs = {}) {
    workers::op_request r;
    r.vertex = sha256(url).str();
    r.platform = host_platform();
    r.op.mutable_source()->set_identifier("git://repository#main");
    auto& all = *r.op.mutable_source()->mutable_attrs();
    all["git.fullurl"] = url;
    all["git.authtokensecret"] = "GIT_AUTH_TOKEN";
    for (const auto& [k, v] : attrs) all[k] = v;
    return r;
  }
  std::shared_ptr<workers::resolutions> build;  // none: every question resolves anew

  /// The names in what is checked out, or the error's text.
  std::string checked_out(workers::op_request r) {
    r.build = build;
    auto refs = source->run(r, {}, job);
    if (!refs.ok()) return refs.error().message;
    auto m = store::mounted::make(*store, store->files().mounts(refs->at(0), job).value()).value();
    std::string out;
    std::set<std::string> names;
    for (const auto& e : std::filesystem::directory_iterator(m.path())) names.insert(e.path().filename());
    for (const auto& n : names) out += (out.empty() ? "" : " ") + n;
    return out;
  }
};

}  // namespace kiln::test
