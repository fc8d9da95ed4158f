#include "client/progress/status_json.hpp"

#include <fmt/format.h>

#include "client/base64.hpp"
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
    if (!value.empty()) raw(name, json_quote(value));
  }
  void number(std::string_view name, std::int64_t value) {
    if (value != 0) raw(name, fmt::format("{}", value));
  }
  void boolean(std::string_view name, bool value) {
    if (value) raw(name, "true");
  }
  void time(std::string_view name, const std::optional<nanoseconds_t>& value) {
    if (value) raw(name, json_quote(format_rfc3339_nano(*value)));
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
    o.raw("inputs", array(v.inputs, [](std::string& s, const std::string& d) { s += json_quote(d); }));
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
  o.raw("id", json_quote(s.id));
  o.text("vertex", s.vertex);
  o.text("name", s.name);
  o.number("total", s.total);
  o.raw("current", fmt::format("{}", s.current));
  o.raw("timestamp", json_quote(format_rfc3339_nano(s.timestamp)));
  o.time("started", s.started);
  o.time("completed", s.completed);
  o.end();
}

void write_log(std::string& out, const vertex_log& l) {
  object_writer o(out);
  o.text("vertex", l.vertex);
  o.number("stream", l.stream);
  o.raw("data", json_quote(base64_encode(l.data)));
  o.raw("timestamp", json_quote(format_rfc3339_nano(l.timestamp)));
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
  if (!w.brief.empty()) o.raw("short", json_quote(base64_encode(w.brief)));
  if (!w.detail.empty())
    o.raw("detail", array(w.detail, [](std::string& s, const std::string& d) { s += json_quote(base64_encode(d)); }));
  o.text("url", w.url);
  if (w.source) {
    std::string source;
    object_writer i(source);
    i.text("filename", w.source->filename);
    if (!w.source->data.empty()) i.raw("data", json_quote(base64_encode(w.source->data)));
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

std::string json_quote(std::string_view text, bool html) {
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size();) {
    std::size_t start = i;
    char32_t c = next_code_point(text, i);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c < 0x20 || (html && (c == '<' || c == '>' || c == '&')) || c == 0x2028 || c == 0x2029) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else if (c == 0xFFFD) {
      out += "\\ufffd";
    } else {
      out += text.substr(start, i - start);
    }
  }
  return out + "\"";
}

}  // namespace kiln::client
