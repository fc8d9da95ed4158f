// The progress of one build: gathered, replayed to whoever watches, counted, kept for the history.
// Not an actor; owned by a build's state.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

class build_log {
 public:
  /// Adds a status and sends it to everyone who watches.
  void add(ctl::StatusResponse status);
  /// Everything so far, then what comes; `done` at the end.
  void watch(const status_listener& who);
  /// No more progress: tells everyone.
  void close();
  bool closed() const { return closed_; }

  int total_steps() const { return static_cast<int>(steps_.size()); }
  int completed_steps() const;
  int cached_steps() const;
  int warnings() const { return warnings_; }

  using statuses = std::vector<ctl::StatusResponse>;
  /// What is kept. Only of a closed log may another thread read it.
  std::shared_ptr<const statuses> kept() const { return all_; }
  /// Little-endian uint32 length + StatusResponse, for each. Media type
  /// application/vnd.buildkit.status.v0. May take long; any thread.
  static std::string encode(const statuses& all);
  /// The inverse; stops at the first record that is broken.
  static statuses decode(std::string_view bytes);

 private:
  /// A status as it is told: what it leaves out of vertices is filled in, and vertices that it shows to be
  /// cached are added. Source: BuildKit solver/progress.go.
  void complete(ctl::StatusResponse& status);
  /// What `vertex` stands on and nobody has begun was found by its key alone.
  void add_cached_inputs(const ctl::Vertex& vertex, std::vector<ctl::Vertex>& out);

  std::shared_ptr<statuses> all_ = std::make_shared<statuses>();
  std::size_t bytes_ = 0;
  std::map<std::string, ctl::Vertex> steps_;  // as last told
  int warnings_ = 0;
  std::vector<status_listener> watchers_;
  bool closed_ = false;
};

}  // namespace kiln::actors
