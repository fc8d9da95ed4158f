#include "actors/worker/worker.hpp"

#include "actors/ending.hpp"
#include "actors/worker/cache_mover.hpp"
#include "actors/worker/export_runner.hpp"
#include "actors/worker/job_table.hpp"
#include "actors/worker/ref_pins.hpp"
#include "actors/worker/step_runner.hpp"
#include "actors/worker/worker_context.hpp"

namespace kiln::actors {

namespace {

class worker_state {
 public:
  worker_state(worker_impl::pointer self, worker_options options) : w_(self, std::move(options)) {}

  ~worker_state() {
    // Where there are other nodes, what was asked of this one may be asked of them.
    jobs_.refuse_all(ending_.for_waiters(make_error(errc::unavailable, "worker is shutting down"),
                                         w_.options->fetch ? errc::unavailable : errc::internal));
  }

  worker_impl::behavior_type behavior() {
    ending_.watch(w_.self, "the worker");
    w_.self->set_down_handler([this](caf::down_msg& m) { drop(m.source); });
    return {
        [this](describe_atom) { return steps_.describe(); },
        [this](key_request& r, const progress_actor& progress) { return steps_.key(r, progress); },
        [this](run_request& r, const progress_actor& progress) { return steps_.run(r, progress); },
        [this](checksum_request& r, const progress_actor& progress) { return steps_.checksum(r, progress); },
        [this](pin_atom, const std::string& id) { return pins_.pin(id); },
        [this](release_atom, const std::string& id) { pins_.release(id); },
        [this](ref_scope& s, gw::ReadFileRequest& r) { return steps_.read(s, r); },
        [this](ref_scope& s, gw::ReadDirRequest& r) { return steps_.read(s, r); },
        [this](ref_scope& s, gw::StatFileRequest& r) { return steps_.read(s, r); },
        [this](session_group& sessions, gw::ResolveSourceMetaRequest& r, const progress_actor& progress) {
          return steps_.resolve(sessions, r, progress);
        },
        [this](check_atom, const export_spec& spec) { return exports_.check(spec); },
        [this](export_request& r, const progress_actor& progress) { return exports_.run(r, progress); },
        [this](finalize_atom, std::uint64_t id, export_request& r, const progress_actor& progress) {
          return exports_.finalize(id, r, progress);
        },
        [this](prune_caches& r) { return caches_.prune(r); },
        [this](check_atom, cache_entry& e) { return caches_.check(e); },
        [this](cache_import& r, const progress_actor& progress) { return caches_.import(r, progress); },
        [this](import_load& r, const progress_actor& progress) { return caches_.load(r, progress); },
        [this](cache_export& r, const progress_actor& progress) { return caches_.export_cache(r, progress); },
        [this](load_count_atom) { return jobs_.load(); },
        [this](remember_atom, cache_records& facts) { caches_.remember(facts); },
        [this](leave_atom, const caf::strong_actor_ptr& who) { drop(caf::actor_cast<caf::actor_addr>(who)); },
        [this](job_done_atom, std::uint64_t id) { jobs_.finish(id); },
    };
  }

 private:
  void drop(const caf::actor_addr& who) {
    if (!jobs_.drop(who)) return;
    pins_.drop(who);
    caches_.drop(who);
    exports_.drop(who);
  }

  worker_context w_;
  job_table jobs_{w_};
  ref_pins pins_{w_, jobs_};
  step_runner steps_{w_, jobs_, pins_};
  export_runner exports_{w_, jobs_};
  cache_mover caches_{w_, jobs_, pins_};
  ending ending_;
};

}  // namespace

worker_impl::behavior_type worker(worker_impl::stateful_pointer<actor_state> self, worker_options options) {
  return self->state.hold<worker_state>("worker", self, std::move(options)).behavior();
}

result<std::string> worker_id(store::ref_store& store) {
  constexpr const char* bucket = "worker";
  if (auto id = store.values().get(bucket, "id")) return *id;
  auto id = new_id();
  KILN_CHECK(store.values().set(bucket, "id", id));
  return id;
}

}  // namespace kiln::actors
