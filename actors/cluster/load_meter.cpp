#include "actors/cluster/load_meter.hpp"

namespace kiln::actors {

void load_meter::measure() {
  const auto& o = c_.options;
  if (auto worker = o.worker(); worker && !asking_worker_) {
    asking_worker_ = true;
    c_.self->request(worker, caf::infinite, load_count_atom::value)
        .then(
            [this](const worker_load& l) {
              asking_worker_ = false;
              c_.load.running = l.running;
              c_.load.waiting = l.waiting;
            },
            [this](caf::error&) { asking_worker_ = false; });
  }
  if (!o.counters || counting_) return;
  counting_ = true;
  c_.jobs.run<node_load>(
      c_.self, *o.io, [counters = o.counters]() -> result<node_load> { return counters(); },
      [this](result<node_load> counted) {
        counting_ = false;
        if (!counted.ok()) return;
        c_.load.bytes_in = counted->bytes_in;
        c_.load.bytes_out = counted->bytes_out;
        c_.load.refs = counted->refs;
        c_.load.disk_free = counted->disk_free;
      });
}

}  // namespace kiln::actors
