#include <catch2/catch.hpp>

#include <optional>

#include "actors/build/policy_review.hpp"

using namespace kiln;
using namespace kiln::actors;
namespace sp = moby::buildkit::v1::sourcepolicy;

namespace {

reviewed_source alpine() {
  reviewed_source out;
  out.source.set_identifier("docker-image://docker.io/library/alpine:latest");
  return out;
}

policy::CheckPolicyResponse decision(sp::PolicyAction action) {
  policy::CheckPolicyResponse out;
  out.mutable_decision()->set_action(action);
  return out;
}

/// Reviews with a client that answers with `answers`, one after the other, the last one for ever.
struct client {
  std::vector<policy::CheckPolicyResponse> answers;
  std::vector<policy::CheckPolicyRequest> asked = {};
  int resolved = 0;

  result<pb::SourceOp> review(std::vector<solver::source_policy> policies = {}) {
    policy_questions q;
    q.check = [this](policy::CheckPolicyRequest r, continuation<policy::CheckPolicyResponse> done) {
      asked.push_back(r);
      done(answers[std::min(asked.size(), answers.size()) - 1]);
    };
    q.resolve = [this](gw::ResolveSourceMetaRequest r, continuation<gw::ResolveSourceMetaResponse> done) {
      ++resolved;
      gw::ResolveSourceMetaResponse out;
      *out.mutable_source() = r.source();
      out.mutable_image()->set_digest("sha256:1");
      done(std::move(out));
    };
    std::optional<result<pb::SourceOp>> outcome;
    review_source(std::move(policies), alpine(), q, [&](result<judged_source> r) {
      if (r.ok()) outcome.emplace(std::move(r->source));
      else outcome.emplace(std::move(r).error());
    });
    REQUIRE(outcome);
    return *std::move(outcome);
  }
};

}  // namespace

TEST_CASE("a source the client allows is used as it is") {
  client c{{decision(sp::ALLOW)}};
  CHECK(c.review()->identifier() == alpine().source.identifier());
}

TEST_CASE("a source the client denies says what policies made it") {
  solver::source_policy policy;
  auto& rule = *policy.add_rules();
  rule.set_action(sp::CONVERT);
  rule.mutable_selector()->set_identifier(alpine().source.identifier());
  rule.mutable_updates()->set_identifier("docker-image://docker.io/library/b:1");
  auto once_more = decision(sp::CONVERT);
  once_more.mutable_decision()->mutable_update()->set_identifier("docker-image://docker.io/library/c:1");
  client c{{once_more, decision(sp::DENY)}};
  CHECK(c.review({policy}).error().message ==
        "source policy: rule 1 (CONVERT docker-image://docker.io/library/alpine:latest) makes "
        "\"docker-image://docker.io/library/b:1\" of \"docker-image://docker.io/library/alpine:latest\", the "
        "client's policy makes \"docker-image://docker.io/library/c:1\" of "
        "\"docker-image://docker.io/library/b:1\": source \"docker-image://docker.io/library/c:1\" not "
        "allowed by "
        "policy: action DENY");
}

TEST_CASE("a denied source fails with the client's messages") {
  auto no = decision(sp::DENY);
  no.mutable_decision()->add_denymessages()->set_message("not today");
  client c{{no}};
  auto r = c.review();
  REQUIRE_FALSE(r.ok());
  CHECK(r.error().code == errc::permission_denied);
  CHECK(r.error().message.find("not allowed by policy: action DENY") != std::string::npos);
  REQUIRE(r.error().details.size() == 1);
  CHECK(r.error().details[0].value.find("not today") != std::string::npos);
}

TEST_CASE("the client may ask about a source before it decides") {
  policy::CheckPolicyResponse question;
  *question.mutable_request()->mutable_source() = alpine().source;
  client c{{question, decision(sp::ALLOW)}};
  CHECK(c.review().ok());
  CHECK(c.resolved == 1);
  CHECK(c.asked.back().source().image().digest() == "sha256:1");
}

TEST_CASE("a question about another source is refused") {
  policy::CheckPolicyResponse question;
  question.mutable_request()->mutable_source()->set_identifier("docker-image://elsewhere");
  client c{{question}};
  CHECK(c.review().error().message.find("different source identifier") != std::string::npos);
}

TEST_CASE("a conversion is reviewed again, and not for ever") {
  auto convert = decision(sp::CONVERT);
  convert.mutable_decision()->mutable_update()->set_identifier(
      "docker-image://docker.io/library/busybox:latest");
  SECTION("what it made is used") {
    client c{{convert, decision(sp::ALLOW)}};
    CHECK(c.review()->identifier() == "docker-image://docker.io/library/busybox:latest");
  }
  SECTION("a client that always converts is stopped") {
    client c{{convert}};
    CHECK(c.review().error().message.ends_with(": too many policy requests"));
  }
}

TEST_CASE("the bundle of a git source is judged as the blob that it is") {
  std::vector<solver::source_policy> all(1);
  auto& rule = *all[0].add_rules();
  rule.mutable_selector()->set_identifier("docker-image+blob://evil.example/*");
  auto bundled = [](const std::string& host) {
    pb::SourceOp out;
    out.set_identifier("git://example.com/a#main");
    (*out.mutable_attrs())["git.bundle"] =
        "docker-image+blob://" + host + "/a@sha256:" + std::string(64, 'b');
    return out;
  };
  auto evil = bundled("Evil.example:443"), good = bundled("good.example");
  rule.set_action(sp::DENY);
  CHECK(apply_policies(all, evil).error().code == errc::permission_denied);
  CHECK(apply_policies(all, good).ok());
  CHECK(good.attrs().at("git.bundle") == bundled("good.example").attrs().at("git.bundle"));
  rule.set_action(sp::CONVERT);
  rule.mutable_updates()->set_identifier("docker-image+blob://good.example/$1");
  CHECK(apply_policies(all, evil).ok());
  CHECK(evil.attrs().at("git.bundle") == bundled("good.example").attrs().at("git.bundle"));
}
