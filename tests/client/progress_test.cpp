#include <catch2/catch.hpp>

#include <algorithm>

#include "client/progress/colors.hpp"
#include "client/progress/format.hpp"
#include "client/progress/frame.hpp"
#include "client/progress/plain.hpp"
#include "client/progress/status_json.hpp"
#include "client/progress/text_width.hpp"

using namespace kiln::client;

namespace {

constexpr nanoseconds_t second = 1'000'000'000;
constexpr nanoseconds_t t0 = 1'767'323'045 * second;  // 2026-01-02T03:04:05Z

vertex make_vertex(const std::string& name, std::optional<nanoseconds_t> started = std::nullopt,
                   std::optional<nanoseconds_t> completed = std::nullopt) {
  vertex v;
  v.digest = "sha256:" + name;
  v.name = name;
  v.started = started;
  v.completed = completed;
  return v;
}

vertex_log make_log(const std::string& name, const std::string& data, nanoseconds_t at) {
  return {"sha256:" + name, 1, data, at};
}

// A plain display whose every update is printed at once.
struct plain_fixture {
  std::string out;
  plain_display display{[this](std::string_view s) { out += s; }, {.period = 0}};
  void update(solve_status s, nanoseconds_t now) { display.update(s, now); }
};

std::vector<std::string> texts(const std::vector<frame_line>& lines) {
  std::vector<std::string> out;
  for (const auto& l : lines) {
    CHECK(text_width(l.text) == l.width);
    out.push_back(l.text);
  }
  return out;
}

frame_options plain_frame() {
  frame_options o;
  o.unicode = false;
  return o;
}

}  // namespace

TEST_CASE("The plain display writes a step's life exactly as BuildKit does") {
  plain_fixture f;
  f.update({.vertices = {make_vertex("[internal] load build definition from Dockerfile", t0)}}, t0);
  vertex_status s{.id = "transferring dockerfile:",
                  .vertex = "sha256:[internal] load build definition from Dockerfile",
                  .current = 32,
                  .timestamp = t0,
                  .started = t0,
                  .completed = t0 + second / 1000};
  f.update({.statuses = {s}}, t0);
  f.update(
      {.vertices = {make_vertex("[internal] load build definition from Dockerfile", t0, t0 + second / 50)}},
      t0);
  auto cached = make_vertex("[2/2] COPY . .", t0 + second, t0 + second);
  cached.cached = true;
  f.update({.vertices = {cached}}, t0 + second);
  f.display.finish(t0 + second);
  CHECK(f.out ==
        "#1 [internal] load build definition from Dockerfile\n"
        "#1 transferring dockerfile: 32B done\n"
        "#1 DONE 0.0s\n"
        "\n"
        "#2 [2/2] COPY . .\n"
        "#2 CACHED\n");
}

TEST_CASE("Log lines carry the seconds since the step began, and unfinished lines are continued") {
  plain_fixture f;
  f.update({.vertices = {make_vertex("RUN make", t0)}}, t0);
  f.update({.logs = {make_log("RUN make", "one\ntw", t0 + second / 8)}}, t0);
  f.update({.logs = {make_log("RUN make", "o\n", t0 + second)}}, t0);
  f.update({.logs = {make_log("RUN make", "late\n", t0 + 12 * second + second / 4)}}, t0);
  f.update({.logs = {make_log("RUN make", "later\n", t0 + 123 * second)}}, t0);
  f.update({.vertices = {make_vertex("RUN make", t0, t0 + 124 * second)}}, t0);
  CHECK(f.out ==
        "#1 RUN make\n"
        "#1 0.125 one\n"
        "#1 0.125 two\n"
        "#1 12.25 late\n"
        "#1 123.0 later\n"
        "#1 DONE 124.0s\n");
}

