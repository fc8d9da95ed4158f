// What a build has told so far: vertices in the order they started, their intervals, statuses, logs and
// warnings. Fed with status updates, read by the plain and the tty display. Knows nothing of terminals; the
// time is passed in. Not thread-safe: the display thread owns it.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/progress/log_tail.hpp"
#include "client/progress/status.hpp"

namespace kiln::client {

/// A stretch of time a vertex was active; open while `stop` is missing.
struct interval {
  nanoseconds_t start = 0;
  std::optional<nanoseconds_t> stop;

  nanoseconds_t duration(nanoseconds_t now) const { return (stop ? *stop : now) - start; }
  bool operator==(const interval&) const = default;
};

/// Joins overlapping intervals; an open one swallows all that follow. Source: progressui mergeIntervals.
std::vector<interval> merge_intervals(std::vector<interval> intervals);

struct vertex_state {
  vertex info;
  std::size_t order = 0;  // of first appearance
  std::map<nanoseconds_t, interval> intervals;
  std::vector<interval> merged;
  std::vector<vertex_status> statuses;  // in the order they started
  std::vector<std::string> reasons;     // why it ran again
  std::vector<vertex_warning> warnings;
  bool hidden = false;  // a progress group without a started non-weak member

  // Log lines as the plain display prints them ("0.123 text"); the last is incomplete while log_open.
  std::deque<std::string> log_lines;
  bool log_open = false;
  log_tail tail;  // the last lines as a terminal would show them

  // The plain display's notes.
  int number = 0;
  std::set<std::string> changed_statuses;
  std::size_t printed_warnings = 0;
  std::size_t printed_reasons = 0;
  std::size_t printed_open_bytes = 0;  // of the incomplete log line
  std::deque<std::string> last_lines;  // printed log lines kept for the error block
  bool last_line_open = false;
  std::optional<nanoseconds_t> block_since;
  std::int64_t events = 0;

  bool started() const { return !merged.empty(); }
  bool completed() const { return started() && merged.back().stop.has_value(); }
  bool failed() const { return !info.error.empty(); }
  bool cancelled() const;
  nanoseconds_t active_time(nanoseconds_t now) const;
  void note_event(nanoseconds_t now, std::int64_t count = 1);
};

/// How many log lines a trace keeps for a vertex that nobody drains (the tty display's error block).
struct trace_options {
  bool keep_logs = false;  // true: lines stay (bounded); false: the plain display takes them away
  std::size_t kept_lines = 200;
  std::size_t tail_lines = 6;
};

class trace {
 public:
  explicit trace(trace_options options = {}) : options_(options) {}

  /// Takes one update in. `now` is the local time.
  void update(const solve_status& status, nanoseconds_t now);

  /// Vertices and visible groups in the order they started.
  const std::vector<vertex_state*>& shown() const { return shown_; }
  /// Every vertex and group once, in the order of first appearance.
  std::vector<vertex_state*> all() const;
  vertex_state* find(const std::string& digest) const;

  /// Vertices changed since they were last printed.
  std::set<std::string>& updates() { return updates_; }

  std::size_t total_count() const;
  std::size_t completed_count() const;
  std::size_t cached_count() const;
  /// Start of the build on the local clock; `now` while nothing has started.
  nanoseconds_t start_time(nanoseconds_t now) const;
  /// Remote minus local clock, to be added to the local time before comparing with remote times.
  nanoseconds_t clock_difference() const { return clock_difference_.value_or(0); }
  const std::vector<vertex_warning>& warnings() const { return warnings_; }

 private:
  struct group_state {
    vertex_state* state = nullptr;
    std::vector<std::string> member_order;
    std::unordered_map<std::string, vertex> members;
  };

  vertex_state& add(const std::string& digest);
  void update_vertex(const vertex& v, nanoseconds_t now);
  void update_group(const std::string& id, nanoseconds_t now);
  void update_status(const vertex_status& s, nanoseconds_t now);
  void update_log(const vertex_log& l, nanoseconds_t now);
  void note_start(nanoseconds_t started, nanoseconds_t now);

  trace_options options_;
  std::vector<std::unique_ptr<vertex_state>> states_;
  std::unordered_map<std::string, vertex_state*> by_digest_;
  std::map<std::string, group_state> groups_;
  std::vector<vertex_state*> shown_;
  std::set<std::string> updates_;
  std::optional<nanoseconds_t> start_;
  std::optional<nanoseconds_t> clock_difference_;
  std::vector<vertex_warning> warnings_;
};

/// The block that repeats the last log lines of every failed vertex. Empty when none failed.
/// Source: progressui printErrorLogs.
std::string error_logs(const trace& t);

}  // namespace kiln::client
