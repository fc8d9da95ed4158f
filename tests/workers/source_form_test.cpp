// Source policies, and the one way to write a source that they see.
#include <catch2/catch.hpp>

#include <map>

#include "workers/sources/git_reference.hpp"
#include "workers/sources/source_form.hpp"

using namespace kiln;
using namespace kiln::workers;
namespace sp = moby::buildkit::v1::sourcepolicy;

namespace {

using attributes = std::map<std::string, std::string>;

pb::SourceOp source(const std::string& identifier, const attributes& attrs = {}) {
  pb::SourceOp op;
  op.set_identifier(identifier);
  for (const auto& [k, v] : attrs) (*op.mutable_attrs())[k] = v;
  return op;
}

pb::SourceOp seen(pb::SourceOp op) {
  source_form form;
  auto s = form.rewrite(op, nullptr);
  INFO((s.ok() ? "" : s.error().message));
  REQUIRE(s.ok());
  return op;
}

std::string id_of(const std::string& identifier, const attributes& attrs = {}) {
  return seen(source(identifier, attrs)).identifier();
}

struct policies {
  std::vector<solver::source_policy> all = std::vector<solver::source_policy>(1);

  sp::Rule& rule(sp::PolicyAction action, const std::string& identifier, sp::MatchType how = sp::WILDCARD) {
    auto& r = *all[0].add_rules();
    r.set_action(action);
    r.mutable_selector()->set_identifier(identifier);
    r.mutable_selector()->set_match_type(how);
    return r;
  }
  /// What is fetched in the end, or the error's text.
  std::string outcome(pb::SourceOp op, pb::SourceOp* out = nullptr) const {
    source_form form;
    auto s = solver::apply(all, op, form);
    if (!s.ok()) return s.error().message;
    form.restore(op);
    if (out != nullptr) *out = op;
    return op.identifier();
  }
  bool denies(const pb::SourceOp& op) const {
    return outcome(op).find("source denied by policy") != std::string::npos;
  }
};

}  // namespace

TEST_CASE("a denied image is denied however it is written") {
  policies p;
  p.rule(sp::DENY, "docker-image://docker.io/library/busybox:latest", sp::EXACT);
  for (auto spelling :
       {"docker.io/library/busybox:latest", "busybox:latest", "library/busybox:latest",
        "docker.io/busybox:latest", "index.docker.io/library/busybox:latest",
        "index.docker.io/busybox:latest", "Docker.IO/library/busybox:latest",
        "docker.io:443/library/busybox:latest", "registry-1.docker.io/library/busybox:latest",
        "REGISTRY-1.docker.io:443/busybox:latest", "INDEX.docker.io/library/busybox:latest"}) {
    INFO(spelling);
    CHECK(p.denies(source(std::string("docker-image://") + spelling)));
  }
  CHECK_FALSE(p.denies(source("docker-image://busybox:1.36")));
}

TEST_CASE("hosts of images are written in lower case and without the port that is used anyway") {
  CHECK(id_of("docker-image://Reg.Example:443/a:1") == "docker-image://reg.example/a:1");
  CHECK(id_of("docker-image://reg.example:80/a:1") == "docker-image://reg.example:80/a:1");
  CHECK(id_of("docker-image://localhost:80/a:1") == "docker-image://localhost/a:1");
  CHECK(id_of("docker-image://localhost:443/a:1") == "docker-image://localhost:443/a:1");
  // A host of one part is known by its port: without one it would be a path on Docker Hub.
  for (auto spelling : {"Host/a:1", "host:443/a:1", "HOST:443/a:1"})
    CHECK(id_of(std::string("docker-image://") + spelling) == "docker-image://host:443/a:1");
  CHECK(id_of("docker-image://2130706433:5000/a:1") == "docker-image://127.0.0.1:5000/a:1");
  auto d = "@sha256:" + std::string(64, 'a');
  CHECK(id_of("docker-image://a:1" + d) == "docker-image://docker.io/library/a:1" + d);
  CHECK(id_of("docker-image+blob://A.example/b" + d) == "docker-image+blob://a.example/b" + d);
  for (std::string scheme : {"oci-layout://", "oci-layout+blob://"}) {
    // Of a client's store: the reference is a name and leads nowhere.
    for (auto name : {"not/real", "docker.io/library/b", "a/b/c:t", "Up.case:443/x"})
      CHECK(id_of(scheme + name + d) == scheme + name + d);
    CHECK(id_of(scheme + "b" + d) == scheme + "docker.io/library/b" + d);
  }
}

