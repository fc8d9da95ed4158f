#include "client/progress/frame.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "client/progress/format.hpp"
#include "client/progress/text_width.hpp"

namespace kiln::client {
namespace {

constexpr std::size_t narrow_columns = 24;      // below: no timers
constexpr std::size_t reason_columns_min = 16;  // left beside the name before a reason is shown
constexpr std::size_t bar_columns = 16;

struct symbols {
  std::string_view done, failed, cancelled, log, warning, bar_full, bar_empty, ellipsis, more;
};
constexpr symbols unicode_symbols{"✔", "✘", "⊘", "│", "⚠", "━", "─", "…", "⋯"};
constexpr symbols ascii_symbols{"+", "x", "-", "|", "!", "#", ".", "~", "..."};
constexpr std::string_view unicode_spinner[] = {"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"};
constexpr std::string_view ascii_spinner[] = {"|", "/", "-", "\\"};
constexpr nanoseconds_t spinner_period = 100'000'000;

std::string format_timer(nanoseconds_t duration) {
  if (duration < 0) duration = 0;
  if (duration < 100'000'000'000) return format_seconds(duration, 1) + "s";
  auto seconds = duration / 1'000'000'000;
  if (seconds < 3600) return fmt::format("{}m{:02}s", seconds / 60, seconds % 60);
  return fmt::format("{}h{:02}m", seconds / 3600, seconds / 60 % 60);
}

// One line under construction: left parts, then a right-aligned end. The last column stays free so that the
// terminal never wraps by itself.
class line_builder {
 public:
  line_builder(std::size_t width, const frame_options& options)
      : columns_(width > 1 ? width - 1 : 1), options_(options) {}

  std::size_t left() const { return used_ + right_width_ < columns_ ? columns_ - used_ - right_width_ : 0; }

  /// Reserves the right end, unless that leaves no room for anything else.
  void right(std::string_view text, const std::string& color = {}) {
    auto width = text_width(text);
    if (columns_ < narrow_columns || width + 2 > columns_) return;
    right_ = paint(text, color);
    right_width_ = width + 1;
  }
  void add(std::string_view text, const std::string& color = {}) {
    auto fitted = fit_text(text, left(), mark());
    used_ += text_width(fitted);
    text_ += paint(fitted, color);
  }
  frame_line finish() {
    if (right_width_ != 0) {
      text_ += std::string(columns_ - used_ - right_width_ + 1, ' ') + right_;
      used_ = columns_;
    }
    return {std::move(text_), used_};
  }

 private:
  std::string_view mark() const {
    return options_.unicode ? unicode_symbols.ellipsis : ascii_symbols.ellipsis;
  }
  std::string paint(std::string_view text, const std::string& color) const {
    if (color.empty() || text.empty()) return std::string(text);
    return color + std::string(text) + options_.colors.reset;
  }

  std::size_t columns_;
  const frame_options& options_;
  std::string text_;
  std::size_t used_ = 0;
  std::string right_;
  std::size_t right_width_ = 0;
};

class renderer {
 public:
  renderer(const trace& t, nanoseconds_t now, std::size_t width, const frame_options& options)
      : trace_(t),
        now_(now),
        remote_now_(now + t.clock_difference()),
        width_(width),
        options_(options),
        symbols_(options.unicode ? unicode_symbols : ascii_symbols) {}

  frame_line header(bool final) const {
    line_builder line(width_, options_);
    bool failed = false, cancelled = false;
    for (const auto* v : trace_.shown()) {
      failed = failed || (v->failed() && !v->cancelled());
      cancelled = cancelled || v->cancelled();
    }
    line.right(format_timer(now_ - trace_.start_time(now_)));
    line.add(fmt::format("[+] {} ({}/{})", options_.phase, trace_.completed_count(), trace_.total_count()));
    const auto& c = options_.colors;
    if (final && failed) line.add(" FAILED", c.error);
    else if (final) line.add(cancelled ? " CANCELED" : " FINISHED", cancelled ? c.cancel : c.run);
    return line.finish();
  }

  frame_line step(const vertex_state& v) const {
    const auto& c = options_.colors;
    line_builder line(width_, options_);
    std::string color;
    line.add(" ");
    if (!v.completed()) {
      line.right(format_timer(v.active_time(remote_now_)));
      line.add(spinner(), c.run);
    } else if (v.cancelled()) {
      color = c.cancel;
      line.right("canceled", color);
      line.add(symbols_.cancelled, color);
    } else if (v.failed()) {
      color = c.error;
      line.right(format_timer(v.active_time(remote_now_)), color);
      line.add(symbols_.failed, color);
    } else if (v.info.cached) {
      line.right("cached", c.faint);
      line.add(symbols_.done, c.faint);
    } else {
      color = c.run;
      line.right(format_timer(v.active_time(remote_now_)), color);
      line.add(symbols_.done, color);
    }
    line.add(" ");
    line.add(v.info.name, color);
    if (!v.reasons.empty() && line.left() >= reason_columns_min) {
      line.add("  ");
      line.add(v.reasons.back(), c.faint);
    }
    return line.finish();
  }

  /// Transfers under way, warnings and the log's tail; at most `limit` lines.
  std::vector<frame_line> details(const vertex_state& v, std::size_t limit) const {
    std::vector<frame_line> out;
    for (const auto& w : v.warnings)
      if (out.size() < limit) out.push_back(warning(w));
    std::vector<const vertex_status*> open;
    for (const auto& s : v.statuses)
      if (!s.completed) open.push_back(&s);
    std::size_t transfers = std::min({open.size(), options_.status_lines, limit - out.size()});
    for (std::size_t i = 0; i < transfers; ++i) out.push_back(transfer(*open[i]));
    for (const auto& text : v.tail.last(std::min(options_.log_lines, limit - out.size()))) {
      line_builder line(width_, options_);
      line.add("   ");
      line.add(symbols_.log, options_.colors.faint);
      line.add(" ");
      line.add(text, options_.colors.faint);
      out.push_back(line.finish());
    }
    return out;
  }

  frame_line warning(const vertex_warning& w) const {
    line_builder line(width_, options_);
    line.add("   ");
    line.add(symbols_.warning, options_.colors.warning);
    line.add(" ");
    line.add(w.brief, options_.colors.warning);
    return line.finish();
  }

  frame_line folded(std::size_t steps, std::size_t cached) const {
    line_builder line(width_, options_);
    line.add(" ");
    line.add(symbols_.done, options_.colors.faint);
    auto text = fmt::format(" {} step{} done", steps, steps == 1 ? "" : "s");
    if (cached != 0) text += fmt::format(", {} cached", cached);
    line.add(text, options_.colors.faint);
    return line.finish();
  }

  frame_line more(std::size_t steps) const {
    line_builder line(width_, options_);
    line.add(" ");
    line.add(symbols_.more, options_.colors.faint);
    line.add(fmt::format(" {} more running", steps), options_.colors.faint);
    return line.finish();
  }

 private:
  std::string_view spinner() const {
    auto tick = static_cast<std::size_t>(now_ / spinner_period);
    if (options_.unicode) return unicode_spinner[tick % std::size(unicode_spinner)];
    return ascii_spinner[tick % std::size(ascii_spinner)];
  }

  frame_line transfer(const vertex_status& s) const {
    line_builder line(width_, options_);
    line.add("   ");
    std::string amount;
    if (s.total != 0) amount = format_bytes(s.current) + " / " + format_bytes(s.total);
    else if (s.current != 0) amount = format_bytes(s.current);
    if (s.started) {
      if (!amount.empty()) amount += "  ";
      amount += format_timer(remote_now_ - *s.started);
    }
    line.right(amount, options_.colors.faint);
    bool bar = s.total > 0 && line.left() > bar_columns + 24;
    if (bar) {
      auto full = static_cast<std::size_t>(
          std::clamp(static_cast<double>(s.current) / static_cast<double>(s.total), 0.0, 1.0) *
          static_cast<double>(bar_columns));
      std::string filled, empty;
      for (std::size_t i = 0; i < bar_columns; ++i)
        (i < full ? filled : empty) += i < full ? symbols_.bar_full : symbols_.bar_empty;
      line.add(filled, options_.colors.run);
      line.add(empty, options_.colors.faint);
      line.add(" ");
    }
    line.add(s.id, options_.colors.faint);
    return line.finish();
  }

  const trace& trace_;
  nanoseconds_t now_;
  nanoseconds_t remote_now_;
  std::size_t width_;
  const frame_options& options_;
  const symbols& symbols_;
};

}  // namespace

std::vector<frame_line> render_frame(const trace& t, nanoseconds_t now, std::size_t width, std::size_t height,
                                     const frame_options& options, bool final) {
  renderer r(t, now, width, options);
  std::vector<frame_line> out{r.header(final)};
  if (final) {
    for (const auto* v : t.shown()) {
      out.push_back(r.step(*v));
      for (const auto& w : v->warnings) out.push_back(r.warning(w));
    }
    return out;
  }
  // One line is the header's, one stays free for the cursor.
  std::size_t budget = height > 3 ? height - 2 : 1;
  std::vector<const vertex_state*> running, finished;
  for (const auto* v : t.shown()) (v->completed() ? finished : running).push_back(v);

  std::size_t running_lines = std::min(running.size(), budget);
  bool overflow = running.size() > budget;
  if (overflow && running_lines > 1) --running_lines;
  std::size_t rest = budget - std::min(budget, running_lines + (overflow ? 1 : 0));

  // Finished steps may use what logs leave, but always about a third, so that the build's shape stays
  // visible.
  std::size_t reserved = std::min({finished.size(), rest, std::max<std::size_t>(1, budget / 3)});
  std::size_t for_details = rest - reserved;
  std::vector<std::vector<frame_line>> details(running_lines);
  for (std::size_t i = 0; i < running_lines; ++i) {
    // The newest step matters most: it gets its lines first.
    std::size_t index = running_lines - 1 - i;
    std::size_t share = for_details / (running_lines - i);
    details[index] = r.details(*running[index], share);
    for_details -= details[index].size();
  }
  std::size_t for_finished = reserved + for_details;

  // Failed steps stay; of the others the last to finish.
  std::vector<const vertex_state*> by_end = finished;
  std::stable_sort(by_end.begin(), by_end.end(), [](const vertex_state* a, const vertex_state* b) {
    bool fa = a->failed() && !a->cancelled(), fb = b->failed() && !b->cancelled();
    if (fa != fb) return fa;
    return *a->merged.back().stop > *b->merged.back().stop;
  });
  if (by_end.size() > for_finished) by_end.resize(for_finished > 0 ? for_finished - 1 : 0);
  std::size_t hidden = finished.size() - by_end.size();
  if (hidden != 0 && for_finished > 0) {
    std::size_t cached = 0;
    for (const auto* v : finished)
      if (v->info.cached && std::find(by_end.begin(), by_end.end(), v) == by_end.end()) ++cached;
    out.push_back(r.folded(hidden, cached));
  }
  std::size_t run_index = 0;
  for (const auto* v : t.shown()) {
    if (v->completed()) {
      if (std::find(by_end.begin(), by_end.end(), v) != by_end.end()) out.push_back(r.step(*v));
      continue;
    }
    if (run_index < running_lines) {
      out.push_back(r.step(*v));
      for (auto& line : details[run_index]) out.push_back(std::move(line));
    }
    ++run_index;
  }
  if (overflow && running.size() > running_lines && out.size() <= budget)
    out.push_back(r.more(running.size() - running_lines));
  return out;
}

std::string frame_painter::paint(const std::vector<frame_line>& lines, std::size_t width) {
  // Synchronized output and a hidden cursor: terminals that know the first show the frame at once.
  std::string out = "\x1b[?2026h\x1b[?25l";
  std::size_t rows = 0;
  for (auto w : last_widths_) rows += width == 0 || w <= width ? 1 : (w + width - 1) / width;
  if (rows != 0) out += fmt::format("\x1b[{}A", rows);
  out += "\r";
  // A terminal that has just folded or joined lines remembers which belonged together: start on clean ones.
  if (rows != 0 && width != last_columns_) out += "\x1b[J";
  last_columns_ = width;
  last_widths_.clear();
  for (const auto& line : lines) {
    out += line.text + "\x1b[K\n";
    last_widths_.push_back(line.width);
  }
  return out + "\x1b[J\x1b[?25h\x1b[?2026l";
}

}  // namespace kiln::client
