// Bringing a blob into the store from whatever gives its bytes from an offset on.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "messages/descriptor.hpp"
#include "messages/job.hpp"
#include "store/blobs/blob_store.hpp"

namespace kiln::store {

/// Takes the next bytes; an error ends the reading and is what it ends with.
using byte_taker = std::function<status(std::string_view)>;
/// Gives a blob's bytes from `offset` on.
using blob_reader = std::function<status(std::int64_t offset, const byte_taker& take)>;

/// Verified; resumes what an earlier attempt left; tells its progress. Waits while another brings the same
/// blob, and does nothing when it is there. data_loss, with the text `too_long`, when there is more of it
/// than its descriptor says.
status download_blob(const descriptor& blob, blob_store& into, const job_context& job,
                     const std::string& too_long, const blob_reader& read);

}  // namespace kiln::store
