#include "gateway/transport/reactors.hpp"

#include <spdlog/spdlog.h>

#include "messages/stack_text.hpp"

namespace kiln::gateway {

void log_failure(std::string_view method, const error& e) {
  auto level = e.code == errc::cancelled ? spdlog::level::debug : spdlog::level::err;
  spdlog::log(level, "{}: {}: {}", method, to_string(e.code), e.message);
  log_stacks(e);
}

void log_stacks(const error& e) {
  if (!spdlog::should_log(spdlog::level::debug)) return;
  if (auto text = stack_text(e); !text.empty()) spdlog::debug("{}\n{}", e.message, text);
}

}  // namespace kiln::gateway
