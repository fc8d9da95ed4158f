#include "actors/worker.hpp"

#include <atomic>
#include <deque>
#include <set>
#include <stop_token>

#include <spdlog/spdlog.h>

#include "actors/cache_scope.hpp"
#include "actors/ending.hpp"
#include "actors/graph_spec.hpp"
#include "actors/key_store.hpp"
#include "actors/progress.hpp"
#include "base/quota.hpp"
#include "base/quoting.hpp"
#include "configs/definition.hpp"
#include "configs/solving.hpp"
#include "exporters/cache/cache_exporter.hpp"
#include "exporters/cache/cache_importer.hpp"
#include "exporters/cache/collect.hpp"
#include "solver/cache_map.hpp"
#include "solver/error_details.hpp"
#include "workers/ref_files.hpp"
#include "workers/sources/resolutions.hpp"

namespace kiln::actors {

namespace {

using build_memory = std::shared_ptr<workers::resolutions>;

workers::op_request request_of(const op_spec& spec, build_memory build) {
  return {spec.vertex, spec.op, spec.metadata, spec.platform, spec.cache_mount_namespace, std::move(build)};
}

std::vector<std::string> ids_of(const std::vector<store::ref>& refs) {
  std::vector<std::string> out;
  for (const auto& r : refs) out.push_back(r ? r.id() : "");
  return out;
}

/// Everything one requester has here.
struct client {
  std::map<std::string, std::pair<store::ref, int>> pins;
  std::set<std::uint64_t> jobs;
  std::set<std::string> imports;
};

struct job {
  std::stop_source stop;
  caf::actor_addr requester;
  std::shared_ptr<void> permit;  // of another node's
  std::function<void(const error&)> refuse;
};

using options_ptr = std::shared_ptr<const worker_options>;

job_context context(const worker_options& o, std::stop_token stop, const session_group& sessions,
                    progress_sink& progress) {
  job_context out;
  out.stop = std::move(stop);
  out.sessions = sessions;
  out.directory = o.sessions;
  out.progress = &progress;
  return out;
}

/// A ref of this store; one of another node is fetched, so only on a job's thread.
result<store::ref> open_ref(const worker_options& o, const std::string& id, const job_context& job) {
  if (id.empty() || id == scratch_result) return store::ref{};
  if (!is_remote(id)) return o.store->get(id);
  if (!o.fetch) return make_error(errc::failed_precondition, "ref " + id + " belongs to another node");
  return o.fetch(id, job);
}

result<std::vector<store::ref>> open_refs(const worker_options& o, const std::vector<std::string>& ids,
                                          const job_context& job) {
  std::vector<store::ref> out;
  for (const auto& id : ids) {
    auto r = open_ref(o, id, job);
    if (!r.ok()) return r.error().code == errc::not_found ? solver::lost_ref(id, r.error().message) : std::move(r).error();
    out.push_back(*std::move(r));
  }
  return out;
}

/// Names the refs of a trail by this store's ids; what other nodes have lost is left out. The handles keep
/// what was fetched.
std::vector<store::ref> fetch_trail(const worker_options& o, cache_trail& trail, const job_context& job) {
  std::vector<store::ref> kept;
  auto name_here = [&](std::string& id) {
    if (!is_remote(id)) return;
    auto r = open_ref(o, id, job);
    if (!r.ok()) spdlog::warn("{} is left out of the exported cache: {}", id, r.error().message);
    id = r.ok() && *r ? r->id() : "";
    if (r.ok()) kept.push_back(*std::move(r));
  };
  for (auto& step : trail.steps) name_here(step.ref);
  for (auto& r : trail.results) name_here(r.ref);
  return kept;
}

class worker_state {
 public:
  worker_state(worker_impl::pointer self, worker_options options)
      : self_(self), ops_(std::move(options.ops)), calls_(std::move(options.calls)), io_(std::move(options.io)),
        o_(std::make_shared<const worker_options>(std::move(options))) {}

  ~worker_state() {
    // Where there are other nodes, what was asked of this one may be asked of them.
    auto gone = ending_.for_waiters(make_error(errc::unavailable, "worker is shutting down"),
                                    o_->fetch ? errc::unavailable : errc::internal);
    for (auto& [id, j] : std::exchange(jobs_, {})) {
      j.stop.request_stop();
      j.refuse(gone);
    }
  }