TEST_CASE("a denied download is denied however its URL is written") {
  policies p;
  p.rule(sp::DENY, "https://example.com/private/*");
  for (auto url :
       {"https://example.com/private/x", "https://EXAMPLE.com/private/x", "https://example.com:443/private/x",
        "https://u:p@example.com/private/x", "https://example.com/a/../private/x",
        "https://example.com/%70rivate/x", "https://example.com./private/x", "https:///example.com/private/x",
        "https://example.com/a/%2e%2e/private/x"}) {
    INFO(url);
    CHECK(p.denies(source(url)));
  }
  CHECK_FALSE(p.denies(source("https://example.com/public/x")));
  policies local;
  local.rule(sp::DENY, "http://127.0.0.1:8000/*");
  local.rule(sp::DENY, "docker-image://127.0.0.1:8000/*");
  local.rule(sp::DENY, "git://127.0.0.1:8000/*");
  for (std::string host :
       {"127.0.0.1", "[::ffff:127.0.0.1]", "[::FFFF:7f00:1]", "[0::ffff:127.0.0.1]", "2130706433", "127.1"}) {
    INFO(host);
    CHECK(local.denies(source("http://" + host + ":8000/x")));
    CHECK(local.denies(source("git://" + host + ":8000/x")));
    if (host.find('[') == host.npos || host.find('.') == host.npos)  // others are no image names
      CHECK(local.denies(source("docker-image://" + host + ":8000/x")));
  }
  CHECK(p.outcome(source("https://example.com/private\nx")).find("control characters") != std::string::npos);
  // Read once more, as who fetches it does, it would be another host.
  CHECK(p.outcome(source("https://%2565xample.com/private/x")).find("percent sign") != std::string::npos);
}

TEST_CASE("a denied repository is denied by every protocol and however it is written") {
  policies p;
  p.rule(sp::DENY, "git://example.com/a/b.git*");
  for (auto remote : {"example.com/a/b.git", "https://example.com/a/b.git", "http://example.com/a/b.git",
                      "HTTPS://Example.com:443/a//b.git", "git://example.com:9418/a/b.git",
                      "ssh://git@example.com/a/b.git", "git@example.com:a/b.git", "git@example.com:/a/b.git",
                      "git@example.com:~/a/b.git", "ssh://git@example.com/~/a/b.git",
                      "ssh://git@example.com:22/a/./b.git", "https://u:p@example.com/a/b.git/",
                      "https://example.com/x/../a/b.git", "https://example.com/%61/b.git",
                      "https://example.com/a/b.git?x=y", "https://example.com/a/b.git#main"}) {
    INFO(remote);
    CHECK(p.denies(source(std::string("git://") + remote)));
    CHECK(p.denies(source("git://innocent.example/x#main", {{"git.fullurl", remote}})));
  }
  CHECK_FALSE(p.denies(source("git://example.com/a/b.git", {{"git.fullurl", "https://example.com/c"}})));
}

TEST_CASE(
    "a denied repository whose name is not ASCII is denied by every protocol and however it is written") {
  policies p;
  p.rule(sp::DENY, "git://example.com/m%C3%BC/b.git*");
  for (auto remote : {"https://example.com/m\u00fc/b.git", "https://example.com/m%c3%bc/b.git",
                      "git@example.com:m\u00fc/b.git", "git@example.com:/m\u00fc/b.git",
                      "ssh://git@example.com/~/m\u00fc/b.git", "ssh://git:p@example.com/m%c3%bc/b.git"}) {
    INFO(remote);
    CHECK(p.denies(source(std::string("git://") + remote)));
    CHECK(p.denies(source("git://innocent.example/x#main", {{"git.fullurl", remote}})));
  }
  CHECK(seen(source("git://git@h:m\u00fc")).attrs().at("git.fullurl") == "git@h:m\u00fc");
}

