// What steps print, on the daemon's own standard output and error as well: for who debugs a daemon whose
// clients are elsewhere ($BUILDKIT_DEBUG_EXEC_OUTPUT=1).
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "messages/job.hpp"

namespace kiln::actors {

class echoed_output final : public progress_sink {
 public:
  explicit echoed_output(progress_sink& to) : to_(to) {}

  static bool wanted() {
    const char* set = std::getenv("BUILDKIT_DEBUG_EXEC_OUTPUT");
    return set != nullptr && std::string_view(set) == "1";
  }

  void log(int stream, std::string_view bytes) override {
    auto* file = stream == 1 ? stdout : stderr;
    std::fwrite(bytes.data(), 1, bytes.size(), file);
    std::fflush(file);
    to_.log(stream, bytes);
  }
  void progress(std::string_view id, std::int64_t current, std::int64_t total, bool done) override {
    to_.progress(id, current, total, done);
  }
  void warn(std::string_view text) override { to_.warn(text); }

 private:
  progress_sink& to_;
};

}  // namespace kiln::actors
