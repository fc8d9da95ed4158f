// The side of a tree transfer that writes the files: compares what it is told with what it has, asks for what
// differs.
//
// Nothing is ever written through a file that exists: changed files are made under a temporary name and
// renamed into place, so a tree hard-linked from the destination stays as it was. The peer is not trusted:
// order, parents, links and ids are checked, and no symlink below the destination is followed. Works over any
// message_stream; uses threads of its own while it runs. Source: fsutil receive.go, diskwriter.go.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "messages/session.hpp"
#include "filesync/file_stat.hpp"

namespace kiln::filesync {

enum class differ {
  metadata,  // equal size, mtime, mode, owner, device and link: not asked for again
  none,      // everything is asked for
};

struct receive_options {
  /// Keep what the sender does not have, and ask for every file.
  bool merge = false;
  filesync::differ differ = differ::metadata;
  /// May change an entry (owner) before it is compared and written; false leaves it out.
  std::function<bool(file_stat&)> filter;
  /// Set = metadata-only transfer: entries for which it is false are listed in `.fsutil-metadata`
  /// (little-endian uint32 length, then Stat, for every entry) but not written.
  std::function<bool(const file_stat&)> metadata_only_except;
  /// Bytes received so far; `last` once, at the end. Called on the calling thread.
  std::function<void(std::int64_t bytes, bool last)> progress;
  /// Breaks the stream from outside, for a peer that ignores our error; may be empty.
  std::function<void()> cancel;
};

inline constexpr const char* metadata_file_name = ".fsutil-metadata";

/// Receives into the directory `destination`. Returns when the sender has confirmed the end.
/// Errors: "error from sender: …", the peer's verdict when the stream ends early, what went wrong on disk,
/// invalid_argument for a sender that breaks the protocol.
status receive(message_stream& stream, int destination, const receive_options& options = {});
status receive(message_stream& stream, const std::string& destination, const receive_options& options = {});

}  // namespace kiln::filesync
