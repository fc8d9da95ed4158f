#include "gateway/transport/reactors.hpp"

#include <spdlog/spdlog.h>

#include "base/text.hpp"
#include "messages/stack_text.hpp"

namespace kiln::gateway {

void log_failure(std::string_view method, const error& e) {
  auto level = e.code == errc::cancelled ? spdlog::level::debug : spdlog::level::err;
  spdlog::log(level, "{}: {}: {}", method, to_string(e.code), e.message);
  log_stacks(e);
}

void log_stacks(const error& e) {
  if (!spdlog::should_log(spdlog::level::debug)) return;
  // A line each: in the log one message is one line.
  auto text = stack_text(e);
  for (auto line : split_views(text, '\n')) {
    bool place = line.starts_with('\t');
    if (!line.empty()) spdlog::debug("  {}{}", place ? "    " : "", line.substr(place ? 1 : 0));
  }
}

}  // namespace kiln::gateway
