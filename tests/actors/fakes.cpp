#include "fakes.hpp"

#include "actors/handle_rest.hpp"
#include "actors/solve/graph_spec.hpp"
#include "solver/cache_map.hpp"
#include "solver/error_details.hpp"
#include "solver/graph.hpp"

namespace kiln::test {

worker_actor::behavior_type fake_worker(worker_actor::pointer self, std::shared_ptr<worker_script> script) {
  self->set_down_handler([=](caf::down_msg& m) { script->forget(m.source); });
  return actors::handle_rest<worker_actor>(
      []<class Reply, class... Parts>(Parts&&...) -> caf::result<Reply> {
        return to_caf(make_error(errc::unimplemented, "not part of this test"));
      },
      [](auto&&...) {},
      [=](describe_atom) -> caf::result<types::WorkerRecord> {
        if (!script->silent) return script->record;
        return script->asked.emplace_back(self->make_response_promise<types::WorkerRecord>());
      },
      [=](key_request& r, const progress_actor&) -> caf::result<key_reply> {
        if (r.op.op.has_source()) {
          auto id = r.op.op.source().identifier();
          if (auto f = script->failures.find("key " + id); f != script->failures.end())
            return to_caf(f->second);
          auto key = script->source_keys.contains(id) ? script->source_keys[id] : id;
          return key_reply{solver::source_cache_map(key).op_digest, {}, false, "", ""};
        }
        auto map = solver::cache_map_of(r.op.op, r.op.platform);
        if (!map.ok()) return to_caf(map.error());
        key_reply out{map->op_digest, {}, false, "", ""};
        for (const auto& d : map->dependencies)
          out.dependencies.push_back({d.selector, d.content_based, d.content});
        return out;
      },
      [=](run_request& r, const progress_actor& progress) -> caf::result<run_reply> {
        auto what = what_of(r.op.op);
        script->ran.push_back(what);
        ctl::StatusResponse status;
        auto& log = *status.add_logs();
        log.set_vertex(r.op.vertex);
        log.set_msg("log of " + what + "\n");
        self->send(progress, status);
        if (auto f = script->failures.find(what); f != script->failures.end()) return to_caf(f->second);
        if (script->refuse)
          if (auto e = script->refuse(r)) return to_caf(*e);
        auto requester = self->current_sender();  // a promise takes it
        self->monitor(caf::actor_cast<caf::actor>(requester));
        if (script->hold) {
          auto promise = self->make_response_promise<run_reply>();
          if (script->started) script->started(worker_script::work_of(what, r));
          script->held.push_back({what, r, requester, progress, promise});
          return promise;
        }
        auto ref = script->finish(what);
        if (script->evaluate) script->evaluate(r, ref);
        script->pin(requester, ref);
        run_reply out{{ref}};
        for (const auto& m : r.op.op.exec().mounts())
          if (m.output() >= static_cast<std::int64_t>(out.outputs.size()))
            out.outputs.resize(static_cast<std::size_t>(m.output()) + 1, ref);
        if (auto n = r.op.op.passthrough().outputs_size(); n > 1)
          out.outputs.resize(static_cast<std::size_t>(n), ref);
        return out;
      },
      [=](prune_caches&) -> caf::result<bool> {
        ++script->pruned;
        if (!script->holds_prunes) return true;
        return script->prunes.emplace_back(self->make_response_promise<bool>());
      },
      [=](checksum_request& r, const progress_actor&) -> caf::result<digest> {
        script->hashed.push_back(r.ref);
        if (script->content_of) return script->content_of(r.ref);
        auto what = r.ref.substr(0, r.ref.rfind('#'));
        if (auto f = script->failures.find("hash " + what); f != script->failures.end())
          return to_caf(f->second);
        auto found = script->contents.find(what);
        return found == script->contents.end() ? sha256(r.ref) : found->second;
      },
      [=](pin_atom, const std::string& ref) -> caf::result<bool> {
        if (script->lost.contains(ref)) return to_caf(solver::lost_ref(ref, "its node is gone"));
        if (script->refs.contains(ref)) {
          auto requester = self->current_sender();
          self->monitor(caf::actor_cast<caf::actor>(requester));
          script->pin(requester, ref);
          return true;
        }
        return to_caf(make_error(errc::not_found, ref));
      },
      [=](release_atom, const std::string& ref) {
        script->unpin(self->current_sender(), ref);
        if (ref == "everything held") script->release();
        if (ref.starts_with("finish ")) script->release_one(std::stoul(ref.substr(7)), false);
        if (ref.starts_with("fail ")) script->release_one(std::stoul(ref.substr(5)), true);
      },
      [=](session_group&, gw::ResolveSourceMetaRequest& r,
          const progress_actor&) -> caf::result<gw::ResolveSourceMetaResponse> {
        auto image = script->images.find(r.source().identifier());
        if (image == script->images.end())
          return to_caf(make_error(errc::unimplemented, "not part of this test"));
        gw::ResolveSourceMetaResponse out;
        *out.mutable_source() = r.source();
        out.mutable_image()->set_digest(sha256(image->second).str());
        out.mutable_image()->set_config(image->second);
        return out;
      },
      [=](import_load& r, const progress_actor&) -> caf::result<run_reply> {
        script->imported.push_back(r.result);
        if (auto f = script->failures.find("import " + r.result); f != script->failures.end())
          return to_caf(f->second);
        return run_reply{{script->finish("imported")}};
      },
      [=](load_count_atom) {
        return worker_load{static_cast<std::int32_t>(script->held.size()), 0};
      },
      [=](remember_atom, const cache_records& facts) { script->remembered.push_back(facts); },
      [=](leave_atom, const caf::strong_actor_ptr& who) {
        script->forget(caf::actor_cast<caf::actor_addr>(who));
      });
}

graph_client ask_graph(caf::actor_system& system, const build_graph_actor& graph, const pb::Definition& def,
                       std::vector<std::string> import_ids) {
  auto g = solver::load(def, {});
  if (!g.ok()) throw std::runtime_error(g.error().message);
  graph_client c;
  c.holder = system.spawn(collector, c.log);
  auto answers = c.answers;
  auto index = g->root.index;
  auto spec = actors::to_spec(*g, "");
  spec.imports = std::move(import_ids);
  system.spawn(
      [=, holder = c.holder](caf::event_based_actor* self, caf::unit_t) {
        self->request(graph, caf::infinite, load_atom::value, spec, holder, std::string("session"))
            .then(
                [=](const vertex_actor& root) {
                  self->request(root, caf::infinite, result_atom::value, static_cast<std::int32_t>(index))
                      .then([=](vertex_result& r) { answers->push_back(r); },
                            [=](caf::error& e) { answers->push_back(from_caf(e)); });
                },
                [=](caf::error& e) { answers->push_back(from_caf(e)); });
      },
      caf::unit);
  return c;
}

}  // namespace kiln::test
