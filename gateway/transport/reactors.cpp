#include "gateway/transport/reactors.hpp"

#include <spdlog/spdlog.h>

namespace kiln::gateway {

void log_failure(std::string_view method, const error& e) {
  auto level = e.code == errc::cancelled ? spdlog::level::debug : spdlog::level::err;
  spdlog::log(level, "{}: {}: {}", method, to_string(e.code), e.message);
}

}  // namespace kiln::gateway
