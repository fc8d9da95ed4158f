// The content of regular files where it has holes: copying, reading and writing so that they stay holes.
// Knows nothing of names or metadata. Thread-safe between different files.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "messages/job.hpp"
#include "store/files/stream.hpp"

namespace kiln::store {

/// Copies all bytes of one open file into another, which is empty: reflink, else copy_file_range, else read
/// and write. Ends soon after the job is told to stop.
status copy_file_data(int from, int to, const job_context& job);

/// Reads a file from its start; what lies in a hole is not read but known.
std::unique_ptr<byte_source> read_file_data(unique_fd file);

bool is_zero(std::string_view bytes);

/// Writes a new file front to back (or wherever it is told to go on); long runs of zeros become holes. The
/// descriptor may be another one each time, but not one that appends.
class sparse_writer {
 public:
  status write(int fd, std::string_view bytes);
  /// Goes on at this offset; what was skipped is a hole.
  void move_to(std::int64_t offset);
  /// Makes the file as long as what was written to it, or longer.
  status finish(int fd, std::int64_t size = 0);
  std::int64_t offset() const { return at_; }

 private:
  status flush_zeros(int fd);

  std::int64_t at_ = 0;     // of what comes next
  std::int64_t zeros_ = 0;  // bytes before it that are zeros and not yet written
  std::int64_t end_ = 0;    // of the file
};

}  // namespace kiln::store