  worker_impl::behavior_type behavior() {
    ending_.watch(self_, "the worker");
    self_->set_down_handler([this](caf::down_msg& m) { forget(m.source); });
    return {
        [this](describe_atom) { return describe(); },
        [this](key_request& r, const progress_actor& progress) { return key(r, progress); },
        [this](run_request& r, const progress_actor& progress) { return run(r, progress); },
        [this](checksum_request& r, const progress_actor& progress) { return checksum(r, progress); },
        [this](pin_atom, const std::string& id) { return pin(id); },
        [this](release_atom, const std::string& id) { unpin(id); },
        [this](ref_scope& s, gw::ReadFileRequest& r) {
          return with_tree<gw::ReadFileResponse>(s, [r](const std::filesystem::path& root) {
            return workers::read_file(root, r, configs::solving::read_file_bytes_max);
          });
        },
        [this](ref_scope& s, gw::ReadDirRequest& r) {
          return with_tree<gw::ReadDirResponse>(
              s, [r](const std::filesystem::path& root) { return workers::read_dir(root, r); });
        },
        [this](ref_scope& s, gw::StatFileRequest& r) {
          return with_tree<gw::StatFileResponse>(
              s, [r](const std::filesystem::path& root) { return workers::stat_file(root, r); });
        },
        [this](session_group& sessions, gw::ResolveSourceMetaRequest& r, const progress_actor& progress) {
          return resolve(sessions, r, progress);
        },
        [this](check_atom, const export_spec& spec) -> caf::result<std::string> {
          auto e = o_->exporter(spec.type, spec.attributes, spec.index);
          if (!e.ok()) return to_caf(e.error());
          return (*e)->name();
        },
        [this](export_request& r, const progress_actor& progress) { return run_export(r, progress); },
        [this](finalize_atom, std::uint64_t id, export_request& r, const progress_actor& progress) {
          return finalize(id, r, progress);
        },
        [this](prune_caches& r) { return prune(r); },
        [this](check_atom, cache_entry& e) -> caf::result<cache_export_kind> {
          auto made = exporters::make_cache_exporter(e.type, e.attributes, o_->cache_resources);
          if (!made.ok()) return to_caf(made.error());
          return cache_export_kind{(*made)->name(), (*made)->is_inline(), (*made)->options().ignore_error};
        },
        [this](cache_import& r, const progress_actor& progress) { return import_cache(r, progress); },
        [this](import_load& r, const progress_actor& progress) { return load_import(r, progress); },
        [this](cache_export& r, const progress_actor& progress) { return export_cache(r, progress); },
        [this](load_count_atom) {
          return worker_load{busy_, static_cast<std::int32_t>(waiting_.size())};
        },
        [this](remember_atom, const cache_facts& facts) { remember(facts); },
        [this](leave_atom, const caf::strong_actor_ptr& who) { forget(caf::actor_cast<caf::actor_addr>(who)); },
        [this](tick_atom, std::uint64_t id) { runner_.finish(id); },
    };
  }

 private:
  // Jobs.

  client& client_of(const caf::actor_addr& who, const caf::strong_actor_ptr& handle) {
    auto [at, fresh] = clients_.try_emplace(who);
    if (fresh) self_->monitor(caf::actor_cast<caf::actor>(handle));
    return at->second;
  }

  /// Starts blocking work for the present sender. `then` runs here with its outcome, if the requester
  /// is still there, and tells what to answer.
  template <class Reply, class T>
  caf::result<Reply> start(job_pool& pool, bool slot, std::function<result<T>(std::stop_token)> work,
                           std::function<result<Reply>(T, client&)> then) {
    auto requester = self_->current_sender();  // the promise takes it
    if (!requester) return to_caf(make_error(errc::invalid_argument, "anonymous request"));
    auto address = caf::actor_cast<caf::actor_addr>(requester);
    std::shared_ptr<void> permit;
    if (auto node = requester->node(); node != self_->node() && !(permit = jobs_of_nodes_.enter(node)))
      return to_caf(make_error(errc::resource_exhausted, "your node has " + std::to_string(o_->jobs_of_node_max) +
                                                             " jobs here already"));
    auto promise = self_->make_response_promise<Reply>();
    auto id = ++last_job_;
    client_of(address, requester).jobs.insert(id);
    auto& j = jobs_[id];
    j.requester = address;
    j.permit = std::move(permit);
    j.refuse = [promise](const error& e) mutable { promise.deliver(to_caf(e)); };
    auto token = j.stop.get_token();
    auto begin = [this, &pool, id, slot, token, promise, work = std::move(work), then = std::move(then)]() mutable {
      runner_.run<T>(
          self_, pool,
          [token, work = std::move(work)]() -> result<T> {
            if (token.stop_requested()) return make_error(errc::cancelled, "context canceled");
            return work(token);
          },
          [this, id, slot, promise, then = std::move(then)](result<T> outcome) mutable {
            if (slot) leave_slot();
            auto found = jobs_.find(id);
            if (found == jobs_.end()) return;  // the requester is gone
            auto& c = clients_.at(found->second.requester);
            c.jobs.erase(id);
            jobs_.erase(found);
            if (outcome.ok()) {
              answer(promise, then(*std::move(outcome), c));
            } else {
              promise.deliver(to_caf(std::move(outcome).error()));
            }
          });
    };
    if (slot) {
      take_slot(id, std::move(begin));
    } else {
      begin();
    }
    return promise;
  }

