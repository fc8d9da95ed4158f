// An imported cache, as vertices use it: where keys lead, what results they have, and refs of those results.
// Immutable, thread-safe; load() blocks. Source: cache/remotecache/v1/cachestorage.go; worker/base/worker.go,
// FromRemote.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "messages/job.hpp"
#include "solver/remote_cache/imported_graph.hpp"
#include "store/ref_store.hpp"

namespace kiln::exporters {

class imported_cache final : public solver::key_lookup {
 public:
  /// `id`: cache_import_id(). `lazy`: layers stay where they are until their bytes are needed, which only
  /// works where any later build can reach them; otherwise load() fetches them.
  imported_cache(std::string id, solver::remote_cache::imported_graph graph,
                 std::shared_ptr<store::blob_provider> provider, bool lazy)
      : id_(std::move(id)), graph_(std::move(graph)), provider_(std::move(provider)), lazy_(lazy) {}

  const std::string& id() const { return id_; }
  /// The id it has in an import_table; set before it is put there.
  const std::string& table_id() const { return table_id_; }
  void set_table_id(std::string id) { table_id_ = std::move(id); }
  const solver::remote_cache::imported_graph& graph() const { return graph_; }

  std::vector<std::string> children(std::string_view parent, const cache_link& link) const override {
    return graph_.children(parent, link);
  }
  /// Newest first.
  std::vector<solver::remote_cache::imported_result> results(std::string_view key) const {
    return graph_.results(key);
  }
  /// A ref of a result; not_found when there is none of that id.
  result<store::ref> load(std::string_view result_id, store::ref_store& store, const job_context& job) const;

 private:
  std::string id_, table_id_;
  solver::remote_cache::imported_graph graph_;
  std::shared_ptr<store::blob_provider> provider_;
  bool lazy_;
};

}  // namespace kiln::exporters
