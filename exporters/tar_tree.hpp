// Trees and blobs as entries of a tar archive. Knows nothing of exporters. Source: fsutil tarwriter.go.
#pragma once

#include <stop_token>
#include <string_view>

#include "filesync/tree.hpp"
#include "store/files/stream.hpp"
#include "store/archive/tar_writer.hpp"

namespace kiln::exporters {

/// An entry with its content at hand.
status add_entry(store::tar_writer& tar, store::tar_entry entry, std::string_view bytes = {});
/// An entry of `entry.size` bytes; data_loss when the source has more or less.
status add_entry(store::tar_writer& tar, const store::tar_entry& entry, store::byte_source& source);

/// Every entry of the tree, in its order; sockets are left out.
status write_tree(store::tar_writer& tar, filesync::file_tree& tree, std::stop_token stop);

}  // namespace kiln::exporters