TEST_CASE("the full URL of a repository is always there to see, without what signs in") {
  auto op = seen(source("git://Example.com/a/b#m:x/../y"));
  CHECK(op.identifier() == "git://example.com/a/b#m:y");
  CHECK(op.attrs().at("git.fullurl") == "https://example.com/a/b");
  op = seen(source("git://x", {{"git.fullurl", "https://u:p@h/p"}}));
  CHECK(op.identifier() == "git://h/p");
  CHECK(op.attrs().at("git.fullurl") == "https://h/p");
  op = seen(source("git://x#v1", {{"git.fullurl", "ssh://git@h:2222/p"}}));
  CHECK(op.identifier() == "git://h:2222/p#v1");
  CHECK(op.attrs().at("git.fullurl") == "ssh://git@h:2222/p");
  op = seen(source("git://git@h:p/q#v1:"));
  CHECK(op.identifier() == "git://h/p/q#v1");
  CHECK(op.attrs().at("git.fullurl") == "git@h:p/q");
}

TEST_CASE("the form of a source in that form is itself, and the parser that fetches finds the same in both") {
  for (auto op :
       {source("docker-image://Reg.example:443/a/b:1"), source("https://u:p@H:443/a/%7e/../b?c#d"),
        source("git://x#m:s/", {{"git.fullurl", "https://u@H/%7Ep//q/?z"}}), source("git://git@H:~/p#m"),
        source("git://ssh://u@h/~/p%20q"), source("git://u@h:/a%b#"), source("git://u@h:/\xff?"),
        source("git://u@h:p%41\xff?"), source("git://ssh://u:p@h/~/q"), source("git://ssh://u@h/~/~/q"),
        source("git://ssh://u@h/~/a%23b"), source("git://ssh://u%3Ap@h/~/q"), source("git://ssh://u@h/~/q?c"),
        source("local://context"), source("odd")}) {
    INFO(op.identifier());
    auto once = seen(op), twice = seen(once);
    CHECK(solver::same_source(once, twice));
    if (!op.identifier().starts_with("git://")) continue;
    auto a = parse_git_place(op), b = parse_git_place(once);
    REQUIRE(a.ok());
    REQUIRE(b.ok());
    CHECK(a->where.str(false) == b->where.str(false));
    CHECK(a->ref == b->ref);
    CHECK(a->subdir == b->subdir);
  }
}

TEST_CASE("what was left out for the policies comes back, but only for the place it was written for") {
  policies p;
  p.rule(sp::ALLOW, "*");
  CHECK(p.outcome(source("https://u:p@H.example/x")) == "https://u:p@h.example/x");
  CHECK(p.outcome(source("docker-image://Reg.example:443/a:1")) == "docker-image://Reg.example:443/a:1");
  pb::SourceOp op;
  p.outcome(source("git://x", {{"git.fullurl", "https://u:p@H.example/x"}}), &op);
  CHECK(op.attrs().at("git.fullurl") == "https://u:p@h.example/x");

  policies moved;
  moved.rule(sp::CONVERT, "https://h.example/*")
      .mutable_updates()
      ->set_identifier("https://mirror.example/${1}");
  moved.rule(sp::CONVERT, "git://h.example/*").mutable_updates()->set_identifier("git://mirror.example/${1}");
  CHECK(moved.outcome(source("https://u:p@h.example/x")) == "https://mirror.example/x");
  moved.outcome(source("git://h.example/x", {{"git.fullurl", "https://u:p@h.example/x"}}), &op);
  CHECK(op.attrs().at("git.fullurl") == "https://mirror.example/x");
}

TEST_CASE("a converted source is what is fetched, in the form that later rules see") {
  policies p;
  p.rule(sp::CONVERT, "docker-image://docker.io/library/a:1")
      .mutable_updates()
      ->set_identifier("docker-image://b:2");
  p.rule(sp::DENY, "docker-image://docker.io/library/b:2");
  CHECK(p.denies(source("docker-image://a:1")));

  policies git;
  git.rule(sp::CONVERT, "git://h/a*").mutable_updates()->set_identifier("git://h/b${1}");
  pb::SourceOp op;
  // The full URL of the former repository is not the converted one's.
  CHECK(git.outcome(source("git://h/a#v1", {{"git.fullurl", "http://h/a"}}), &op) == "git://h/b#v1");
  CHECK(parse_git_source(op)->remote == "https://h/b");

  policies pinned;
  (*pinned.rule(sp::CONVERT, "git://h/a#v1").mutable_updates()->mutable_attrs())["git.checksum"] = "abc";
  CHECK(pinned.outcome(source("git://h/a#v1", {{"git.fullurl", "http://h/a"}}), &op) == "git://h/a#v1");
  CHECK(parse_git_source(op)->remote == "http://h/a");
  CHECK(op.attrs().at("git.checksum") == "abc");

  policies to_itself;
  to_itself.rule(sp::CONVERT, "docker-image://docker.io/library/a:1")
      .mutable_updates()
      ->set_identifier("docker-image://a:1");
  CHECK(to_itself.outcome(source("docker-image://a:1")) == "docker-image://docker.io/library/a:1");
}

