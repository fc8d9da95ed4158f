// A tar stream with its times clamped: entries newer than the epoch get it, the rest passes unchanged.
// Pure. Source: util/converter/tarconverter; POSIX pax.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/files/stream.hpp"

namespace kiln::exporters {

/// A sink that passes a tar on to `out`; finish() tells of a truncated archive and does not finish `out`.
class tar_time_clamp : public store::byte_sink {
 public:
  tar_time_clamp(store::byte_sink& out, std::int64_t epoch_seconds) : out_(out), epoch_(epoch_seconds) {}
  status write(std::string_view bytes) override;
  status finish() override;

 private:
  status block(std::string& header);
  status pax();

  store::byte_sink& out_;
  std::int64_t epoch_;
  std::string header_;            // being collected, up to 512 bytes
  std::uint64_t body_left_ = 0;   // bytes of content and padding to pass on
  bool in_pax_ = false;           // collecting a pax header's content
  std::string pax_header_, pax_;  // its 512-byte header and content
  std::uint64_t pax_left_ = 0, pax_size_ = 0;
};

}  // namespace kiln::exporters
