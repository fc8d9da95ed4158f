// The builds of this node: running ones, and finished ones kept with their logs. Owns the records and
// who listens. May be asked to list and listen, to pin and delete, to replay a finished build's progress;
// is told of builds by themselves. A listener that dies is forgotten. After a restart the running builds
// are unknown until they end.
#pragma once

#include <cstdint>
#include <memory>

#include "actors/handles.hpp"
#include "actors/job_pool.hpp"
#include "configs/solving.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::store {
class ref_store;
}

namespace kiln::actors {

struct history_options {
  store::ref_store* store = nullptr;
  std::shared_ptr<job_pool> io;
  int entries_max = configs::solving::history_entries_max;
  std::int64_t age_max_ns = std::chrono::nanoseconds(configs::solving::history_age_max).count();
};

using history_impl = history_actor::extend<caf::reacts_to<tick_atom, std::uint64_t>>;

history_impl::behavior_type history(history_impl::stateful_pointer<actor_state> self, history_options options);

/// Keeps a document for the record of a build, safe from `prune --all`; sets digest and size. Blocking.
status keep_document(store::ref_store& store, const std::string& ref, std::string_view bytes, ctl::Descriptor& out);

/// Which finished records may go: unpinned, beyond the newest `entries_max`, and older than the age. Refs.
std::vector<std::string> expired_records(const std::vector<ctl::BuildHistoryRecord>& records, int entries_max,
                                         std::int64_t age_max_ns, std::int64_t now_ns);

}  // namespace kiln::actors
