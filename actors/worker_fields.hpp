// What filters can ask of a worker's record: its id and its labels. Pure.
// Source: BuildKit worker/filter.go.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "messages/filter.hpp"
#include "worker.pb.h"

namespace kiln::actors {

/// Refers to the record. A label's name may have dots, which a path is cut at.
inline filter::lookup fields_of(const moby::buildkit::v1::types::WorkerRecord& record) {
  return [&record](std::span<const std::string> path) -> std::optional<std::string> {
    if (path.size() == 1 && path[0] == "id") return record.id();
    if (path.size() < 2 || path[0] != "labels") return std::nullopt;
    std::string name = path[1];
    for (const auto& part : path.subspan(2)) name += "." + part;
    auto label = record.labels().find(name);
    if (label == record.labels().end()) return std::nullopt;
    return label->second;
  };
}

}  // namespace kiln::actors