  void take_slot(std::uint64_t id, std::function<void()> begin) {
    if (o_->parallelism_max <= 0 || busy_ < o_->parallelism_max) {
      ++busy_;
      begin();
    } else {
      waiting_.emplace_back(id, std::move(begin));
    }
  }

  void leave_slot() {
    --busy_;
    while (!waiting_.empty()) {
      auto [id, begin] = std::move(waiting_.front());
      waiting_.pop_front();
      if (!jobs_.contains(id)) continue;
      ++busy_;
      begin();
      return;
    }
  }

  void forget(const caf::actor_addr& who) {
    auto found = clients_.find(who);
    if (found == clients_.end()) return;
    for (auto id : found->second.jobs) {
      auto at = jobs_.find(id);
      if (at == jobs_.end()) continue;
      at->second.stop.request_stop();
      jobs_.erase(at);
    }
    for (const auto& id : found->second.imports) o_->imports->erase(id);
    // Letting refs go may remove snapshots: not here.
    io_->submit([pins = std::make_shared<client>(std::move(found->second))]() mutable { pins.reset(); });
    clients_.erase(found);
    self_->demonitor(who);
    std::erase_if(finalizers_, [&](const auto& entry) { return entry.second.first == who; });
  }

  /// What the sources of that build lead to.
  build_memory memory_of(const std::string& build) const {
    return o_->builds && !build.empty() ? o_->builds->find(build) : nullptr;
  }

  static void keep(client& c, const store::ref& r) {
    auto& entry = c.pins[r.id()];
    entry.first = r;
    ++entry.second;
  }

  // Requests.

  caf::result<types::WorkerRecord> describe() {
    if (!o_->devices) return o_->record;
    using devices = std::vector<types::CDIDevice>;
    return start<types::WorkerRecord, devices>(
        *io_, false, [o = o_](std::stop_token) -> result<devices> { return o->devices(); },
        [o = o_](devices there, client&) -> result<types::WorkerRecord> {
          auto record = o->record;
          record.mutable_cdidevices()->Assign(there.begin(), there.end());
          return record;
        });
  }

  caf::result<key_reply> key(key_request& r, const progress_actor& progress) {
    auto to_reply = [](solver::cache_map map, client&) -> result<key_reply> {
      key_reply out{map.op_digest, {}, map.more, map.origin, map.pin};
      for (auto& d : map.dependencies)
        out.dependencies.push_back({std::move(d.selector), d.content_based, std::move(d.content)});
      return out;
    };
    // What needs nothing but a small op is answered here and now.
    if (!r.op.op.has_source() && r.op.op.ByteSizeLong() <= configs::definition::quick_op_bytes) {
      auto map = solver::cache_map_of(r.op.op, r.op.platform);
      if (!map.ok()) return to_caf(map.error());
      client nobody;
      return *to_reply(*std::move(map), nobody);
    }
    return start<key_reply, solver::cache_map>(
        *calls_, false,
        [o = o_, r, progress, build = memory_of(build_of(r.op))](std::stop_token stop) -> result<solver::cache_map> {
          KILN_TRY(auto handler, o->handler(r.op.op));
          progress_sender sink(progress, r.op.vertex);
          return handler->cache_map(request_of(r.op, build), r.index, context(*o, stop, r.sessions, sink));
        },
        to_reply);
  }

