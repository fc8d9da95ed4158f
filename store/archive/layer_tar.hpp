// Writing a layer as an OCI layer tar: a snapshot's upper directory, or the difference of two directories.
// The bytes depend on the files only: sorted names, numeric owners, whole-second times, no access times and
// none of whiteouts.
// Source: OCI image-spec layer.md; containerd's archive.WriteDiff.
#pragma once

#include <filesystem>

#include "messages/job.hpp"
#include "store/files/stream.hpp"

namespace kiln::store {

/// How much of the files goes into the archive.
enum class tar_detail {
  image,  // what image layers hold
  exact,  // also what builds can see: times to the nanosecond, access lists, the root directory itself
};

/// An overlayfs upper directory: whiteouts become `.wh.` entries, opaque directories `.wh..wh..opq`.
status write_upper_tar(const std::filesystem::path& upper, bool user_namespace, byte_sink& out,
                       const job_context& job, tar_detail detail = tar_detail::image);

/// Only what an overlayfs upper directory changes over the tree `lower`: nothing that is the same there, and
/// a whiteout for each thing that an opaque directory hides.
status write_layer_change_tar(const std::filesystem::path& lower, const std::filesystem::path& upper,
                              bool user_namespace, byte_sink& out, const job_context& job);

/// What turns the tree `lower` into the tree `upper` (both plain directories).
status write_difference_tar(const std::filesystem::path& lower, const std::filesystem::path& upper,
                            byte_sink& out, const job_context& job, tar_detail detail = tar_detail::image);

}  // namespace kiln::store
