// What other nodes may ask of the sessions that are connected to this one: a grant for each step that was
// placed there, for as long as it is. Whoever places steps makes the grants; whoever serves other nodes
// checks them. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "messages/session.hpp"
#include "ops.pb.h"

namespace kiln {

/// "prefix:id" → "id". Source: BuildKit session/manager.go, Get.
std::string_view strip_session_prefix(std::string_view id);

struct session_grant {
  std::set<std::string> sessions;
  std::set<std::string> secrets;  // ids
  std::set<std::string> agents;   // ids of ssh agents
  std::set<std::string> judges;   // sessions of clients who are asked about what it fetches
};

/// What a step needs of its sessions besides what it takes to read its inputs.
session_grant grant_of(const pb::Op& op, const session_group& sessions);

/// Whoever says what other nodes may ask of sessions. Nodes are known by the names that a certificate is for.
class session_access {
 public:
  virtual ~session_access() = default;
  /// not_found when no step there has that session: as if it were not here.
  virtual status check_session(const std::vector<std::string>& nodes, std::string_view session) const = 0;
  /// Whether a step there may make that call; permission_denied otherwise.
  virtual status check_call(const std::vector<std::string>& nodes, std::string_view session,
                            std::string_view method, const call_metadata& metadata,
                            std::string_view request) const = 0;
  /// Whether it may make some call to that method.
  virtual bool offers(const std::vector<std::string>& nodes, std::string_view session,
                      std::string_view method) const = 0;
};

class session_grants final : public session_access {
 public:
  /// Holds until the result goes; the table may go first.
  std::shared_ptr<void> add(std::string node, session_grant grant);
  std::size_t size() const;

  status check_session(const std::vector<std::string>& nodes, std::string_view session) const override;
  status check_call(const std::vector<std::string>& nodes, std::string_view session, std::string_view method,
                    const call_metadata& metadata, std::string_view request) const override;
  bool offers(const std::vector<std::string>& nodes, std::string_view session,
              std::string_view method) const override;

 private:
  struct table;
  std::shared_ptr<table> table_ = make_table();
  static std::shared_ptr<table> make_table();
};

}  // namespace kiln