TEST_CASE("a source that cannot be read is refused: nobody can tell what it would fetch") {
  policies p;
  p.rule(sp::ALLOW, "*");
  for (const auto& op :
       {source("docker-image://UPPER"), source("https://h ost/"), source("git://file:///etc"),
        source("git://h/p", {{"git.fullurl", "file:///srv/repo"}}), source("git://h/p#a^b")}) {
    INFO(op.identifier());
    CHECK(p.outcome(op).find("cannot be read") != std::string::npos);
  }
  // Nobody fetches these; a policy may still make something of them.
  CHECK(p.outcome(source("DOCKER-IMAGE://busybox")) == "DOCKER-IMAGE://busybox");
}

TEST_CASE("what a conversion cannot do is said with the rule, the source and what was to become of it") {
  auto refused = [](const std::string& to) {
    policies p;
    p.rule(sp::ALLOW, "docker-image://*");
    p.rule(sp::CONVERT, "docker-image://docker.io/*").mutable_updates()->set_identifier(to);
    return p.outcome(source("docker-image://a:1"));
  };
  const std::string by =
      "error mutating source policy: rule 2 (CONVERT docker-image://docker.io/*) makes of source "
      "\"docker-image://docker.io/library/a:1\": ";
  CHECK(refused("odd://x") == by + "source scheme \"odd\", which is unknown");
  CHECK(refused("nothing") == by + "a source without a scheme");
  CHECK(refused("docker-image://bad ref") == by + "source \"docker-image://…\" cannot be read: failed to "
                                                  "parse reference \"bad ref\": invalid reference format");
  CHECK(refused("oci-layout://bad ref").starts_with(by));
  for (auto to : {"local://context", "https://e/x", "git://e/x"}) CHECK(refused(to) == to);
  policies p;
  p.rule(sp::CONVERT, "docker-image://docker.io/*");
  CHECK(p.outcome(source("docker-image://a:1")) ==
        "error mutating source policy: rule 1 (CONVERT docker-image://docker.io/*): missing destination for "
        "convert rule");
  p.all[0].clear_rules();
  p.rule(sp::DENY, "(", sp::REGEX);
  CHECK(p.outcome(source("docker-image://a:1"))
            .starts_with("error matching source policy: rule 1 (DENY () for source "
                         "\"docker-image://docker.io/library/a:1\": invalid regex \"(\""));
}

TEST_CASE("conversions are told of, in order") {
  policies p;
  p.rule(sp::CONVERT, "docker-image://docker.io/library/a:1", sp::EXACT)
      .mutable_updates()
      ->set_identifier("docker-image://b:1");
  p.rule(sp::CONVERT, "docker-image://docker.io/library/b:*").mutable_updates()->set_identifier("local://c");
  source_form form;
  auto op = source("docker-image://a:1");
  std::vector<std::string> conversions;
  REQUIRE(solver::apply(p.all, op, form, nullptr, &conversions).ok());
  CHECK(conversions ==
        std::vector<std::string>{
            "rule 1 (CONVERT docker-image://docker.io/library/a:1) makes "
            "\"docker-image://docker.io/library/b:1\" of \"docker-image://docker.io/library/a:1\"",
            "rule 2 (CONVERT docker-image://docker.io/library/b:*) makes \"local://c\" of "
            "\"docker-image://docker.io/library/b:1\""});
}

TEST_CASE("a conversion to another repository leaves the former's bundle behind") {
  policies p;
  p.rule(sp::CONVERT, "git://example.com/a").mutable_updates()->set_identifier("git://example.com/b");
  attributes bundle{{"git.bundle", "docker-image+blob://h/r@sha256:" + std::string(64, 'b')},
                    {"oci.store", "x"}};
  pb::SourceOp out;
  CHECK(p.outcome(source("git://example.com/a", bundle), &out) == "git://example.com/b");
  CHECK_FALSE(out.attrs().contains("git.bundle"));
  CHECK_FALSE(out.attrs().contains("oci.store"));
  p.outcome(source("git://example.com/c", bundle), &out);
  CHECK(out.attrs().contains("git.bundle"));
}
