#include "actors/history/history_trace.hpp"
#include "base/json_text.hpp"

#include <catch2/catch.hpp>

using namespace kiln::actors;
namespace ctl = moby::buildkit::v1;

namespace {

std::vector<nlohmann::json> spans_of(const ctl::BuildHistoryRecord& record,
                                     const std::vector<ctl::StatusResponse>& log) {
  std::vector<nlohmann::json> out;
  auto text = trace_of(record, log);
  // One document after the other, as Go's encoder writes them.
  for (std::size_t at = 0; at < text.size();) {
    auto end = text.find("\n}\n", at);
    out.push_back(nlohmann::json::parse(text.substr(at, end + 3 - at)));
    at = end + 3;
  }
  return out;
}

void set(google::protobuf::Timestamp& t, std::int64_t seconds) { t.set_seconds(seconds); }

}  // namespace

TEST_CASE("the trace of a build has its steps below it and their reports below those") {
  ctl::BuildHistoryRecord record;
  record.set_ref("b1");
  record.set_frontend("dockerfile.v0");
  set(*record.mutable_createdat(), 100);
  set(*record.mutable_completedat(), 110);
  record.mutable_error()->set_message("it failed");

  std::vector<ctl::StatusResponse> log(2);
  auto& begun = *log[0].add_vertexes();
  begun.set_digest("sha256:a");
  begun.set_name("[1/1] RUN x");
  set(*begun.mutable_started(), 101);
  auto& pulled = *log[0].add_statuses();
  pulled.set_vertex("sha256:a");
  pulled.set_id("layer");
  set(*pulled.mutable_started(), 102);
  auto& never_run = *log[0].add_vertexes();
  never_run.set_digest("sha256:b");
  never_run.set_name("[2/2] RUN y");
  auto& ended = *log[1].add_vertexes();
  ended = begun;
  set(*ended.mutable_completed(), 105);
  ended.set_error("exit code: 1");
  auto& done = *log[1].add_statuses();
  done = pulled;
  done.set_current(7);
  set(*done.mutable_completed(), 103);

  auto spans = spans_of(record, log);
  REQUIRE(spans.size() == 3);
  CHECK(spans[0]["Name"] == "moby.buildkit.v1.Control/Solve");
  CHECK(spans[0]["Status"]["Description"] == "it failed");
  CHECK(spans[0]["StartTime"] == "1970-01-01T00:01:40Z");
  CHECK(spans[0]["Parent"]["SpanID"] == "0000000000000000");
  CHECK(spans[0]["ChildSpanCount"] == 1);
  CHECK(spans[1]["Name"] == "[1/1] RUN x");
  CHECK(spans[1]["Parent"]["SpanID"] == spans[0]["SpanContext"]["SpanID"]);
  CHECK(spans[1]["EndTime"] == "1970-01-01T00:01:45Z");
  CHECK(spans[1]["Status"]["Code"] == "Error");
  CHECK(spans[1]["Attributes"][0]["Value"]["Value"] == "sha256:a");
  CHECK(spans[2]["Name"] == "layer");
  CHECK(spans[2]["Parent"]["SpanID"] == spans[1]["SpanContext"]["SpanID"]);
  CHECK(spans[2]["Attributes"][0]["Value"]["Value"] == 7);
  for (const auto& s : spans) CHECK(s["SpanContext"]["TraceID"] == spans[0]["SpanContext"]["TraceID"]);
  CHECK(trace_of(record, log) == trace_of(record, log));
}
