// Caches that a build imports. They load in the background; definitions wait for them before they are placed.
// One that cannot be had is shown as a failed task and done without. Used on the build's actor only.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "actors/build/build_context.hpp"

namespace kiln::actors {

class import_set {
 public:
  /// `build` must outlive this.
  explicit import_set(build_context& build) : b_(build) {}

  /// Those of the request itself, for every definition. A frontend that is told of them (`cache-imports`)
  /// names them with the definitions they are for: then they are not begun before.
  void begin_own();
  /// Those of one question; their names. Equal imports are one.
  std::vector<std::string> begin(const gw::SolveRequest& question);
  /// Runs `work` once these and the build's own have ended, with the ids by which vertices find what can be
  /// had.
  void when_ended(std::vector<std::string> names, std::function<void(std::vector<std::string> ids)> work);
  /// Ids of all there are.
  std::vector<std::string> ids() const;

 private:
  struct cache {
    bool ended = false;
    std::string id;  // by which vertices find it; empty when there is nothing to find
  };
  std::string begin(cache_entry entry);
  void wait(std::vector<std::string> names, std::function<void(std::vector<std::string> ids)> work);

  build_context& b_;
  std::map<std::string, cache> caches_;  // by what cache_import_id() calls them
  std::vector<std::string> own_;
  std::vector<std::function<void()>> waiting_;
};

}  // namespace kiln::actors
