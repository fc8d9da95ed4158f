#include "messages/session_grants.hpp"

#include <algorithm>
#include <functional>

#include "base/text.hpp"
#include "secrets.pb.h"
#include "ssh.pb.h"

namespace kiln {

namespace {

// In lower case, as methods are compared.
constexpr std::string_view get_secret = "/moby.buildkit.secrets.v1.secrets/getsecret";
constexpr std::string_view check_agent = "/moby.sshforward.v1.ssh/checkagent";
constexpr std::string_view forward_agent = "/moby.sshforward.v1.ssh/forwardagent";
constexpr std::string_view check_policy =
    "/moby.buildkit.v1.sourcepolicy.policysession.policyverifier/checkpolicy";

/// What it takes to read inputs that are not unpacked yet: from registries, and from stores of the client's.
bool reads_inputs(std::string_view method) {
  constexpr std::string_view all[] = {
      "/moby.filesync.v1.auth/gettokenauthority", "/moby.filesync.v1.auth/credentials",
      "/moby.filesync.v1.auth/fetchtoken", "/containerd.services.content.v1.content/info",
      "/containerd.services.content.v1.content/read"};
  return std::find(std::begin(all), std::end(all), method) != std::end(all);
}

std::string agent_id(std::string_view id) { return id.empty() ? "default" : std::string(id); }

bool allows(const session_grant& grant, std::string_view session, std::string_view method,
            const call_metadata& metadata, std::string_view request) {
  if (method == check_policy) return grant.judges.contains(std::string(strip_session_prefix(session)));
  if (reads_inputs(method)) return true;
  if (method == get_secret) {
    moby::buildkit::secrets::v1::GetSecretRequest r;
    return r.ParseFromArray(request.data(), static_cast<int>(request.size())) &&
           grant.secrets.contains(r.id());
  }
  if (method == check_agent) {
    moby::sshforward::v1::CheckAgentRequest r;
    return r.ParseFromArray(request.data(), static_cast<int>(request.size())) &&
           grant.agents.contains(agent_id(r.id()));
  }
  if (method == forward_agent) {
    std::vector<std::string> ids;
    for (const auto& [key, value] : metadata)
      if (to_lower(key) == "buildkit.ssh.id") ids.push_back(agent_id(value));
    if (ids.empty()) ids.push_back(agent_id(""));
    return std::all_of(ids.begin(), ids.end(), [&](const auto& id) { return grant.agents.contains(id); });
  }
  return false;
}

}  // namespace

std::string_view strip_session_prefix(std::string_view id) {
  auto colon = id.find(':');
  if (colon == std::string_view::npos || colon + 1 == id.size()) return id;
  return id.substr(colon + 1);
}

session_grant grant_of(const pb::Op& op, const session_group& sessions) {
  session_grant out;
  for (const auto& id : sessions.ids) out.sessions.emplace(strip_session_prefix(id));
  if (!op.has_exec()) return out;
  for (const auto& mount : op.exec().mounts()) {
    if (mount.mounttype() == pb::SECRET) out.secrets.insert(mount.secretopt().id());
    if (mount.mounttype() == pb::SSH) out.agents.insert(agent_id(mount.sshopt().id()));
  }
  for (const auto& secret : op.exec().secretenv()) out.secrets.insert(secret.id());
  return out;
}

struct session_grants::table {
  struct entry {
    std::string node;
    session_grant grant;
  };
  mutable std::mutex mutex;
  std::map<std::uint64_t, entry> entries;
  std::uint64_t last = 0;

  bool any(const std::vector<std::string>& nodes, std::string_view session,
           const std::function<bool(const session_grant&)>& suits) const {
    auto id = std::string(strip_session_prefix(session));
    std::lock_guard lock(mutex);
    return std::any_of(entries.begin(), entries.end(), [&](const auto& e) {
      const auto& [node, grant] = e.second;
      return std::find(nodes.begin(), nodes.end(), node) != nodes.end() &&
             (grant.sessions.contains(id) || grant.judges.contains(id)) && suits(grant);
    });
  }
};

std::shared_ptr<session_grants::table> session_grants::make_table() { return std::make_shared<table>(); }

std::shared_ptr<void> session_grants::add(std::string node, session_grant grant) {
  std::lock_guard lock(table_->mutex);
  auto id = ++table_->last;
  table_->entries.emplace(id, table::entry{std::move(node), std::move(grant)});
  return std::shared_ptr<void>(table_.get(), [t = table_, id](void*) {
    std::lock_guard lock(t->mutex);
    t->entries.erase(id);
  });
}

status session_grants::check_session(const std::vector<std::string>& nodes, std::string_view session) const {
  if (table_->any(nodes, session, [](const auto&) { return true; })) return {};
  return make_error(errc::not_found, "no active session for " + std::string(session));
}

status session_grants::check_call(const std::vector<std::string>& nodes, std::string_view session,
                                  std::string_view method, const call_metadata& metadata,
                                  std::string_view request) const {
  KILN_CHECK(check_session(nodes, session));
  auto name = to_lower(method);
  if (table_->any(nodes, session, [&](const auto& g) { return allows(g, session, name, metadata, request); }))
    return {};
  return make_error(errc::permission_denied, "no step on that node needs " + std::string(method));
}

bool session_grants::offers(const std::vector<std::string>& nodes, std::string_view session,
                            std::string_view method) const {
  auto name = to_lower(method);
  return table_->any(nodes, session, [&](const session_grant& g) {
    if (name == check_policy) return g.judges.contains(std::string(strip_session_prefix(session)));
    if (name == get_secret) return !g.secrets.empty();
    if (name == check_agent || name == forward_agent) return !g.agents.empty();
    return reads_inputs(name);
  });
}

std::size_t session_grants::size() const {
  std::lock_guard lock(table_->mutex);
  return table_->entries.size();
}

}  // namespace kiln
