#include "client/progress/plain.hpp"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "client/progress/format.hpp"

namespace kiln::client {
namespace {

// Source: progressui printer.go, its constants of the same meaning.
constexpr double switch_seconds_min = 5;    // a vertex keeps the output at least this long
constexpr double silence_seconds_max = 10;  // a vertex is heard at least this often
constexpr nanoseconds_t status_period = 5'000'000'000;
constexpr double status_progress_min = 0.05;  // of the total
constexpr std::size_t error_lines_max = 10;
constexpr std::size_t name_bytes_max = 72;

}  // namespace

plain_display::plain_display(text_sink sink, plain_options options)
    : sink_(std::move(sink)), options_(options), limiter_(options.period) {}

void plain_display::update(const solve_status& status, nanoseconds_t now) {
  trace_.update(status, now);
  if (limiter_.allow(now)) refresh(now);
}

void plain_display::refresh(nanoseconds_t now) {
  print(now);
  flush();
}

void plain_display::finish(nanoseconds_t now) {
  print(now);
  out_ += error_logs(trace_);
  out_ += warning_summary(trace_.warnings());
  flush();
}

void plain_display::flush() {
  if (out_.empty()) return;
  sink_(out_);
  out_.clear();
}

// True when a status is still open. Source: remote cache loading reports statuses after the vertex has ended.
bool plain_display::print_statuses(vertex_state& v) {
  bool open = false;
  for (const auto& s : v.statuses) {
    if (!v.changed_statuses.contains(s.id)) continue;
    auto last = printed_.find(s.id);
    if (last != printed_.end() && !s.completed) {
      double progress =
          s.total > 0 ? static_cast<double>(s.current - last->second.current) / static_cast<double>(s.total)
                      : 0;
      if (progress < status_progress_min && s.timestamp - last->second.timestamp < status_period) continue;
    }
    printed_[s.id] = {s.current, s.timestamp};
    std::string amount;
    if (s.total != 0) amount = fmt::format(" {} / {}", format_bytes(s.current), format_bytes(s.total));
    else if (s.current != 0) amount = " " + format_bytes(s.current);
    std::string time;
    if (s.started) {
      auto took = s.completed.value_or(s.timestamp) - *s.started;
      if (took > 10'000'000) time = fmt::format(" {}s", format_seconds(took, 1));
    }
    if (s.completed) time += " done";
    else open = true;
    out_ += fmt::format("#{} {}{}{}\n", v.number, s.id, amount, time);
  }
  v.changed_statuses.clear();
  return open;
}

void plain_display::print_log(vertex_state& v) {
  auto keep = [&](const std::string& line, bool open) {
    if (v.last_line_open) v.last_lines.pop_back();
    v.last_lines.push_back(line);
    v.last_line_open = open;
    while (v.last_lines.size() > error_lines_max) v.last_lines.pop_front();
  };
  for (std::size_t i = 0; i < v.log_lines.size(); ++i) {
    const auto& line = v.log_lines[i];
    bool open = i + 1 == v.log_lines.size() && v.log_open;
    if (i == 0 && v.printed_open_bytes != 0) out_ += std::string_view(line).substr(v.printed_open_bytes);
    else out_ += fmt::format("#{} {}", v.number, line);
    if (!open) out_ += "\n";
    keep(line, open);
  }
  if (v.log_lines.empty()) return;
  if (v.log_open) {
    v.log_lines.erase(v.log_lines.begin(), v.log_lines.end() - 1);
    v.printed_open_bytes = v.log_lines.front().size();
  } else {
    v.log_lines.clear();
    v.printed_open_bytes = 0;
  }
}

void plain_display::print_end(vertex_state& v, nanoseconds_t now) {
  current_ = nullptr;
  v.events = 0;
  if (v.log_open) out_ += "\n";
  if (v.cancelled()) out_ += fmt::format("#{} CANCELED\n", v.number);
  else if (v.failed()) out_ += fmt::format("#{} ERROR: {}\n", v.number, v.info.error);
  else if (v.info.cached) out_ += fmt::format("#{} CACHED\n", v.number);
  else out_ += fmt::format("#{} DONE {}s\n", v.number, format_seconds(v.active_time(now), 1));
}

void plain_display::print_vertex(vertex_state& v, nanoseconds_t now) {
  if (v.number == 0) v.number = ++numbered_;
  if (current_ != &v) {
    if (current_) {
      if (current_->log_open) out_ += "\n";
      current_->printed_open_bytes = 0;
      current_->events = 0;
      out_ += fmt::format("#{} ...\n", current_->number);
    }
    if (!first_) out_ += "\n";
    first_ = false;
    out_ += fmt::format("#{} {}\n", v.number,
                        options_.cut_names ? limit_text(v.info.name, name_bytes_max) : v.info.name);
  }
  for (; v.printed_reasons < v.reasons.size(); ++v.printed_reasons)
    out_ += fmt::format("#{} {}\n", v.number, v.reasons[v.printed_reasons]);
  bool status_open = print_statuses(v);
  for (; v.printed_warnings < v.warnings.size(); ++v.printed_warnings)
    out_ += fmt::format("#{} WARN: {}\n", v.number, v.warnings[v.printed_warnings].brief);
  print_log(v);
  current_ = &v;
  if (v.completed() && !status_open) print_end(v, now);
  trace_.updates().erase(v.info.digest);
}

// Among open vertices: one that has been silent too long, else the one with the most events a second.
vertex_state* plain_display::busiest(const std::vector<vertex_state*>& open, nanoseconds_t now) const {
  vertex_state* best = nullptr;
  double best_speed = -1;
  for (auto* v : open) {
    if (!v->block_since) continue;
    double seconds = static_cast<double>(now - *v->block_since) / 1e9;
    if (seconds > silence_seconds_max && v != current_) return v;
    double speed =
        seconds > 0 ? static_cast<double>(v->events) / seconds : std::numeric_limits<double>::infinity();
    if (speed > best_speed) {
      best = v;
      best_speed = speed;
    }
  }
  return best;
}

void plain_display::print(nanoseconds_t now) {
  std::vector<vertex_state*> completed;
  std::vector<vertex_state*> open;
  for (const auto& digest : trace_.updates()) {
    auto* v = trace_.find(digest);
    if (!v || v->hidden) continue;
    (v->completed() ? completed : open).push_back(v);
  }
  auto* before = current_;
  bool current_completed = std::find(completed.begin(), completed.end(), before) != completed.end();
  if (current_completed) print_vertex(*before, now);
  std::sort(completed.begin(), completed.end(), [](const vertex_state* a, const vertex_state* b) {
    auto ta = *a->merged.back().stop;
    auto tb = *b->merged.back().stop;
    return ta != tb ? ta < tb : a->order < b->order;
  });
  for (auto* v : completed)
    if (v != before) print_vertex(*v, now);

  std::sort(open.begin(), open.end(),
            [](const vertex_state* a, const vertex_state* b) { return a->order < b->order; });
  if (open.empty()) {
    if (before && before->started() && !before->completed()) return;
    for (auto* v : trace_.shown())
      if (!v->completed()) {
        print_vertex(*v, now);
        return;
      }
    return;
  }
  if (std::find(open.begin(), open.end(), before) != open.end()) print_vertex(*before, now);
  else if (before && !before->completed()) open.push_back(before);

  auto* next = busiest(open, now);
  if (!next) return;
  if (current_completed || !before) {
    print_vertex(*next, now);
    return;
  }
  auto seconds_of = [&](const vertex_state& v) {
    return v.block_since ? static_cast<double>(now - *v.block_since) / 1e9 : 0;
  };
  if (next != before && seconds_of(*next) > silence_seconds_max) {
    print_vertex(*next, now);
    return;
  }
  // A fair split: the busier the current vertex is compared with the others, the longer it keeps the output.
  double sum = 0;
  double mine = 0;
  for (auto* v : open) {
    double seconds = seconds_of(*v);
    double speed = seconds > 0 ? static_cast<double>(v->events) / seconds : 0;
    sum += speed;
    if (v == before) mine = speed;
  }
  double share = sum > 0 ? mine / sum : 0;
  if (share < 1 && switch_seconds_min / (1 - share) < seconds_of(*before)) print_vertex(*next, now);
}

std::string warning_summary(const std::vector<vertex_warning>& warnings) {
  if (warnings.empty()) return {};
  auto out = fmt::format("\n {} warning{} found:\n", warnings.size(), warnings.size() == 1 ? "" : "s");
  for (const auto& w : warnings) out += fmt::format(" - {}\n", w.brief);
  return out;
}

}  // namespace kiln::client
