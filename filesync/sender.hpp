// The side of a tree transfer that owns the files: tells every entry, then sends what is asked for.
// Works over any message_stream; uses threads of its own while it runs. Source: fsutil send.go, wire.md
// section 6.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>

#include "base/result.hpp"
#include "messages/session.hpp"
#include "filesync/tree.hpp"

namespace kiln::filesync {

struct send_options {
  std::stop_token stop;
  /// Bytes sent so far (packets, not file content alone); `last` once, at the end. Any thread.
  std::function<void(std::int64_t bytes, bool last)> progress;
  /// Breaks the stream from outside, for a peer that neither reads nor ends; may be empty.
  std::function<void()> cancel;
};

/// Sends the tree and returns when the receiver has everything (it said FIN and we answered).
/// Does not end the stream: a client calls writes_done() and finish(), a server returns.
/// Errors: the walk's, "error from receiver: …", "invalid file id N", unavailable when the stream breaks.
status send(message_stream& stream, file_tree& tree, const send_options& options = {});

}  // namespace kiln::filesync
