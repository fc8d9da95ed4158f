// What a blocking job (an op, a source, an export) is given: how to be cancelled, whom to ask, whom to tell.
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <string_view>

#include "messages/session.hpp"

namespace kiln {

/// Receives the progress of one vertex. Thread-safe; log() may block to slow a noisy step down.
class progress_sink {
 public:
  virtual ~progress_sink() = default;
  /// stream: 1 standard output, 2 standard error.
  virtual void log(int stream, std::string_view bytes) = 0;
  /// One named sub-status ("sha256:… 3 MB / 8 MB"). total 0 = unknown; done marks its end.
  virtual void progress(std::string_view id, std::int64_t current, std::int64_t total, bool done) = 0;
  /// A warning, level 1, shown with the vertex.
  virtual void warn(std::string_view text) = 0;
};

/// Swallows everything.
progress_sink& null_progress();

struct job_context {
  std::stop_token stop;
  session_group sessions;
  session_directory* directory = nullptr;  // null: no client to ask
  progress_sink* progress = &null_progress();

  /// errc::cancelled once the job is no longer wanted.
  status check() const {
    if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
    return {};
  }
};

}  // namespace kiln
