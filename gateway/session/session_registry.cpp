#include "gateway/session/session_registry.hpp"

#include "configs/gateway.hpp"

namespace kiln::gateway {

status session_registry::add(std::shared_ptr<session_caller> session) {
  {
    std::lock_guard lock(mutex_);
    const auto& id = session->id();
    if (sessions_.size() >= configs::gateway::sessions_max)
      return make_error(errc::resource_exhausted, std::to_string(configs::gateway::sessions_max) +
                                                      " sessions are open, no more are accepted");
    if (!sessions_.emplace(id, session).second)
      return make_error(errc::already_exists, "session " + id + " already exists");
  }
  arrived_.notify_all();
  return {};
}

void session_registry::remove(const session_caller& session) {
  std::shared_ptr<session_caller> gone;  // destroyed outside the lock
  std::lock_guard lock(mutex_);
  auto it = sessions_.find(session.id());
  if (it == sessions_.end() || it->second.get() != &session) return;
  gone = std::move(it->second);
  sessions_.erase(it);
}

std::size_t session_registry::size() const {
  std::lock_guard lock(mutex_);
  return sessions_.size();
}

std::vector<std::string> session_registry::ids() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [id, session] : sessions_) out.push_back(id);
  return out;
}

result<std::shared_ptr<session_caller>> session_registry::find(std::string_view id,
                                                               std::chrono::milliseconds wait,
                                                               std::stop_token stop) {
  id = strip_session_prefix(id);
  std::unique_lock lock(mutex_);
  auto known = [&] { return sessions_.find(id) != sessions_.end(); };
  if (!known() && wait.count() > 0) arrived_.wait_for(lock, stop, wait, known);
  auto it = sessions_.find(id);
  if (it != sessions_.end()) return it->second;
  if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
  return make_error(errc::not_found, "no active session for " + std::string(id));
}

}  // namespace kiln::gateway
