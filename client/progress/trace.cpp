#include "client/progress/trace.hpp"

#include <algorithm>
#include <string_view>

#include "base/plain_text.hpp"
#include "client/progress/format.hpp"

namespace kiln::client {
namespace {

constexpr std::string_view cancelled_suffix = "context canceled";
/// Longer lines are broken: what has not ended is kept whole until it does.
constexpr std::size_t open_line_bytes_max = 256 << 10;

// "0.123 ", "12.34 ", "123.4 ": what precedes a log line.
std::string log_stamp(nanoseconds_t since_start) {
  double seconds = static_cast<double>(since_start) / 1e9;
  int decimals = seconds < 10 ? 3 : seconds < 100 ? 2 : 1;
  return format_seconds(since_start, decimals) + " ";
}

/// Names, errors and warnings as they may be shown: they come from builds. Output keeps its bytes (see
/// update_log).
solve_status presentable(solve_status status) {
  for (auto& v : status.vertices) {
    v.name = one_line(v.name);
    v.error = printable(v.error);
    if (v.group) v.group->name = one_line(v.group->name);
  }
  for (auto& s : status.statuses) s.id = one_line(s.id);
  for (auto& w : status.warnings) {
    w.brief = one_line(w.brief);
    for (auto& line : w.detail) line = printable(line);
    w.url = one_line(w.url);
    if (w.source) {
      w.source->filename = one_line(w.source->filename);
      w.source->data = printable(w.source->data);
    }
  }
  return status;
}

}  // namespace

std::vector<interval> merge_intervals(std::vector<interval> intervals) {
  std::stable_sort(intervals.begin(), intervals.end(),
                   [](const interval& a, const interval& b) { return a.start < b.start; });
  std::vector<interval> merged;
  for (const auto& next : intervals) {
    if (merged.empty() || (merged.back().stop && *merged.back().stop < next.start)) {
      merged.push_back(next);
      continue;
    }
    auto& current = merged.back();
    if (!current.stop) break;
    if (!next.stop) current.stop.reset();
    else current.stop = std::max(*current.stop, *next.stop);
  }
  return merged;
}

bool vertex_state::cancelled() const { return info.error.ends_with(cancelled_suffix); }

nanoseconds_t vertex_state::active_time(nanoseconds_t now) const {
  nanoseconds_t sum = 0;
  for (const auto& i : merged) sum += i.duration(now);
  return sum;
}

void vertex_state::note_event(nanoseconds_t now, std::int64_t count) {
  if (events == 0) block_since = now;
  events += count;
}

vertex_state& trace::add(const std::string& digest) {
  auto [it, fresh] = by_digest_.try_emplace(digest, nullptr);
  if (fresh) {
    states_.push_back(std::make_unique<vertex_state>());
    it->second = states_.back().get();
    it->second->order = states_.size();
    it->second->info.digest = digest;
    it->second->tail.set_height(options_.tail_lines);
  }
  return *it->second;
}

vertex_state* trace::find(const std::string& digest) const {
  auto it = by_digest_.find(digest);
  return it == by_digest_.end() ? nullptr : it->second;
}

std::vector<vertex_state*> trace::all() const {
  std::vector<vertex_state*> out;
  for (const auto& s : states_) out.push_back(s.get());
  return out;
}

void trace::note_start(nanoseconds_t started, nanoseconds_t now) {
  if (!clock_difference_) clock_difference_ = started - now;
}

void trace::update_vertex(const vertex& v, nanoseconds_t now) {
  bool known = by_digest_.contains(v.digest);
  auto& state = add(v.digest);
  bool was_started = state.started();
  if (v.started) {
    const auto& old = state.info;
    bool changed = !was_started || v.name != old.name || v.started != old.started ||
                   (v.completed && v.completed != old.completed) || v.cached != old.cached ||
                   v.error != old.error;
    if (changed) {
      state.note_event(now);
      updates_.insert(v.digest);
    }
    if (!was_started) {
      note_start(*v.started, now);
      shown_.push_back(&state);
    }
  }
  // A repeated announcement without a start must not reset a vertex that has started.
  if (!known || !was_started || v.started) state.info = v;
  if (v.started) {
    state.intervals[*v.started] = {*v.started, v.completed};
    std::vector<interval> list;
    for (const auto& [start, i] : state.intervals) list.push_back(i);
    state.merged = merge_intervals(std::move(list));
  }
}

void trace::update_group(const std::string& id, nanoseconds_t now) {
  auto& group = groups_[id];
  auto& state = *group.state;
  bool was_started = state.started();
  bool was_hidden = state.hidden;
  bool changed = false;
  bool cached = true;
  std::string error;
  for (const auto& digest : group.member_order) {
    const auto& member = group.members[digest];
    if (member.started) {
      interval next{*member.started, member.completed};
      auto [it, fresh] = state.intervals.try_emplace(*member.started, next);
      if (fresh || !(it->second == next)) changed = true;
      it->second = next;
      if (member.group && !member.group->weak) state.hidden = false;
    }
    cached = cached && member.cached;
    if (error.empty()) error = member.error;
  }
  if (!error.empty()) state.hidden = false;
  if (state.info.cached != cached || state.info.error != error) changed = true;
  state.info.cached = cached;
  state.info.error = error;
  std::vector<interval> list;
  for (const auto& [start, i] : state.intervals) list.push_back(i);
  state.merged = merge_intervals(std::move(list));
  if (!was_started && state.started()) note_start(state.merged.front().start, now);
  if (state.hidden) return;
  if (was_hidden) {
    changed = true;
    shown_.push_back(&state);
  }
  if (changed) {
    state.note_event(now);
    updates_.insert(state.info.digest);
  }
}

void trace::update_status(const vertex_status& s, nanoseconds_t now) {
  auto* state = find(s.vertex);
  if (!state) return;
  if (s.id.starts_with(reason_prefix)) {
    auto text = s.id;
    if (std::find(state->reasons.begin(), state->reasons.end(), text) == state->reasons.end()) {
      state->reasons.push_back(std::move(text));
      updates_.insert(state->info.digest);
      state->note_event(now);
    }
    return;
  }
  auto it = std::find_if(state->statuses.begin(), state->statuses.end(),
                         [&](const vertex_status& x) { return x.id == s.id; });
  if (it != state->statuses.end()) *it = s;
  else if (s.started) state->statuses.push_back(s);
  state->changed_statuses.insert(s.id);
  updates_.insert(state->info.digest);
  state->note_event(now);
}

void trace::update_log(const vertex_log& l, nanoseconds_t now) {
  auto* state = find(l.vertex);
  if (!state || l.data.empty()) return;
  state->tail.write(l.data);
  nanoseconds_t since = state->started() ? l.timestamp - state->merged.back().start : 0;
  std::string_view rest = l.data;
  bool first = true;
  while (!rest.empty()) {
    auto end = rest.find('\n');
    auto line = rest.substr(0, end);
    if (first && state->log_open && !state->log_lines.empty() &&
        state->log_lines.back().size() < open_line_bytes_max)
      state->log_lines.back().append(output_line(line));
    else state->log_lines.push_back(log_stamp(since) + output_line(line));
    first = false;
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  state->log_open = l.data.back() != '\n';
  if (options_.keep_logs)
    while (state->log_lines.size() > options_.kept_lines) state->log_lines.pop_front();
  updates_.insert(state->info.digest);
  state->note_event(now);
}

void trace::update(const solve_status& said, nanoseconds_t now) {
  auto status = presentable(said);
  std::vector<std::string> touched_groups;
  for (const auto& v : status.vertices) {
    if (!start_) start_ = v.started;
    if (!v.group) {
      update_vertex(v, now);
      continue;
    }
    auto& group = groups_[v.group->id];
    if (!group.state) {
      group.state = &add(v.group->id);
      group.state->info.name = v.group->name;
      group.state->hidden = true;
    }
    if (group.members.insert_or_assign(v.digest, v).second) group.member_order.push_back(v.digest);
    by_digest_[v.digest] = group.state;
    if (std::find(touched_groups.begin(), touched_groups.end(), v.group->id) == touched_groups.end())
      touched_groups.push_back(v.group->id);
  }
  for (const auto& id : touched_groups) update_group(id, now);
  for (const auto& s : status.statuses) update_status(s, now);
  for (const auto& w : status.warnings) {
    warnings_.push_back(w);
    if (auto* state = find(w.vertex)) {
      state->warnings.push_back(w);
      state->note_event(now);
    }
  }
  for (const auto& l : status.logs) update_log(l, now);
}

std::size_t trace::total_count() const {
  return static_cast<std::size_t>(
      std::count_if(states_.begin(), states_.end(), [](const auto& s) { return !s->hidden; }));
}

std::size_t trace::completed_count() const {
  return static_cast<std::size_t>(std::count_if(states_.begin(), states_.end(),
                                                [](const auto& s) { return !s->hidden && s->completed(); }));
}

std::size_t trace::cached_count() const {
  return static_cast<std::size_t>(std::count_if(states_.begin(), states_.end(), [](const auto& s) {
    return !s->hidden && s->completed() && s->info.cached;
  }));
}

nanoseconds_t trace::start_time(nanoseconds_t now) const {
  if (!start_) return now;
  return *start_ - clock_difference();
}

std::string error_logs(const trace& t) {
  std::string out;
  for (const auto* v : t.shown()) {
    if (!v->failed() || v->cancelled()) continue;
    out += "------\n > " + v->info.name + ":\n";
    for (const auto& line : v->last_lines) out += line + "\n";
    for (const auto& line : v->log_lines) out += line + "\n";
    out += "------\n";
  }
  return out;
}

}  // namespace kiln::client
