// The sessions connected to this node, by id. Knows nothing of gRPC or actors. Thread-safe.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "messages/session.hpp"
#include "messages/session_grants.hpp"

namespace kiln::gateway {

class session_registry final : public session_directory {
 public:
  /// already_exists "session <id> already exists" while another holds the id.
  status add(std::shared_ptr<session_caller> session);
  /// Forgets that very session; a no-op when it is not (or no longer) the one registered.
  void remove(const session_caller& session);
  std::size_t size() const;
  std::vector<std::string> ids() const;

  result<std::shared_ptr<session_caller>> find(std::string_view id, std::chrono::milliseconds wait,
                                               std::stop_token stop) override;

 private:
  mutable std::mutex mutex_;
  std::condition_variable_any arrived_;
  std::map<std::string, std::shared_ptr<session_caller>, std::less<>> sessions_;
};

}  // namespace kiln::gateway
