#include <catch2/catch.hpp>

#include "messages/session_grants.hpp"
#include "secrets.pb.h"
#include "ssh.pb.h"

using namespace kiln;

namespace {

constexpr auto get_secret = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
constexpr auto check_agent = "/moby.sshforward.v1.SSH/CheckAgent";
constexpr auto forward_agent = "/moby.sshforward.v1.SSH/ForwardAgent";
constexpr auto credentials = "/moby.filesync.v1.Auth/Credentials";
constexpr auto diff_copy = "/moby.filesync.v1.FileSync/DiffCopy";

std::string secret(const std::string& id) {
  moby::buildkit::secrets::v1::GetSecretRequest r;
  r.set_id(id);
  return r.SerializeAsString();
}
std::string agent(const std::string& id) {
  moby::sshforward::v1::CheckAgentRequest r;
  r.set_id(id);
  return r.SerializeAsString();
}

pb::Op step_with_secrets() {
  pb::Op op;
  auto& exec = *op.mutable_exec();
  auto& mount = *exec.add_mounts();
  mount.set_mounttype(pb::SECRET);
  mount.mutable_secretopt()->set_id("mounted");
  exec.add_secretenv()->set_id("in-env");
  auto& ssh = *exec.add_mounts();
  ssh.set_mounttype(pb::SSH);
  ssh.mutable_sshopt()->set_id("key");
  return op;
}

const std::vector<std::string> b{"b", "10.0.0.2"}, c{"c"};

}  // namespace

TEST_CASE("a node asks a session for what the step that is placed there needs, and for nothing else") {
  session_grants grants;
  auto grant = grants.add("b", grant_of(step_with_secrets(), {{"s1"}}));
  auto may = [&](const auto& node, const char* method, const std::string& request = "",
                 const call_metadata& m = {}) {
    return grants.check_call(node, "s1", method, m, request).ok();
  };
  CHECK(grants.check_session(b, "s1").ok());
  CHECK(grants.check_session(b, "prefix:s1").ok());
  CHECK(may(b, get_secret, secret("mounted")));
  CHECK(may(b, get_secret, secret("in-env")));
  CHECK(may(b, check_agent, agent("key")));
  CHECK(may(b, forward_agent, "", {{"buildkit.ssh.id", "key"}}));
  CHECK(may(b, credentials));
  CHECK(may(b, "/MOBY.filesync.v1.auth/credentials"));

  CHECK_FALSE(may(b, get_secret, secret("other")));
  CHECK_FALSE(may(b, get_secret, "\xff\xff not a request"));
  CHECK_FALSE(may(b, check_agent, agent("")));
  CHECK_FALSE(may(b, forward_agent));
  CHECK_FALSE(may(b, forward_agent, "", {{"buildkit.ssh.id", "key"}, {"Buildkit.SSH.id", "other"}}));
  CHECK_FALSE(may(b, diff_copy));
  CHECK_FALSE(may(b, "/moby.filesync.v1.FileSend/DiffCopy"));
  CHECK_FALSE(may(b, ""));

  CHECK(grants.check_call(b, "s2", get_secret, {}, secret("mounted")).error().code == errc::not_found);
  CHECK(grants.check_call(c, "s1", get_secret, {}, secret("mounted")).error().code == errc::not_found);
  CHECK(grants.check_call({}, "s1", credentials, {}, "").error().code == errc::not_found);
  CHECK(grants.check_call(b, "s1", get_secret, {}, secret("other")).error().code == errc::permission_denied);

  CHECK(grants.offers(b, "s1", get_secret));
  CHECK_FALSE(grants.offers(b, "s1", diff_copy));
  CHECK_FALSE(grants.offers(c, "s1", get_secret));
}

TEST_CASE("a step with a proxy may ask the client who judges, and nobody else") {
  const char* check_policy = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy";
  session_grants grants;
  auto judged = grant_of({}, {{"s1"}});
  judged.judges.insert("s2");
  auto grant = grants.add("b", judged);
  CHECK(grants.check_call(b, "s2", check_policy, {}, "").ok());
  CHECK(grants.offers(b, "s2", check_policy));
  CHECK_FALSE(grants.check_call(b, "s1", check_policy, {}, "").ok());
  CHECK_FALSE(grants.offers(b, "s1", check_policy));
  CHECK_FALSE(grants.check_call(c, "s2", check_policy, {}, "").ok());
}

TEST_CASE("a grant ends with its step, and only with its own") {
  session_grants grants;
  auto first = grants.add("b", grant_of(step_with_secrets(), {{"s1"}}));
  auto second = grants.add("b", grant_of({}, {{"s1"}}));
  CHECK(grants.offers(b, "s1", get_secret));
  first.reset();
  CHECK_FALSE(grants.offers(b, "s1", get_secret));
  CHECK(grants.check_call(b, "s1", credentials, {}, "").ok());
  second.reset();
  CHECK(grants.check_session(b, "s1").error().code == errc::not_found);
  CHECK(grants.size() == 0);
}

TEST_CASE("a step without secrets lends none, and one without sessions nothing") {
  session_grants grants;
  auto plain = grants.add("b", grant_of({}, {{"s1"}}));
  CHECK_FALSE(grants.offers(b, "s1", get_secret));
  CHECK_FALSE(grants.offers(b, "s1", forward_agent));
  auto nobody = grants.add("b", grant_of(step_with_secrets(), {}));
  CHECK_FALSE(grants.check_session(b, "").ok());
}
