// Which request of a build made which of its refs, as provenance tells it: the request itself, the frontends
// it called, those that they called. Pure. Source: BuildKit solver/llbsolver/provenance.go,
// provenance_store.go.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json_text.hpp"
#include "exporters/provenance/capture.hpp"
#include "ops.pb.h"

namespace kiln::exporters {

struct logged_request {
  std::string frontend;
  std::map<std::string, std::string> options;
  std::map<std::string, pb::Definition> inputs;

  bool says_something() const { return !frontend.empty() || !options.empty() || !inputs.empty(); }
};

/// What all builds that run know of where definitions came from: a build may take what another one made as
/// its input. Thread-safe.
class definition_origins {
 public:
  /// `request`: RequestProvenance as JSON. The id is for forget().
  std::uint64_t add(const pb::Definition& definition, nlohmann::ordered_json request);
  void forget(std::uint64_t id);
  /// The request that made it, without its root; nothing when unknown or when several do not agree.
  std::optional<nlohmann::ordered_json> find(const pb::Definition& definition) const;

 private:
  mutable std::mutex mutex_;
  std::uint64_t last_ = 0;
  std::map<std::string, std::map<std::uint64_t, nlohmann::ordered_json>> by_head_;
  std::map<std::uint64_t, std::string> heads_;  // by id
};

/// One platform of a result.
struct listed_platform {
  std::string id;
  kiln::platform platform;
};

class request_log {
 public:
  explicit request_log(std::shared_ptr<definition_origins> origins = nullptr)
      : origins_(std::move(origins)) {}
  ~request_log();
  request_log(const request_log&) = delete;
  request_log& operator=(const request_log&) = delete;

  /// The build's own request is scope 0 and must be there first.
  void begin(logged_request request);
  /// A frontend called from `parent`; the new scope.
  int open(int parent, logged_request request);
  /// A scope for what the daemon does on its own account: no ref's provenance tells of it.
  int open_aside();
  int depth(int scope) const;  // of the build's own request 0
  void add_ref(int scope, const std::string& id);
  void add_image(int scope, captured_image image);

  /// A ref's definition may now become the input of other builds.
  void publish(const std::string& id, const pb::Definition& definition, const capture& sources);

  struct provenance_of_ref {
    capture what;
    /// "frontend", "args", "inputs", "root" of the request; empty without a frontend.
    nlohmann::ordered_json request = nlohmann::ordered_json::object();
  };
  /// `captured` tells what a ref was made from, as far as it is known; `result` are the result's refs.
  provenance_of_ref provenance(
      const std::string& id, const std::string& platform_id, const std::vector<listed_platform>& platforms,
      const std::set<std::string>& result,
      const std::function<std::optional<capture>(const std::string&)>& captured) const;

 private:
  struct scope {
    int parent = -1;
    int root = 0;  // whose request is the outermost that says something
    logged_request request;
    std::vector<std::string> refs;
    std::vector<captured_image> images;
  };
  int frame_of(const std::string& id) const;
  std::vector<int> below(int scope) const;  // itself first
  nlohmann::ordered_json inputs_of(const logged_request& request) const;
  std::optional<nlohmann::ordered_json> root_of(const scope& f, const capture& sources) const;
  nlohmann::ordered_json request_of(const scope& f, const capture& sources) const;

  std::shared_ptr<definition_origins> origins_;
  std::vector<scope> scopes_;
  std::map<std::string, int> frame_of_ref_;
  std::vector<std::uint64_t> published_;
};

/// {"configSource": …, "request": {"frontend", "args"}}: the build context is the config source.
nlohmann::ordered_json request_provenance(const std::string& frontend,
                                          std::map<std::string, std::string> args, const capture& sources);
/// The options that say something about the build and nothing about the host.
std::map<std::string, std::string> provenance_args(const std::map<std::string, std::string>& options);

}  // namespace kiln::exporters
