#include "client/progress/display.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

#include "client/progress/colors.hpp"
#include "client/progress/plain.hpp"
#include "client/progress/status_json.hpp"
#include "client/progress/tty.hpp"
#include "client/warning.hpp"

namespace kiln::client {
namespace {

class json_display : public display {
 public:
  explicit json_display(text_sink sink) : sink_(std::move(sink)) {}
  void update(const solve_status& status, nanoseconds_t) override { sink_(to_json_line(status)); }
  void refresh(nanoseconds_t) override {}
  void finish(nanoseconds_t) override {}

 private:
  text_sink sink_;
};

class quiet_display : public display {
 public:
  void update(const solve_status&, nanoseconds_t) override {}
  void refresh(nanoseconds_t) override {}
  void finish(nanoseconds_t) override {}
};

text_sink fd_sink(int fd) {
  return [fd](std::string_view bytes) {
    while (!bytes.empty()) {
      auto n = ::write(fd, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;  // a closed pipe must not end the build
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  };
}

std::pair<std::size_t, std::size_t> terminal_size(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0)
    return {size.ws_col, size.ws_row};
  return {80, 24};
}

bool utf8_locale() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (!value || !*value) continue;
    std::string_view text = value;
    return text.find("UTF-8") != text.npos || text.find("utf8") != text.npos ||
           text.find("utf-8") != text.npos;
  }
  return false;
}

nanoseconds_t display_period() {
  if (const char* rate = std::getenv("TTY_DISPLAY_RATE")) {
    char* end = nullptr;
    long ms = std::strtol(rate, &end, 10);
    if (end != rate && *end == '\0' && ms >= 0) return ms * 1'000'000;
  }
  return 100'000'000;
}

frame_options frame_options_from_environment() {
  frame_options options;
  options.unicode = utf8_locale();
  if (const char* lines = std::getenv("BUILDKIT_TTY_LOG_LINES")) {
    int n = std::atoi(lines);
    if (n > 0) options.log_lines = static_cast<std::size_t>(n);
  }
  if (const char* no_color = std::getenv("NO_COLOR"); no_color && *no_color) return options;
  const char* colors = std::getenv("BUILDKIT_COLORS");
  std::vector<std::string> complaints;
  options.colors = parse_colors(colors ? colors : "", complaints);
  for (const auto& complaint : complaints) warn(complaint);
  return options;
}

}  // namespace

nanoseconds_t wall_clock() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

result<progress_mode> parse_progress_mode(std::string_view text) {
  std::string mode(text);
  if (mode == "auto" || mode.empty())
    if (const char* env = std::getenv("BUILDKIT_PROGRESS"); env && *env) mode = env;
  if (mode == "auto" || mode.empty()) return progress_mode::automatic;
  if (mode == "tty") return progress_mode::tty;
  if (mode == "plain") return progress_mode::plain;
  if (mode == "rawjson") return progress_mode::rawjson;
  if (mode == "quiet") return progress_mode::quiet;
  return make_error(errc::invalid_argument, "invalid progress mode " + mode);
}

result<std::unique_ptr<display>> make_display(progress_mode mode, int fd) {
  bool terminal = ::isatty(fd) == 1;
  if (mode == progress_mode::tty && !terminal)
    return make_error(errc::failed_precondition, "failed to get console: provided file is not a console");
  if (mode == progress_mode::automatic) mode = terminal ? progress_mode::tty : progress_mode::plain;
  std::unique_ptr<display> out;
  switch (mode) {
    case progress_mode::tty:
      out = std::make_unique<tty_display>(
          fd_sink(fd), [fd] { return terminal_size(fd); }, frame_options_from_environment(),
          display_period());
      break;
    case progress_mode::rawjson: out = std::make_unique<json_display>(fd_sink(fd)); break;
    case progress_mode::quiet: out = std::make_unique<quiet_display>(); break;
    default: {
      const char* no_trunc = std::getenv("PROGRESS_NO_TRUNC");
      plain_options options{.cut_names = no_trunc && std::strcmp(no_trunc, "0") == 0,
                            .period = display_period()};
      out = std::make_unique<plain_display>(fd_sink(fd), options);
    }
  }
  return out;
}

display_runner::display_runner(std::unique_ptr<display> d)
    : display_(std::move(d)), thread_(thread::must_start("progress", [this] { run(); })) {}

display_runner::~display_runner() { finish(); }

void display_runner::push(solve_status status) {
  std::lock_guard lock(mutex_);
  if (finished_) return;
  queue_.push_back(std::move(status));
  changed_.notify_one();
}

void display_runner::finish() {
  {
    std::lock_guard lock(mutex_);
    finished_ = true;
    changed_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void display_runner::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait_for(lock, display_->refresh_interval(), [this] { return finished_ || !queue_.empty(); });
    if (queue_.empty()) {
      if (finished_) break;
      lock.unlock();
      display_->refresh(wall_clock());
      lock.lock();
      continue;
    }
    auto status = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    display_->update(status, wall_clock());
    lock.lock();
  }
  lock.unlock();
  display_->finish(wall_clock());
}

}  // namespace kiln::client
