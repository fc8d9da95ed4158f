#include "node/log_setup.hpp"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "base/json_text.hpp"
#include "base/plain_text.hpp"

namespace kiln::node {

namespace {

std::string json_message(std::string_view text) { return json_text(nlohmann::json(text)); }

/// The message as a function makes it.
template <std::string (*Write)(std::string_view)>
class message final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& m, const std::tm&, spdlog::memory_buf_t& out) override {
    auto text = Write({m.payload.data(), m.payload.size()});
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<message>(); }
};

}  // namespace

std::unique_ptr<spdlog::formatter> log_formatter(const std::string& format) {
  if (format == "json") {
    auto out = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
    out->add_flag<message<json_message>>('*').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%fZ","level":"%l","msg":%*})");
    return out;
  }
  auto out = std::make_unique<spdlog::pattern_formatter>();
  out->add_flag<message<one_line>>('*').set_pattern("%Y-%m-%dT%H:%M:%S.%e %L %*");
  return out;
}

void set_up_logging(const configs::daemon_config& config) {
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  auto logger = std::make_shared<spdlog::logger>("kilnd", sink);
  sink->set_formatter(log_formatter(config.log_format));
  auto level = config.log_level;
  if (level == "warning") level = "warn";
  if (level == "fatal" || level == "panic") level = "critical";
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace kiln::node
