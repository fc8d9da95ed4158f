// Results of a build by id: what each is made from, and what it came to once somebody needed it. Definitions
// are loaded and vertices placed only then. Used on the build's actor only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "actors/build/build_context.hpp"
#include "actors/build/build_sources.hpp"
#include "actors/build/import_set.hpp"

namespace kiln::actors {

class ref_table {
 public:
  /// All of these must outlive this.
  ref_table(build_context& build, build_sources& sources, import_set& imports)
      : b_(build), sources_(sources), imports_(imports) {}

  /// resource_exhausted when a build may not have one more.
  status room_for(const pb::Definition& definition);
  /// A new one, that the request `scope` asked for; `imports` are names from import_set::begin().
  std::string add(const pb::Definition& definition, build_sources::policies policies, int scope,
                  std::vector<std::string> imports = {});
  bool contains(const std::string& id) const { return refs_.contains(id); }
  definition_lookup definitions() const;
  /// Whoever gets a ref may build on it by its definition.
  void add_definitions(gw::Result& r) const;

  /// What is behind a ref of this build, or a record that a failed step left; "" is scratch.
  void evaluate(const std::string& id, continuation<vertex_result> done);
  /// All or none, in their order.
  void evaluate(std::vector<std::string> ids, continuation<std::vector<vertex_result>> done);
  /// The same, of what is there: the results of a node that has gone since are made again first.
  void evaluate_present(std::vector<std::string> ids, continuation<std::vector<vertex_result>> done);
  /// Asks the worker about the files of a ref.
  template <class Reply, class Request>
  void look(const std::string& id, Request request, continuation<Reply> done) {
    if (id.empty()) return done(make_error(errc::unknown, "empty ref: " + id));
    evaluate(id, [this, id, request, done](result<vertex_result> value) {
      if (!value.ok()) return done(std::move(value).error());
      auto worker = b_.worker();
      if (!worker.ok()) return done(std::move(worker).error());
      b_.self->request(*worker, caf::infinite, ref_scope{value->ref, b_.sessions()}, request)
          .then([done](Reply& reply) { done(std::move(reply)); },
                [this, id, request, done](caf::error& e) {
                  auto failure = from_caf(e);
                  if (remake(failure)) return look<Reply>(id, request, done);
                  done(std::move(failure));
                });
    });
  }
  /// A result is gone with its node: asks for it again, which makes it again. False when that is not what the
  /// error says, or has been tried often enough.
  bool remake(const error& e);

  /// Lets go of what failures left. Not needed of an actor that goes: the worker sees that.
  void release_left();
  /// Nobody gets any more: tells who waits.
  void close(const error& why);

 private:
  using evaluator = std::function<void(const std::string& id, continuation<vertex_result> done)>;
  static void gather(std::vector<std::string> ids, const evaluator& one,
                     continuation<std::vector<vertex_result>> done);
  void evaluate_present(const std::string& id, continuation<vertex_result> done);

  struct ref {
    std::shared_ptr<const pb::Definition> definition;  // jobs read it too
    build_sources::policies policies;
    std::vector<std::string> imports;
    bool asked = false;
    vertex_actor root;  // of its definition, once placed
    std::int32_t index = 0;
    int remade = 0;
    std::optional<result<vertex_result>> value;
    std::vector<continuation<vertex_result>> waiters;
  };

  // From asked to settled: judged, loaded, placed, made.
  void review(const std::string& id);
  void load(const std::string& id, build_sources::op_change change);
  void place(const std::string& id, graph_spec spec);
  void place_with_imports(const std::string& id, graph_spec spec);
  void ask_root(const std::string& id);
  void settle(const std::string& id, result<vertex_result> value);
  /// Says which rules made the source that failed what it is.
  error blame_rules(error e) const;
  /// Keeps the records an error tells of while this build lives: clients open containers on them.
  void pin_failure_refs(const error& e);

  build_context& b_;
  build_sources& sources_;
  import_set& imports_;
  std::map<std::string, ref> refs_;
  std::size_t definitions_bytes_ = 0;  // of all that were asked for
  /// What policies made of sources, by the detail that an error of their vertex has. Vertices do not know:
  /// others may have asked for the same under that name.
  std::map<std::string, std::vector<std::string>> conversions_;
  std::set<std::string> left_;  // records that failed steps left behind, for the client to look into
};

}  // namespace kiln::actors
