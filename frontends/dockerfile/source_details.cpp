#include "frontends/dockerfile/source_details.hpp"

#include <algorithm>

#include "errdefs.pb.h"
#include "frontends/dockerfile/text.hpp"
#include "solver/go_json.hpp"

namespace kiln::dockerfile {

error with_source_details(error e, const llb::source_map& file) {
  auto split_error = split_location(std::move(e));
  for (const auto& where : split_error.places) {
    errdefs::Source source;
    *source.mutable_info() = file.info();
    for (const auto& range : to_proto(where)) *source.add_ranges() = range;
    split_error.plain.details.push_back(
        {"github.com/moby/buildkit/errdefs.Source+json", solver::go_json(source)});
  }
  return std::move(split_error.plain);
}

std::string print_snippet(const pb::SourceInfo& info, const std::vector<pb::Range>& ranges) {
  if (ranges.empty()) return {};
  auto lines = split(info.data(), '\n');
  auto count = static_cast<int>(lines.size());
  int start = ranges.front().start().line(), end = 0;
  for (const auto& r : ranges) {
    start = std::min(start, r.start().line());
    end = std::max({end, r.end().line(), r.start().line()});
  }
  if (start > count || start < 1) return {};
  end = std::min(end, count);
  auto marked = [&](int line) {
    return std::any_of(ranges.begin(), ranges.end(), [&](const auto& r) {
      return r.start().line() <= line && line <= std::max(r.end().line(), r.start().line());
    });
  };
  int first_line = start;
  int padding = start == end ? 4 : 2;
  for (int p = 0; p < padding; ++p) {
    if (start > 1) --start, ++p;
    if (end != count) ++end, ++p;
  }
  auto out = info.filename() + ":" + std::to_string(first_line) + "\n--------------------\n";
  for (int line = start; line <= end; ++line) {
    auto number = std::to_string(line);
    out += " " + std::string(number.size() < 3 ? 3 - number.size() : 0, ' ') + number + " | " +
           (marked(line) ? ">>>" : "   ") + " " + lines[static_cast<std::size_t>(line - 1)] + "\n";
  }
  return out + "--------------------\n";
}

}  // namespace kiln::dockerfile
