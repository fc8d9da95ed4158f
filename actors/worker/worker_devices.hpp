// CDI devices as a worker's record tells of them, and back. Pure.
#pragma once

#include <vector>

#include "solver/devices.hpp"
#include "worker.pb.h"

namespace kiln::actors {

inline std::vector<moby::buildkit::v1::types::CDIDevice> to_proto(
    const std::vector<solver::device>& devices) {
  std::vector<moby::buildkit::v1::types::CDIDevice> out;
  for (const auto& d : devices) {
    auto& to = out.emplace_back();
    to.set_name(d.name);
    to.set_autoallow(d.auto_allowed);
    to.mutable_annotations()->insert(d.annotations.begin(), d.annotations.end());
  }
  return out;
}

inline void set_devices(moby::buildkit::v1::types::WorkerRecord& record,
                        const std::vector<solver::device>& devices) {
  auto all = to_proto(devices);
  record.mutable_cdidevices()->Assign(all.begin(), all.end());
}

inline std::vector<solver::device> devices_of(const moby::buildkit::v1::types::WorkerRecord& record) {
  std::vector<solver::device> out;
  for (const auto& d : record.cdidevices())
    out.push_back({d.name(), {d.annotations().begin(), d.annotations().end()}, d.autoallow()});
  return out;
}

}  // namespace kiln::actors
