// What of all there is a prune takes, and in which order: pure.
#pragma once

#include <cstdint>
#include <vector>

#include "messages/filter.hpp"
#include "store/space/space.hpp"

namespace kiln::store {

/// The fields that filters know. Refers to the record. Source: BuildKit cache/manager.go, adaptUsageInfo.
filter::lookup fields_of(const usage_record& u);

/// How much may stay: as much as max_used_space, less if too little is free, never less than reserved.
/// Source: BuildKit cache/manager.go, calculateKeepBytes.
std::int64_t bytes_to_keep(const prune_rule& rule, std::int64_t total, std::int64_t free);

/// Orders candidates by how long ago and how seldom they were used, both as ranks of equal weight.
void sort_by_worth(std::vector<const usage_record*>& candidates);

}  // namespace kiln::store
