// The digest of one file-system object as BuildKit computes it: a tarsum-v1 header, then the content.
// Names and times are left out. Source: BuildKit cache/contenthash/filehash.go and tarsum.go.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>

#include "messages/job.hpp"
#include "store/files/xattr.hpp"

namespace kiln::store {

/// The header's text. `link` is a symlink's target; for everything else empty.
std::string tarsum_header(const struct stat& info, const std::string& link, const xattr_map& xattrs);

/// "sha256:…" of the entry `name` of an open directory; of a directory only its own header.
result<std::string> file_digest(int directory, const std::string& name, const struct stat& info,
                                const job_context& job);

}  // namespace kiln::store
