// Bundles of git: as results, and in place of a remote.
#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>

#include "tests/workers/git_fixture.hpp"
#include "workers/sources/git_bundle.hpp"

using namespace kiln;
using test::http_answer;
using test::http_request;
using test::http_server;
using test::shell;
namespace fs = std::filesystem;

namespace {

std::string answer_of(const std::string& command, const test::temp_dir& scratch) {
  shell(command + " > " + (scratch / "answer").string());
  auto out = test::read_file(scratch / "answer");
  while (out.ends_with('\n')) out.pop_back();
  return out;
}

/// A repository with a history, branches and tags; its server counts what it is asked.
struct bundles : test::git_setup {
  std::atomic<int> requests{0};
  http_server server{[this](const http_request& r) {
    ++requests;
    return serve(r);
  }};
  std::string url = server.url() + "/app.git";
  fs::path tree = dir / "tree-app";
  std::string first, head;

  bundles() {
    repository(
        "app",
        "echo one > one && git add -A && git commit -m first && git tag light && git tag -a -m x signed && "
        "echo two > two");
    first = answer_of("git -C " + tree.string() + " rev-parse main~1", dir);
    head = answer_of("git -C " + tree.string() + " rev-parse main", dir);
    auto bare = (served / "app.git").string();
    shell("git -C " + tree.string() + " push --tags " + bare + " && git -C " + bare + " update-server-info");
  }

  workers::op_request op_of(const std::string& ref, std::map<std::string, std::string> attributes) {
    auto r = op(url, attributes);
    r.op.mutable_source()->set_identifier("git://repository#" + ref);
    return r;
  }
  /// The bundle that a build makes of a ref.
  std::string made_of(const std::string& ref) {
    auto refs = source->run(op_of(ref, {{"git.checkoutbundle", "true"}}), {}, job);
    INFO((refs.ok() ? "" : refs.error().message));
    REQUIRE(refs.ok());
    auto m = store::mounted::make(*store, store->files().mounts(refs->at(0), job).value()).value();
    CHECK(std::distance(fs::directory_iterator(m.path()), fs::directory_iterator{}) == 1);
    return test::read_file(m.path() / "bundle");
  }
  /// Into the store, where a source finds it before it asks any registry or client.
  std::string locator_of(const std::string& bytes) {
    return "oci-layout+blob://client/store@" + store->blobs().put(bytes).value().str();
  }
  std::string listed(const std::string& bundle) {
    test::write_file(dir / "listed", bundle);
    auto out = answer_of("git ls-remote " + (dir / "listed").string(), dir);
    std::replace(out.begin(), out.end(), '\t', ' ');
    return out;
  }
};

}  // namespace

TEST_CASE("a bundle has the commit, its history and its name, and nothing else") {
  bundles b;
  auto main = b.made_of("main");
  CHECK(b.listed(main) == b.head + " refs/heads/main");
  shell("git clone -b main " + (b.dir / "listed").string() + " " + (b.dir / "clone").string());
  CHECK(answer_of("git -C " + (b.dir / "clone").string() + " rev-parse HEAD~1", b.dir) == b.first);
  CHECK(b.listed(b.made_of("light")) == b.first + " refs/tags/light");
  CHECK(b.listed(b.made_of("signed")).ends_with(" refs/tags/signed"));
  CHECK(b.listed(b.made_of(b.first)) == b.first + " refs/heads/main");
  // Again, of nothing that was kept.
  bundles other;
  if (other.head == b.head) CHECK(other.made_of("main") == main);
}

