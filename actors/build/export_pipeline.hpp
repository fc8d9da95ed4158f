// What becomes of a build's result: its exporters in parallel; when all have committed, their second phases
// in parallel, and beside these the caches it exports, for by then the layers are made. Used on the build's
// actor only.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "actors/build/build_context.hpp"
#include "actors/build/build_result.hpp"
#include "actors/build/ref_table.hpp"
#include "actors/build/result_attester.hpp"

namespace kiln::actors {

class export_pipeline {
 public:
  /// All of these must outlive this.
  export_pipeline(build_context& build, ref_table& refs, const result_attester& what)
      : b_(build), refs_(refs), what_(what) {}

  /// Type and attributes of every exporter and cache, before anything runs; then `then`. Fails the build
  /// otherwise.
  void check(std::function<void()> then);
  /// Whether the steps' trail is wanted.
  bool exports_cache() const { return !caches_.empty(); }
  /// Exports the attester's result; `done` gets what to tell the client. Fails the build otherwise. Once a
  /// build.
  void run(std::function<void(ctl::SolveResponse)> done);
  /// What exporters have answered so far, in their order.
  const std::vector<export_reply>& replies() const { return replies_; }

 private:
  export_spec spec_of(std::size_t index) const;
  cache_entry cache_of(std::size_t index) const;
  /// Checks the exporters that have no name yet.
  void check_exporters(std::function<void()> then);
  void check_caches(std::function<void()> then);

  /// The client may want more exported, now that there is a result.
  void ask_for_more();
  export_request request_of(std::size_t index) const;
  void run_all();
  void one_less();
  /// A node took a result with it: all exports are made once more, of the result made again.
  void begin_again(const error& lost);
  void failed(const ctl::Vertex& shown, error why);
  void finalize();
  void export_cache(std::size_t index, const worker_actor& worker);
  void one_finalized();
  ctl::SolveResponse response() const;
  void tell_client(ctl::SolveResponse response);

  build_context& b_;
  ref_table& refs_;
  const result_attester& what_;
  std::vector<std::string> names_;
  std::vector<cache_export_kind> caches_;
  std::vector<vertex_result> values_;
  std::vector<export_request> requests_;
  std::vector<export_reply> replies_;
  std::map<std::string, std::string> cache_response_;
  std::size_t open_ = 0;
  std::optional<error> lost_;
  std::function<void(ctl::SolveResponse)> done_;
};

}  // namespace kiln::actors