  caf::result<run_reply> run(run_request& r, const progress_actor& progress) {
    bool slot = r.op.op.has_source() || r.op.op.has_exec() || r.op.op.has_file();
    struct ran {
      std::vector<store::ref> outputs;
      std::vector<std::int64_t> bytes;
      std::optional<error> failure;
      workers::left_behind left;
    };
    return start<run_reply, ran>(
        *ops_, slot,
        [o = o_, r, progress, build = memory_of(build_of(r.op))](std::stop_token stop) -> result<ran> {
          if (o->admit) KILN_CHECK(o->admit(r.op.op));
          KILN_TRY(auto handler, o->handler(r.op.op));
          progress_sender sink(progress, r.op.vertex);
          auto job = context(*o, stop, r.sessions, sink);
          KILN_TRY(auto inputs, open_refs(*o, r.inputs, job));
          ran out;
          auto request = request_of(r.op, build);
          request.left = &out.left;
          auto outputs = handler->run(request, inputs, job);
          if (!outputs.ok()) {
            if (!out.left.any) return std::move(outputs).error();
            out.failure = std::move(outputs).error();
            out.failure->details.push_back(solver::solve_detail(r.op.op, r.op.metadata, ids_of(out.left.inputs),
                                                                ids_of(out.left.mounts), {.action = out.left.action}));
            return out;
          }
          out.outputs = *std::move(outputs);
          // A walk over what was written: only where there are nodes it could have to move to.
          if (o->fetch)
            for (const auto& output : out.outputs) out.bytes.push_back(o->store->own_size(output).value_or(-1));
          return out;
        },
        [](ran done, client& c) -> result<run_reply> {
          if (done.failure) {
            // Kept for whoever asked, as results are.
            for (const auto* refs : {&done.left.inputs, &done.left.mounts})
              for (const auto& r : *refs)
                if (r) keep(c, r);
            return *std::move(done.failure);
          }
          run_reply out;
          out.bytes = std::move(done.bytes);
          for (const auto& output : done.outputs) {
            out.outputs.push_back(output ? output.id() : "");
            if (output) keep(c, output);
          }
          return out;
        });
  }

  caf::result<digest> checksum(checksum_request& r, const progress_actor& progress) {
    return start<digest, digest>(
        *calls_, false,
        [o = o_, r, progress](std::stop_token stop) -> result<digest> {
          progress_sender sink(progress, r.vertex);
          auto job = context(*o, stop, r.sessions, sink);
          KILN_TRY(auto ref, open_ref(*o, r.ref, job));
          return o->checksum(ref, r.selectors, job);
        },
        [](digest d, client&) -> result<digest> { return d; });
  }

  caf::result<bool> pin(const std::string& id) {
    if (id.empty() || id == scratch_result) return true;
    // Opening a record of this store is a look-up in memory or the database; no bytes move.
    auto r = o_->store->get(id);
    if (!r.ok()) return to_caf(r.error());
    auto sender = self_->current_sender();
    if (sender) keep(client_of(caf::actor_cast<caf::actor_addr>(sender), sender), *r);
    return true;
  }

  void unpin(const std::string& id) {
    auto found = clients_.find(caf::actor_cast<caf::actor_addr>(self_->current_sender()));
    if (found == clients_.end()) return;
    auto at = found->second.pins.find(id);
    if (at == found->second.pins.end() || --at->second.second > 0) return;
    io_->submit([r = std::make_shared<store::ref>(std::move(at->second.first))]() mutable { r.reset(); });
    found->second.pins.erase(at);
  }

  template <class Reply>
  caf::result<Reply> with_tree(ref_scope& scope,
                               std::function<result<Reply>(const std::filesystem::path&)> look) {
    return start<Reply, Reply>(
        *calls_, false,
        [o = o_, scope, look = std::move(look)](std::stop_token stop) -> result<Reply> {
          auto job = context(*o, stop, scope.sessions, null_progress());
          KILN_TRY(auto ref, open_ref(*o, scope.ref, job));
          KILN_TRY(auto mounts, o->store->mounts(ref, job));
          KILN_TRY(auto mounted, store::mounted::make(*o->store, mounts));
          auto out = look(mounted.path());
          if (auto s = mounted.unmount(); !s.ok()) spdlog::warn("reading {}: {}", scope.ref, s.error().message);
          return out;
        },
        [](Reply reply, client&) -> result<Reply> { return reply; });
  }

  caf::result<gw::ResolveSourceMetaResponse> resolve(session_group& sessions, gw::ResolveSourceMetaRequest& r,
                                                     const progress_actor& progress) {
    auto build = memory_of(build_name(self_->current_sender()));
    return start<gw::ResolveSourceMetaResponse, gw::ResolveSourceMetaResponse>(
        *calls_, false,
        [o = o_, sessions, r, progress, build](std::stop_token stop) -> result<gw::ResolveSourceMetaResponse> {
          KILN_TRY(auto source, o->source(r.source().identifier()));
          progress_sender sink(progress, "");
          return source->resolve_meta(r, build, context(*o, stop, sessions, sink));
        },
        [](gw::ResolveSourceMetaResponse reply, client&) -> result<gw::ResolveSourceMetaResponse> { return reply; });
  }