TEST_CASE("a source with a bundle asks its remote for nothing") {
  bundles b;
  auto bundle = b.locator_of(b.made_of("main"));
  auto fresh = std::make_unique<bundles>();  // whose store has nothing of it
  auto with = [&](const std::string& ref, const std::string& checksum,
                  std::map<std::string, std::string> more = {}) {
    more.insert({{"git.bundle", bundle}, {"git.checksum", checksum}});
    return fresh->checked_out(fresh->op_of(ref, more));
  };
  fresh->locator_of(b.made_of("main"));
  fresh->requests = 0;
  CHECK(with("main", b.head) == "one two");
  CHECK(with("", b.head) == "one two");
  CHECK(with("", b.first.substr(0, 12)) == "one");
  CHECK(with(b.first, b.first) == "one");
  CHECK(with("main", b.head, {{"git.keepgitdir", "true"}}) == ".git one two");
  CHECK(with("main", b.first).starts_with("expected checksum to match " + b.first));
  CHECK(with("elsewhere", b.head).starts_with("repository does not contain ref elsewhere"));
  std::string nowhere(40, 'a');
  CHECK(with("", nowhere).starts_with("commit " + nowhere + " not found in bundle "));
  CHECK(fresh->requests == 0);
}

TEST_CASE("a bundle is made of a bundle") {
  bundles b;
  auto main = b.made_of("main");
  auto op = b.op_of("main", {{"git.bundle", b.locator_of(main)}, {"git.checksum", b.head}});
  (*op.op.mutable_source()->mutable_attrs())["git.checkoutbundle"] = "true";
  auto refs = b.source->run(op, {}, b.job);
  REQUIRE(refs.ok());
}

TEST_CASE("what is no bundle leads to no repository of this machine") {
  bundles b;
  b.repository("victim", "echo secret > secret");
  auto refused = [&](const std::string& bytes) {
    return b.checked_out(b.op_of("main", {{"git.bundle", b.locator_of(bytes)}, {"git.checksum", b.head}}));
  };
  CHECK(refused("gitdir: " + (b.served / "victim.git").string() + "\n").find("git bundle expected") !=
        std::string::npos);
  CHECK(refused("").find("git bundle expected") != std::string::npos);
  CHECK(refused("# v2 git bundle\n" + b.head + " refs/heads/main\n\nPACK")
            .find("failed to import git bundle") != std::string::npos);
  auto thin = (b.dir / "thin").string();
  shell("git -C " + b.tree.string() + " bundle create " + thin + " main~1..main");
  CHECK(refused(test::read_file(thin)).find("needs commits that it does not have") != std::string::npos);
}

TEST_CASE("the header of a bundle tells what can be made of it") {
  using workers::parse_bundle_header;
  CHECK_FALSE(parse_bundle_header("# v2 git bundle\nabc refs/heads/x\n\nPACK")->sha256);
  CHECK(parse_bundle_header("# v3 git bundle\n@object-format=sha256\nabc refs/heads/x\n\n")->sha256);
  for (auto bad : {"", "# v4 git bundle\nabc refs/heads/x\n\n", "# v2 git bundle", "# v2 git bundle\n",
                   "# v2 git bundle\n\nPACK", "# v2 git bundle\n-abc\nabc refs/heads/x\n\n",
                   "# v3 git bundle\n@filter=blob:none\nabc refs/heads/x\n\n", "PACK"}) {
    INFO(bad);
    CHECK_FALSE(parse_bundle_header(bad).ok());
  }
}

TEST_CASE("a .git that is kept has what was asked for as a branch and as a tag, as elsewhere") {
  using names = std::vector<std::string>;
  CHECK(workers::kept_refs("refs/heads/a/b", false) == names{"refs/heads/a/b", "refs/tags/a/b"});
  CHECK(workers::kept_refs("refs/tags/v1", false) == names{"refs/tags/v1", "refs/heads/v1"});
  CHECK(workers::kept_refs("refs/tags/v1", true) == names{"refs/tags/v1"});
  CHECK(workers::kept_refs("refs/pull/1/head", false) ==
        names{"refs/pull/1/head", "refs/tags/refs/pull/1/head"});
  bundles b;
  auto refs = b.source->run(b.op_of("main", {{"git.keepgitdir", "true"}}), {}, b.job).value();
  auto m = store::mounted::make(*b.store, b.store->files().mounts(refs.at(0), b.job).value()).value();
  CHECK(answer_of("git --git-dir=" + (m.path() / ".git").string() + " for-each-ref --format='%(refname)'",
                  b.dir) == "refs/heads/main\nrefs/tags/main");
}
