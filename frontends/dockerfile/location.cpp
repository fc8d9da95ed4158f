#include "frontends/dockerfile/location.hpp"

#include <algorithm>
#include <sstream>

namespace kiln::dockerfile {

namespace {

constexpr std::string_view place_type = "kiln.dockerfile/place";

error_detail encode(const line_ranges& where) {
  std::string text;
  for (const auto& r : where) text += std::to_string(r.start) + " " + std::to_string(r.end) + " ";
  return {std::string(place_type), std::move(text)};
}

line_ranges decode(const std::string& text) {
  line_ranges out;
  std::istringstream in(text);
  line_range r;
  while (in >> r.start >> r.end) out.push_back(r);
  return out;
}

}  // namespace

line_ranges ranges_of_lines(int start, int end) {
  line_ranges out;
  for (int line = start; line <= std::max(start, end); ++line) out.push_back({line, line});
  return out;
}

error with_location(error e, const line_ranges& where) {
  e.details.push_back(encode(where));
  return e;
}

error set_location(error e, const line_ranges& where) {
  std::erase_if(e.details, [](const auto& d) { return d.type_url == place_type; });
  return with_location(std::move(e), where);
}

located split_location(error e) {
  located out;
  for (const auto& d : e.details)
    if (d.type_url == place_type) out.places.push_back(decode(d.value));
  std::erase_if(e.details, [](const auto& d) { return d.type_url == place_type; });
  out.plain = std::move(e);
  return out;
}

line_ranges merge_ranges(const std::vector<line_ranges>& places) {
  line_ranges all;
  for (const auto& p : places) all.insert(all.end(), p.begin(), p.end());
  if (all.size() < 2) return all;
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.start < b.start; });
  line_ranges out{all.front()};
  for (std::size_t i = 1; i < all.size(); ++i) {
    if (all[i].start <= out.back().end) out.back().end = std::max(out.back().end, all[i].end);
    else out.push_back(all[i]);
  }
  return out;
}

std::vector<pb::Range> to_proto(const line_ranges& ranges) {
  std::vector<pb::Range> out;
  for (const auto& r : ranges) {
    auto& range = out.emplace_back();
    range.mutable_start()->set_line(r.start);
    range.mutable_end()->set_line(r.end);
  }
  return out;
}

}  // namespace kiln::dockerfile
