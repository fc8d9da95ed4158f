#include "client/warning.hpp"

#include <atomic>
#include <ctime>

#include <fmt/format.h>

#include "base/json_text.hpp"
#include "base/plain_text.hpp"
#include "base/time_text.hpp"

namespace kiln::client {

namespace {
std::atomic<bool> json_lines = false;
}  // namespace

std::string warning_line(std::string_view text, bool as_json) {
  if (!as_json) return "WARNING: " + one_line(text);
  return json_text(nlohmann::json{
      {"level", "warning"}, {"msg", text}, {"time", format_rfc3339_seconds(std::time(nullptr))}});
}

void warn_as_json(bool as_json) { json_lines = as_json; }

void warn(std::string_view text) { fmt::print(stderr, "{}\n", warning_line(text, json_lines)); }

}  // namespace kiln::client
