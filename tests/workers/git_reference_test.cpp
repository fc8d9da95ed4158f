#include "workers/sources/git_reference.hpp"

#include <catch2/catch.hpp>

using namespace kiln;
using namespace kiln::workers;

namespace {

result<git_reference> parse(const std::string& identifier,
                            std::map<std::string, std::string> attributes = {}) {
  pb::SourceOp op;
  op.set_identifier(identifier);
  for (auto& [k, v] : attributes) (*op.mutable_attrs())[k] = v;
  return parse_git_source(op);
}

}  // namespace

TEST_CASE("a git identifier names remote, ref and a clean subdirectory") {
  auto r = parse("git://example.com/a/b.git#v1:../x//y/.");
  REQUIRE(r.ok());
  CHECK(r->remote == "https://example.com/a/b.git");
  CHECK(r->ref == "v1");
  CHECK(r->subdir == "x/y");
  CHECK(parse("git://git@example.com:a/b#main")->remote == "git@example.com:a/b");
  CHECK(parse("git://x#m", {{"git.fullurl", "ssh://git@h/p"}})->remote == "ssh://git@h/p");
}

TEST_CASE("refs and remotes that git could take for options are refused") {
  for (auto bad :
       {"git://h/r#--upload-pack=x", "git://h/r#b^c", "git://", "git://h/r#a..b", "git://h/r#a b"}) {
    INFO(bad);
    CHECK_FALSE(parse(bad).ok());
  }
  CHECK_FALSE(parse("git://h/r", {{"git.checksum", "xyz"}}).ok());
  CHECK_FALSE(parse("git://h/r", {{"git.fetchbycommit", "true"}}).ok());
}

TEST_CASE("git fetches from http, https, ssh and git servers, and from nothing else it would know how to") {
  for (auto bad : {"file:///srv/repo", "FILE:///srv/repo", "file://localhost/srv/repo", "ext::sh -c id",
                   "ext::sh", "fd::3", "ftp://h/r", "rsync://h/r", "foo://h/r", "https://-oProxyCommand=x/r",
                   "-u@h:r", "u@-oProxyCommand=x:r", "u@h:../r", "--upload-pack=x", "http://h/a b"}) {
    INFO(bad);
    CHECK_FALSE(parse("git://h/r", {{"git.fullurl", bad}}).ok());
    CHECK_FALSE(parse(std::string("git://") + bad).ok());
  }
  auto refused = parse("git://h/r", {{"git.fullurl", "file:///srv/repo"}});
  CHECK(refused.error().message ==
        "git.fullurl: git protocol \"file\" is not allowed: use https, http, ssh or git");
  // A path is no repository of this machine, but a host's.
  CHECK(parse("git://h/r", {{"git.fullurl", "/srv/repo"}})->remote == "https://srv/repo");
  CHECK(parse("git://h/r", {{"git.fullurl", ""}})->remote == "https://h/r");
}

TEST_CASE("the cache key says how the commit is checked out") {
  std::string sha(40, 'a');
  CHECK(parse("git://h/r")->cache_key(sha, "refs/heads/x") == sha);
  CHECK(parse("git://h/r#x:sub",
              {{"git.keepgitdir", "true"}, {"git.skipsubmodules", "true"}, {"git.mtime", "commit"}})
            ->cache_key(sha, "refs/heads/x") == sha + ".git#refs/heads/x:sub(skip-submodules)(mtime=commit)");
}

TEST_CASE("a bundle is a blob of a registry or a client, and stands for one commit") {
  std::string sha(40, 'a'), blob = "@sha256:" + std::string(64, 'b');
  auto with = [&](const std::string& place, std::map<std::string, std::string> more = {}) {
    more.insert({{"git.bundle", place}, {"git.checksum", sha}});
    return parse("git://h/r#main", more);
  };
  auto registry = with("docker-image+blob://localhost:5000/a/b" + blob);
  REQUIRE(registry.ok());
  CHECK_FALSE(registry->bundle->layout);
  auto layout = with("oci-layout+blob://not/real" + blob);
  REQUIRE(layout.ok());
  CHECK(layout->bundle->store_id == "not/real");
  layout = with("oci-layout+blob://not/real" + blob, {{"oci.store", "there"}, {"oci.session", "s"}});
  CHECK(layout->bundle->store_id == "there");
  CHECK(layout->bundle->session == "s");
  CHECK(with("https://h/x" + blob).error().message ==
        "git.bundle locator scheme \"https\" is not supported; expected \"docker-image+blob\" or "
        "\"oci-layout+blob\"");
  for (auto bad :
       {"nothing", "file:///etc/passwd", "docker-image+blob://a/b", "docker-image+blob://a/b@sha256:x"})
    CHECK_FALSE(with(bad).ok());
  CHECK(parse("git://h/r", {{"git.bundle", "docker-image+blob://a/b" + blob}}).error().message ==
        "git.bundle requires git.checksum to be set");
  CHECK_FALSE(parse("git://h/r#" + std::string(40, 'c'),
                    {{"git.bundle", "docker-image+blob://a/b" + blob}, {"git.checksum", sha}})
                  .ok());
}

TEST_CASE("a result that is a bundle is no tree, and has a key of its own") {
  std::string sha(40, 'a');
  CHECK_FALSE(parse("git://h/r", {{"git.checkoutbundle", "true"}, {"git.keepgitdir", "true"}}).ok());
  CHECK_FALSE(parse("git://h/r#:sub", {{"git.checkoutbundle", "true"}}).ok());
  auto r = parse("git://h/r", {{"git.checkoutbundle", "true"}});
  CHECK(r->cache_key(sha, sha) == sha + "(bundle)");
  CHECK(r->cache_key(sha, "refs/heads/x") == sha + "(bundle=refs/heads/x)");
}

TEST_CASE("files of builds like those of old have a key of their own, and no client asks for that") {
  std::string sha(40, 'a');
  pb::SourceOp op;
  op.set_identifier("git://h/r");
  set_compatibility(op, 10);
  REQUIRE(op.attrs_size() == 1);
  CHECK(parse_git_source(op)->cache_key(sha, sha) == sha + "(writable)");
  set_compatibility(op, 30);
  CHECK(op.attrs_size() == 0);
  op.set_identifier("https://h/r");
  set_compatibility(op, 10);
  CHECK(op.attrs_size() == 0);
}

TEST_CASE("a signature that is to be checked needs keys") {
  CHECK_FALSE(parse("git://h/r", {{"git.sig.rejectexpired", "true"}}).ok());
  auto r = parse("git://h/r", {{"git.sig.pubkey", "k"}, {"git.sig.requiresignedtag", "true"}});
  REQUIRE(r.ok());
  CHECK(r->signature->keys == "k");
  CHECK(r->signature->require_signed_tag);
  CHECK_FALSE(parse("git://h/r")->signature);
}

TEST_CASE("passwords do not get into messages") {
  CHECK(redact_credentials("https://user:secret@host/x") == "https://user:xxxxx@host/x");
  CHECK(redact_credentials("https://host/x") == "https://host/x");
}
