// The builds of this node: running ones, and finished ones kept with their logs. Owns the records and
// who listens. May be asked to list and listen, to pin and delete, to replay a finished build's progress;
// is told of builds by themselves. A listener that dies is forgotten. After a restart the running builds
// are unknown until they end. What is too old or too much is cleaned away by a timer, a few records at a
// time.
#pragma once

#include <cstdint>
#include <memory>

#include "actors/handles.hpp"
#include "actors/history/history_index.hpp"
#include "actors/job_pool.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::store {
class ref_store;
}

namespace kiln::actors {

struct history_options {
  store::ref_store* store = nullptr;
  std::shared_ptr<job_pool> io;
  history_bounds bounds;
  std::shared_ptr<history_index>
      index;  // empty, for tests that look at the work it has; null: one of its own
};

/// It is time to look for what is too old or too much.
using sweep_atom = caf::atom_constant<caf::atom("sweep")>;

using history_impl =
    history_actor::extend<caf::reacts_to<sweep_atom>, caf::reacts_to<job_done_atom, std::uint64_t>>;

history_impl::behavior_type history(history_impl::stateful_pointer<actor_state> self,
                                    history_options options);

/// Keeps a document for the record of a build, safe from `prune --all`; sets digest and size. Blocking.
status keep_document(store::ref_store& store, const std::string& ref, std::string_view bytes,
                     ctl::Descriptor& out);

}  // namespace kiln::actors
