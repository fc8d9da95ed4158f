// What a vertex tells those who hold it: replayed to late joiners, then as it happens.
// Not an actor; owned by a vertex's state.
#pragma once

#include <string>
#include <vector>

#include "actors/progress.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

class vertex_progress {
 public:
  explicit vertex_progress(const vertex_spec& spec);

  void join(const progress_actor& holder, const std::string& session);
  void leave(const progress_actor& holder);
  /// The sessions of all holders, in the order they came.
  session_group sessions() const;

  void started();
  void completed(const std::string& error, bool cached);
  /// Found in the cache; told once.
  void cached();
  /// A finished line below the vertex.
  void note(const std::string& text);
  /// From whoever does our work: of us, and of vertices whose results are brought to the disk for it.
  void forward(ctl::StatusResponse status);
  /// Another vertex does our work from now on.
  void follow();
  /// What that vertex tells of itself is shown as ours; what it tells of others is dropped, but for those
  /// that we know too.
  void adopt(ctl::StatusResponse status, const result_owners& known);
  bool is_open() const { return open_; }

 private:
  void publish(ctl::StatusResponse status);
  void publish_any(ctl::StatusResponse status);

  struct holder_entry {
    progress_actor handle;
    std::string session;
  };
  ctl::Vertex vertex_;
  std::vector<holder_entry> holders_;
  std::vector<ctl::StatusResponse> history_;
  std::size_t history_bytes_ = 0;
  bool open_ = false;
  bool told_cached_ = false;
  std::string followed_;  // digest of the vertex that does our work; empty: not told yet
};

}  // namespace kiln::actors