  // Exports.

  using finalizer = std::function<result<std::map<std::string, std::string>>(const job_context&)>;

  caf::result<export_reply> run_export(export_request& r, const progress_actor& progress) {
    auto requester = caf::actor_cast<caf::actor_addr>(self_->current_sender());
    return start<export_reply, exporters::export_outcome>(
        *calls_, false,
        [o = o_, r, progress](std::stop_token stop) mutable -> result<exporters::export_outcome> {
          KILN_TRY(auto exporter, o->exporter(r.spec.type, r.spec.attributes, r.spec.index));
          progress_sender sink(progress, r.vertex);
          auto job = context(*o, stop, r.sessions, sink);
          exporters::export_input input;
          for (const auto& part : r.parts) {
            KILN_TRY(auto ref, open_ref(*o, part.ref, job));
            exporters::export_ref one{part.id, part.platform, std::move(ref), {}};
            for (const auto& a : part.attestations) {
              KILN_TRY(auto files, open_ref(*o, a.ref, job));
              one.attestations.push_back({a, std::move(files)});
            }
            input.refs.push_back(std::move(one));
          }
          input.multi_platform = r.multi_platform;
          input.metadata = r.metadata;
          input.session_id = r.session;
          if (r.inline_cache)
            input.inline_cache = [o, kept = fetch_trail(*o, r.trail, job), scope = scope_of(r.trail, o->imports.get())](
                                     std::size_t part, std::span<const store::layer_blob> layers,
                                     const job_context& job) {
              return exporters::inline_cache_of(scope, part, layers, o->cache_resources, job);
            };
          // The exporter may be needed by its own second phase.
          std::shared_ptr<exporters::exporter> shared = std::move(exporter);
          KILN_TRY(auto outcome, shared->run(input, job));
          if (outcome.finalize)
            outcome.finalize = [shared, input, f = std::move(outcome.finalize)](const job_context& job) { return f(job); };
          return outcome;
        },
        [this, requester](exporters::export_outcome outcome, client&) -> result<export_reply> {
          export_reply out;
          out.response = std::move(outcome.response);
          for (auto& d : outcome.results)
            out.results.push_back({d.media_type, d.digest.str(), d.size, d.annotations});
          if (outcome.finalize) {
            out.finalize = ++last_finalizer_;
            finalizers_[out.finalize] = {requester, std::move(outcome.finalize)};
          }
          return out;
        });
  }

  caf::result<export_reply> finalize(std::uint64_t id, export_request& r, const progress_actor& progress) {
    auto found = finalizers_.find(id);
    if (found == finalizers_.end()) return export_reply{};
    auto work = std::move(found->second.second);
    finalizers_.erase(found);
    using entries = std::map<std::string, std::string>;
    return start<export_reply, entries>(
        *calls_, false,
        [o = o_, work, r, progress](std::stop_token stop) -> result<entries> {
          progress_sender sink(progress, r.vertex);
          return work(context(*o, stop, r.sessions, sink));
        },
        [](entries response, client&) -> result<export_reply> { return export_reply{std::move(response), {}, 0}; });
  }

  void remember(const cache_facts& facts) {
    store::cache_keys::batch batch;
    for (const auto& l : facts.links) batch.links.push_back({l.link.parent, to_link(l.link), l.child});
    for (const auto& r : facts.results) batch.results.push_back({r.key, {r.id, r.created_at_ns}});
    // They only spare others a question.
    if (*facts_waiting_ >= configs::cluster::facts_waiting_max) return;
    ++*facts_waiting_;
    std::shared_ptr<void> waiting(nullptr, [count = facts_waiting_](void*) { --*count; });
    io_->submit([o = o_, batch = std::move(batch), waiting] {
      if (auto s = o->store->keys().add(batch); !s.ok()) spdlog::warn("keys of a peer's build not kept: {}", s.error().message);
    });
  }

  // Remote caches.