TEST_CASE("A line that does not end is broken rather than kept whole, and nothing of it is lost") {
  plain_fixture f;
  f.update({.vertices = {make_vertex("RUN yes", t0)}}, t0);
  const std::string piece(100'000, 'y');
  for (int i = 0; i < 40; ++i) f.update({.logs = {make_log("RUN yes", piece, t0 + second)}}, t0);
  f.update({.logs = {make_log("RUN yes", "!\n", t0 + second)}}, t0);
  CHECK(std::count(f.out.begin(), f.out.end(), 'y') == 40 * 100'000 + 1);  // and one in its name
  auto longest = 0 * f.out.size();
  for (std::size_t at = 0; at < f.out.size();) {
    auto end = std::min(f.out.find('\n', at), f.out.size());
    longest = std::max(longest, end - at);
    at = end + 1;
  }
  CHECK(longest < 500'000);
}

TEST_CASE("A failed step ends with ERROR and its last ten log lines are repeated") {
  plain_fixture f;
  f.update({.vertices = {make_vertex("RUN false", t0)}}, t0);
  std::string log;
  for (int i = 1; i <= 12; ++i) log += "line " + std::to_string(i) + "\n";
  f.update({.logs = {make_log("RUN false", log, t0)}}, t0);
  auto failed = make_vertex("RUN false", t0, t0 + second);
  failed.error = "exit code: 1";
  auto cancelled = make_vertex("RUN other", t0, t0 + second);
  cancelled.error = "failed: context canceled";
  f.update({.vertices = {failed, cancelled}}, t0);
  f.out.clear();
  f.display.finish(t0 + second);
  std::string expected = "------\n > RUN false:\n";
  for (int i = 3; i <= 12; ++i) expected += "0.000 line " + std::to_string(i) + "\n";
  CHECK(f.out == expected + "------\n");
}

TEST_CASE("Cancelled steps say so") {
  plain_fixture f;
  auto cancelled = make_vertex("RUN other", t0, t0 + second);
  cancelled.error = "failed: context canceled";
  f.update({.vertices = {cancelled}}, t0);
  CHECK(f.out == "#1 RUN other\n#1 CANCELED\n");
}

TEST_CASE("Switching to another step is announced, and back again") {
  plain_fixture f;
  f.update({.vertices = {make_vertex("A", t0)}}, t0);
  f.update({.logs = {make_log("A", "a\n", t0)}}, t0);
  f.update({.vertices = {make_vertex("B", t0 + second, t0 + 2 * second)}}, t0 + 2 * second);
  f.update({.vertices = {make_vertex("A", t0, t0 + 3 * second)}}, t0 + 3 * second);
  CHECK(f.out ==
        "#1 A\n#1 0.000 a\n#1 ...\n\n"
        "#2 B\n#2 DONE 1.0s\n\n"
        "#1 A\n#1 DONE 3.0s\n");
}

TEST_CASE("The reason why a step ran again is printed once, right under its name") {
  plain_fixture f;
  vertex_status reason{.id = "rebuilt: src/main.c changed", .vertex = "sha256:RUN make", .timestamp = t0};
  f.update({.vertices = {make_vertex("RUN make", t0)}, .statuses = {reason, reason}}, t0);
  f.update({.vertices = {make_vertex("RUN make", t0, t0 + second)}, .statuses = {reason}}, t0);
  CHECK(f.out == "#1 RUN make\n#1 rebuilt: src/main.c changed\n#1 DONE 1.0s\n");
}

TEST_CASE("Warnings are printed with their step and summed up at the end") {
  plain_fixture f;
  vertex_warning w{.vertex = "sha256:A", .level = 1, .brief = "JSONArgsRecommended: use JSON (line 3)"};
  f.update({.vertices = {make_vertex("A", t0)}}, t0);
  f.update({.vertices = {make_vertex("A", t0, t0)}, .warnings = {w}}, t0);
  f.display.finish(t0);
  CHECK(f.out ==
        "#1 A\n#1 WARN: JSONArgsRecommended: use JSON (line 3)\n#1 DONE 0.0s\n"
        "\n 1 warning found:\n - JSONArgsRecommended: use JSON (line 3)\n");
}

TEST_CASE("A progress group is one step whose time is that of its members without gaps") {
  plain_fixture f;
  auto member = [](const std::string& name, bool weak, nanoseconds_t from, nanoseconds_t to) {
    auto v = make_vertex(name, from, to);
    v.group = progress_group{"g", "the group", weak};
    return v;
  };
  f.update({.vertices = {member("m0", true, t0, t0 + second)}}, t0);
  CHECK(f.out.empty());  // only weak members so far
  f.update({.vertices = {member("m1", false, t0 + 5 * second, t0 + 7 * second)}}, t0 + 7 * second);
  CHECK(f.out == "#1 the group\n#1 DONE 3.0s\n");
}

TEST_CASE("Overlapping intervals merge and an open one swallows the rest") {
  CHECK(merge_intervals({{5, 7}, {1, 3}, {2, 4}}) == std::vector<interval>{{1, 4}, {5, 7}});
  CHECK(merge_intervals({{1, std::nullopt}, {2, 4}}) == std::vector<interval>{{1, std::nullopt}});
  CHECK(merge_intervals({{1, 9}, {2, 4}}) == std::vector<interval>{{1, 9}});
  CHECK(merge_intervals({}).empty());
}

TEST_CASE("rawjson lines are Go's JSON of the status") {
  auto v = make_vertex("a<b", t0, t0 + 1'500'000);
  v.cached = true;
  solve_status s{.vertices = {v}, .logs = {make_log("x", "hi\n", t0)}};
  s.statuses.push_back({.id = "i", .vertex = "v", .total = 7, .timestamp = t0});
  CHECK(to_json_line(s) ==
        "{\"vertexes\":[{\"digest\":\"sha256:a\\u003cb\",\"name\":\"a\\u003cb\",\"started\":\"2026-01-02T03:"
        "04:05Z\","
        "\"completed\":\"2026-01-02T03:04:05.0015Z\",\"cached\":true}],"
        "\"statuses\":[{\"id\":\"i\",\"vertex\":\"v\",\"total\":7,\"current\":0,\"timestamp\":\"2026-01-"
        "02T03:04:05Z\"}],"
        "\"logs\":[{\"vertex\":\"sha256:x\",\"stream\":1,\"data\":\"aGkK\",\"timestamp\":\"2026-01-02T03:04:"
        "05Z\"}]}\n");
  CHECK(to_json_line({}) == "{}\n");
}

TEST_CASE("Amounts and times read as BuildKit's") {
  CHECK(format_bytes(0) == "0B");
  CHECK(format_bytes(999) == "999B");
  CHECK(format_bytes(1234) == "1.23kB");
  CHECK(format_bytes(3'620'000) == "3.62MB");
  CHECK(format_bytes_short(1'200) == "1.2kB");
}

TEST_CASE("Text width counts wide characters twice and combining ones not at all") {
  CHECK(text_width("abc") == 3);
  CHECK(text_width("日本") == 4);
  CHECK(text_width("e\u0301") == 1);
  CHECK(fit_text("日本語", 5, "…") == "日本…");
  CHECK(fit_text("abcdef", 4, "~") == "abc~");
  CHECK(fit_text("abcd", 4, "~") == "abcd");
  CHECK(fit_text("a\tb\x1b[31m", 20, "~") == "a b [31m");
  CHECK(fit_text("\xff\xfe", 5, "~") == "\uFFFD\uFFFD");
}

TEST_CASE("The log tail shows what a terminal would") {
  log_tail tail;
  tail.write("10%\r20%\r30");
  CHECK(tail.last(3) == std::vector<std::string>{"30"});
  tail.write("%\n\x1b[32mgreen\x1b[0m\nab\b\bxy\n\n");
  CHECK(tail.last(3) == std::vector<std::string>{"30%", "green", "xy"});
  CHECK(tail.last(1) == std::vector<std::string>{"xy"});
  tail.write("\x1b]0;title\atext");
  CHECK(tail.last(1) == std::vector<std::string>{"text"});
}

TEST_CASE("A frame shows steps with timers, the reason beside the name and the log below") {
  trace t({.keep_logs = true});
  vertex_status reason{.id = "rebuilt: a.c changed", .vertex = "sha256:RUN make", .timestamp = t0};
  auto done = make_vertex("FROM busybox", t0, t0 + second / 2);
  t.update({.vertices = {done, make_vertex("RUN make", t0 + second)},
            .statuses = {reason},
            .logs = {make_log("RUN make", "cc a.c\n", t0 + second)}},
           t0 + second);
  auto lines = texts(render_frame(t, t0 + 2 * second, 50, 24, plain_frame(), false));
  CHECK(lines == std::vector<std::string>{"[+] Building (1/2)                           1.0s",
                                          " + FROM busybox                              0.5s",
                                          " - RUN make  rebuilt: a.c changed            0.0s",
                                          "   | cc a.c"});
}

TEST_CASE("Finished steps fold into one line when the terminal is low") {
  trace t({.keep_logs = true});
  solve_status s;
  for (int i = 0; i < 20; ++i) {
    auto v = make_vertex("step " + std::to_string(i), t0 + i, t0 + i + 1);
    v.cached = i < 5;
    s.vertices.push_back(v);
  }
  s.vertices.push_back(make_vertex("running", t0 + 100));
  t.update(s, t0);
  auto lines = texts(render_frame(t, t0, 60, 8, plain_frame(), false));
  REQUIRE(lines.size() == 7);
  CHECK(lines[1] == " + 16 steps done, 5 cached");
  CHECK(lines[2].find("step 16") != std::string::npos);
  CHECK(lines[6].find("running") != std::string::npos);
  // At the end everything is listed, however low the terminal.
  CHECK(render_frame(t, t0, 60, 8, plain_frame(), true).size() == 22);
}

TEST_CASE("No frame is wider than the terminal nor higher than it while the build runs") {
  trace t({.keep_logs = true});
  solve_status s;
  for (int i = 0; i < 15; ++i) {
    auto name = "RUN 日本語 a very long command line number " + std::to_string(i);
    s.vertices.push_back(i % 3 == 0 ? make_vertex(name, t0, t0 + second) : make_vertex(name, t0));
    s.logs.push_back(make_log(name, "some output that is rather long as well\nand more\n", t0));
    s.statuses.push_back({.id = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                          .vertex = "sha256:" + name,
                          .current = 5,
                          .total = 10,
                          .timestamp = t0,
                          .started = t0});
  }
  t.update(s, t0);
  for (std::size_t width : {1u, 5u, 20u, 40u, 80u, 200u})
    for (std::size_t height : {1u, 2u, 4u, 6u, 10u, 24u, 60u}) {
      auto lines = render_frame(t, t0, width, height, frame_options{}, false);
      CHECK(lines.size() <= std::max<std::size_t>(height, 4) - 1);
      for (const auto& l : lines) CHECK(l.width <= std::max<std::size_t>(width - 1, 1));
    }
}

TEST_CASE("The painter goes back over the rows of the last frame, wrapped ones included") {
  frame_painter painter;
  auto first = painter.paint({{"abc", 3}, {"0123456789", 10}}, 80);
  CHECK(first == "\x1b[?2026h\x1b[?25l\rabc\x1b[K\n0123456789\x1b[K\n\x1b[J\x1b[?25h\x1b[?2026l");
  auto second_frame = painter.paint({{"x", 1}}, 80);
  CHECK(second_frame.find("\x1b[2A") != std::string::npos);
  painter.paint({{"0123456789", 10}, {"a", 1}}, 80);
  // The terminal has become 4 columns wide: ten columns take three rows there.
  CHECK(painter.paint({{"x", 1}}, 4).find("\x1b[4A") != std::string::npos);
}

TEST_CASE("Colours come from BUILDKIT_COLORS, and mistakes in it are named and skipped") {
  std::vector<std::string> complaints;
  auto scheme = parse_colors("run=green:error=255,0,0:WARNING=light-blue", complaints);
  CHECK(complaints.empty());
  CHECK(scheme.run == "\x1b[32m");
  CHECK(scheme.error == "\x1b[38;5;196m");
  CHECK(scheme.warning == "\x1b[94m");
  CHECK(parse_colors("run=nocolor:foo=red:error=1,2:x", complaints) == default_colors());
  CHECK(complaints.size() == 4);
}

TEST_CASE("Progress modes are checked") {
  CHECK(*parse_progress_mode("plain") == progress_mode::plain);
  CHECK(parse_progress_mode("fancy").error().message == "invalid progress mode fancy");
  ::setenv("BUILDKIT_PROGRESS", "rawjson", 1);
  CHECK(*parse_progress_mode("auto") == progress_mode::rawjson);
  CHECK(*parse_progress_mode("plain") == progress_mode::plain);
  ::unsetenv("BUILDKIT_PROGRESS");
}
