// The commands besides build. Each writes its result to stdout.
#pragma once

#include "base/result.hpp"
#include "client/flags/flags.hpp"
#include "client/interrupt.hpp"

namespace kiln::client {

status run_du(const global_flags& global, const du_flags& flags, interrupt_handler& interrupts);
status run_prune(const global_flags& global, const prune_flags& flags, interrupt_handler& interrupts);
status run_prune_histories(const global_flags& global, const prune_histories_flags& flags,
                           interrupt_handler& interrupts);
status run_workers(const global_flags& global, const workers_flags& flags, interrupt_handler& interrupts);
status run_info(const global_flags& global, const info_flags& flags, interrupt_handler& interrupts);
status run_histories(const global_flags& global, const histories_flags& flags, interrupt_handler& interrupts);
status run_logs(const global_flags& global, const logs_flags& flags, interrupt_handler& interrupts);
status run_monitor(const global_flags& global, const monitor_flags& flags, interrupt_handler& interrupts);
status run_get(const global_flags& global, const get_flags& flags, interrupt_handler& interrupts);
status run_ctl(const global_flags& global, const ctl_flags& flags, interrupt_handler& interrupts);
status run_cluster(const global_flags& global, const cluster_flags& flags, interrupt_handler& interrupts);
status run_cluster_drain(const global_flags& global, const cluster_drain_flags& flags,
                         interrupt_handler& interrupts);
status run_cluster_certs(const cluster_certs_flags& flags);
status run_dump_llb(const dump_llb_flags& flags);
status run_dump_metadata(const dump_metadata_flags& flags);

}  // namespace kiln::client