  caf::result<bool> import_cache(cache_import& r, const progress_actor& progress) {
    using cache_ptr = std::shared_ptr<exporters::imported_cache>;
    if (!o_->imports) return to_caf(make_error(errc::unimplemented, "this daemon imports no caches"));
    return start<bool, cache_ptr>(
        *calls_, false,
        [o = o_, r, progress](std::stop_token stop) -> result<cache_ptr> {
          KILN_TRY(auto importer, exporters::make_cache_importer(r.entry.type, r.entry.attributes, o->cache_resources));
          progress_sender sink(progress, r.vertex);
          return importer->load(context(*o, stop, r.sessions, sink));
        },
        [this, id = r.id](cache_ptr cache, client& c) -> result<bool> {
          cache->set_table_id(id);
          o_->imports->put(id, std::move(cache));
          c.imports.insert(id);
          return true;
        });
  }

  caf::result<run_reply> load_import(import_load& r, const progress_actor& progress) {
    auto cache = o_->imports ? o_->imports->find(r.id) : nullptr;
    if (!cache) return to_caf(make_error(errc::not_found, "cache import " + r.id + " has ended"));
    return start<run_reply, store::ref>(
        *calls_, false,
        [o = o_, r, cache, progress](std::stop_token stop) -> result<store::ref> {
          progress_sender sink(progress, r.vertex);
          return cache->load(r.result, *o->store, context(*o, stop, r.sessions, sink));
        },
        [](store::ref ref, client& c) -> result<run_reply> {
          if (ref) keep(c, ref);
          return run_reply{{ref ? ref.id() : ""}};
        });
  }

  caf::result<export_reply> export_cache(cache_export& r, const progress_actor& progress) {
    using entries = std::map<std::string, std::string>;
    return start<export_reply, entries>(
        *calls_, false,
        [o = o_, r, progress](std::stop_token stop) mutable -> result<entries> {
          KILN_TRY(auto exporter, exporters::make_cache_exporter(r.entry.type, r.entry.attributes, o->cache_resources));
          progress_sender sink(progress, r.vertex);
          auto job = context(*o, stop, r.sessions, sink);
          auto kept = fetch_trail(*o, r.trail, job);
          return exporters::export_cache(*exporter, scope_of(r.trail, o->imports.get()), o->cache_resources, job);
        },
        [](entries response, client&) -> result<export_reply> { return export_reply{std::move(response), {}, 0}; });
  }

  /// Empties named caches: the records whose description tells of them, unless they are in use.
  caf::result<bool> prune(prune_caches& r) {
    return start<bool, bool>(
        *io_, false,
        [o = o_, r](std::stop_token) -> result<bool> {
          store::prune_options options;
          options.all = true;
          for (const auto& [id, on_input] : r.ids)
            options.filters.push_back("type==exec.cachemount,description~=" + go_json_string(regex_of(id)));
          KILN_CHECK(o->store->prune(options, [](const store::usage_record&) {}));
          return true;
        },
        [](bool done, client&) -> result<bool> { return done; });
  }

  /// A pattern for descriptions of the cache mount `id` (`… with id "<id>"`).
  static std::string regex_of(const std::string& id) {
    std::string out = "with id \"";
    for (char c : id) {
      if (std::string_view("\\.+*?()|[]{}^$\"").find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
    return out + "\"$";
  }

  worker_impl::pointer self_;
  std::shared_ptr<job_pool> ops_, calls_, io_;  // never owned by jobs, so that whoever drops them last can join them
  options_ptr o_;                       // jobs keep it beyond this actor; without the pools
  ending ending_;
  job_runner runner_;
  std::map<caf::actor_addr, client> clients_;
  std::map<std::uint64_t, job> jobs_;
  std::map<std::uint64_t, std::pair<caf::actor_addr, finalizer>> finalizers_;
  std::deque<std::pair<std::uint64_t, std::function<void()>>> waiting_;
  quota<caf::node_id> jobs_of_nodes_{o_->jobs_of_node_max};
  std::shared_ptr<std::atomic<std::size_t>> facts_waiting_ = std::make_shared<std::atomic<std::size_t>>(0);
  std::uint64_t last_job_ = 0;
  std::uint64_t last_finalizer_ = 0;
  int busy_ = 0;
};

}  // namespace

worker_impl::behavior_type worker(worker_impl::stateful_pointer<actor_state> self, worker_options options) {
  return self->state.hold<worker_state>("worker", self, std::move(options)).behavior();
}

result<std::string> worker_id(store::ref_store& store) {
  constexpr const char* bucket = "worker";
  if (auto id = store.value(bucket, "id")) return *id;
  auto id = new_id();
  KILN_CHECK(store.set_value(bucket, "id", id));
  return id;
}

}  // namespace kiln::actors
