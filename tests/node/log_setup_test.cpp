#include <catch2/catch.hpp>

#include <sstream>

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include "node/log_setup.hpp"
#include "base/json_text.hpp"

using namespace kiln;

namespace {

std::string logged(const std::string& format, const std::string& outside) {
  std::ostringstream out;
  auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(out);
  sink->set_formatter(node::log_formatter(format));
  spdlog::logger logger("test", sink);
  logger.info("build {}: done", outside);
  logger.flush();
  return out.str();
}

const std::string forged =
    "x\n2026-01-01T00:00:00.000 I root logged in\r\x1b[2J\x1b]0;t\a\u009b31m\u2028\u202e\xff";

}  // namespace

TEST_CASE("text from outside cannot end a log line, nor talk to the terminal that shows it") {
  auto line = logged("text", forged);
  CHECK(line.find('\n') == line.size() - 1);
  CHECK(line.find("build x\\n2026-01-01T00:00:00.000 I root logged "
                  "in\\r\\x1b[2J\\x1b]0;t\\x07\\x9b31m\\u2028\\u202e\xef\xbf\xbd"
                  ": done") != std::string::npos);
  for (char c : line.substr(0, line.size() - 1)) CHECK(static_cast<unsigned char>(c) >= 0x20);
}

TEST_CASE("a JSON log line is one object, whatever is in its message") {
  auto line = logged("json", forged + "\",\"level\":\"error");
  CHECK(line.find('\n') == line.size() - 1);
  auto j = parse_json(line);
  REQUIRE(j.ok());
  CHECK(text_member(*j, "level") == "info");
  CHECK(text_member(*j, "msg").starts_with("build x\n2026"));
}
