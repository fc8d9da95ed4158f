// Digests of file-system content under a selector: what content-based cache keys are made of.
// Source: BuildKit cache/contenthash (tarsum-v1 style headers, DIR and DIR_HEADER records, wildcards).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "messages/content_selector.hpp"
#include "store/ref_store.hpp"

namespace kiln::store {

/// The digest of what the selectors pick from `r` (unlazied as needed). Several selectors are joined
/// by NUL and hashed. Per-file digests are kept with the record, so a second question is cheap.
/// not_found when a path without wildcard does not exist.
result<digest> content_checksum(ref_store& store, const ref& r,
                                const std::vector<content_selector>& selectors, const job_context& job);

}  // namespace kiln::store
