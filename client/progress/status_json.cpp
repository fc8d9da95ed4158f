#include "client/progress/status_json.hpp"

#include <fmt/format.h>

#include "base/base64.hpp"
#include "base/quoting.hpp"
#include "base/time_text.hpp"
#include "client/progress/format.hpp"
#include "client/progress/text_width.hpp"

namespace kiln::client {
namespace {

// Writes "name":value pairs in Go's field order, leaving out what omitempty leaves out.
class object_writer {
 public:
  explicit object_writer(std::string& out) : out_(out) { out_ += '{'; }
  void raw(std::string_view name, std::string_view value) {
    if (!first_) out_ += ',';
    first_ = false;
    out_ += fmt::format("\"{}\":{}", name, value);
  }
  void text(std::string_view name, std::string_view value) {
    if (!value.empty()) raw(name, go_json_string(value));
  }
  void number(std::string_view name, std::int64_t value) {
    if (value != 0) raw(name, fmt::format("{}", value));
  }
  void boolean(std::string_view name, bool value) {
    if (value) raw(name, "true");
  }
  void time(std::string_view name, const std::optional<nanoseconds_t>& value) {
    if (value) raw(name, go_json_string(format_rfc3339(*value)));
  }
  void end() { out_ += '}'; }

 private:
  std::string& out_;
  bool first_ = true;
};

template <class T, class Write>
std::string array(const std::vector<T>& items, Write write) {
  std::string out = "[";
  for (const auto& item : items) {
    if (out.size() > 1) out += ',';
    write(out, item);
  }
  return out + "]";
}

void write_vertex(std::string& out, const vertex& v) {
  object_writer o(out);
  o.text("digest", v.digest);
  if (!v.inputs.empty())
    o.raw("inputs", array(v.inputs, [](std::string& s, const std::string& d) { s += go_json_string(d); }));
  o.text("name", v.name);
  o.time("started", v.started);
  o.time("completed", v.completed);
  o.boolean("cached", v.cached);
  o.text("error", v.error);
  if (v.group) {
    std::string group;
    object_writer g(group);
    g.text("id", v.group->id);
    g.text("name", v.group->name);
    g.boolean("weak", v.group->weak);
    g.end();
    o.raw("progressGroup", group);
  }
  o.end();
}

void write_status(std::string& out, const vertex_status& s) {
  object_writer o(out);
  o.raw("id", go_json_string(s.id));
  o.text("vertex", s.vertex);
  o.text("name", s.name);
  o.number("total", s.total);
  o.raw("current", fmt::format("{}", s.current));
  o.raw("timestamp", go_json_string(format_rfc3339(s.timestamp)));
  o.time("started", s.started);
  o.time("completed", s.completed);
  o.end();
}

void write_log(std::string& out, const vertex_log& l) {
  object_writer o(out);
  o.text("vertex", l.vertex);
  o.number("stream", l.stream);
  o.raw("data", go_json_string(base64_encode(l.data)));
  o.raw("timestamp", go_json_string(format_rfc3339(l.timestamp)));
  o.end();
}

std::string position(int line, int character) {
  std::string out;
  object_writer o(out);
  o.number("line", line);
  o.number("character", character);
  o.end();
  return out;
}

void write_warning(std::string& out, const vertex_warning& w) {
  object_writer o(out);
  o.text("vertex", w.vertex);
  o.number("level", w.level);
  if (!w.brief.empty()) o.raw("short", go_json_string(base64_encode(w.brief)));
  if (!w.detail.empty())
    o.raw("detail", array(w.detail, [](std::string& s, const std::string& d) {
            s += go_json_string(base64_encode(d));
          }));
  o.text("url", w.url);
  if (w.source) {
    std::string source;
    object_writer i(source);
    i.text("filename", w.source->filename);
    if (!w.source->data.empty()) i.raw("data", go_json_string(base64_encode(w.source->data)));
    i.text("language", w.source->language);
    i.end();
    o.raw("sourceInfo", source);
  }
  if (!w.ranges.empty())
    o.raw("range", array(w.ranges, [](std::string& s, const source_range& r) {
            object_writer range(s);
            range.raw("start", position(r.start_line, r.start_character));
            range.raw("end", position(r.end_line, r.end_character));
            range.end();
          }));
  o.end();
}

}  // namespace

std::string to_json_line(const solve_status& status) {
  std::string out;
  object_writer o(out);
  if (!status.vertices.empty()) o.raw("vertexes", array(status.vertices, write_vertex));
  if (!status.statuses.empty()) o.raw("statuses", array(status.statuses, write_status));
  if (!status.logs.empty()) o.raw("logs", array(status.logs, write_log));
  if (!status.warnings.empty()) o.raw("warnings", array(status.warnings, write_warning));
  o.end();
  return out + "\n";
}

}  // namespace kiln::client
