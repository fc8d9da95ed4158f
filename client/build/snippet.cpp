#include "client/build/snippet.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "base/text.hpp"

namespace kiln::client {
namespace {

using nlohmann::json;

std::string text_of(const json& o, const char* key) {
  auto it = o.find(key);
  return it != o.end() && it->is_string() ? text_value(*it) : std::string();
}

int number_of(const json& o, const char* outer, const char* key) {
  auto it = o.find(outer);
  if (it == o.end() || !it->is_object()) return 0;
  auto n = it->find(key);
  return n != it->end() && n->is_number_integer() ? static_cast<int>(integer_value(*n).value_or(0)) : 0;
}

int last_line(const source_range& r) { return std::max(r.start_line, r.end_line); }

}  // namespace

std::vector<source_detail> error_sources(const error& e) {
  std::vector<source_detail> out;
  for (const auto& detail : e.details) {
    if (!detail.type_url.ends_with("errdefs.Source+json")) continue;
    auto parsed = json_or_null(detail.value);
    if (!parsed.is_object() || !parsed.contains("info") || !parsed["info"].is_object()) continue;
    source_detail d;
    d.info.filename = text_of(parsed["info"], "filename");
    d.info.data = base64_decode(text_of(parsed["info"], "data")).value_or("");
    d.info.language = text_of(parsed["info"], "language");
    if (auto it = parsed.find("ranges"); it != parsed.end() && it->is_array())
      for (const auto& r : *it)
        if (r.is_object())
          d.ranges.push_back({number_of(r, "start", "line"), number_of(r, "start", "character"),
                              number_of(r, "end", "line"), number_of(r, "end", "character")});
    out.push_back(std::move(d));
  }
  return out;
}

std::string render_snippet(const source_detail& detail) {
  if (detail.ranges.empty()) return {};
  auto lines = split_views(detail.info.data, '\n');
  int count = static_cast<int>(lines.size());
  int start = detail.ranges.front().start_line;
  int end = 0;
  for (const auto& r : detail.ranges) {
    start = std::min(start, r.start_line);
    end = std::max(end, last_line(r));
  }
  if (start > count || start < 1) return {};
  end = std::min(end, count);
  int first = start;
  // A single line gets two lines around it, more than one gets one.
  for (int padding = end == start ? 4 : 2, added = 0; added < padding; ++added) {
    if (start > 1) {
      --start;
      ++added;
    }
    if (end != count) {
      ++end;
      ++added;
    }
  }
  std::string out = fmt::format("{}:{}\n--------------------\n", detail.info.filename, first);
  for (int i = start; i <= end; ++i) {
    bool marked = std::any_of(detail.ranges.begin(), detail.ranges.end(),
                              [&](const source_range& r) { return r.start_line <= i && last_line(r) >= i; });
    out += fmt::format(" {:3} | {} {}\n", i, marked ? ">>>" : "   ", lines[static_cast<std::size_t>(i - 1)]);
  }
  return out + "--------------------\n";
}

std::vector<std::string> deny_messages(const error& e) {
  std::vector<std::string> out;
  for (const auto& detail : e.details) {
    if (!detail.type_url.ends_with("policysession.DecisionResponse+json")) continue;
    auto parsed = json_or_null(detail.value);
    if (!parsed.is_object() || !parsed.contains("denyMessages") || !parsed["denyMessages"].is_array())
      continue;
    for (const auto& m : parsed["denyMessages"])
      if (m.is_object())
        if (auto text = text_of(m, "message"); !text.empty()) out.push_back(text);
  }
  return out;
}

}  // namespace kiln::client
