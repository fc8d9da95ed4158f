#include "actors/containers/container_process.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>

#include "configs/containers.hpp"
#include "messages/rpc_status.hpp"

namespace kiln::actors {

namespace {

namespace cfg = configs::containers;

constexpr std::uint32_t unknown_exit = 255;
constexpr auto exit_detail_type = "github.com/moby/buildkit/gatewayapi.ExitMessage+json";

/// What the running thread, the input threads and the actor share.
struct process_core {
  explicit process_core(process_options o) : options(std::move(o)), id(options.init.processid()) {
    for (auto fd : options.init.init().fds()) fds.insert(fd);
  }

  void tell(gw::ExecMessage message) {
    message.set_processid(id);
    caf::anon_send(options.listener, std::move(message));
  }

  /// Sends output as far as credit reaches; blocks beyond.
  void output(std::uint32_t fd, std::string_view bytes) {
    if (!fds.contains(fd)) return;
    while (!bytes.empty()) {
      auto piece = bytes.substr(0, cfg::output_message_bytes);
      {
        std::unique_lock lock(mutex);
        changed.wait(lock, stop.get_token(), [&] { return outstanding < cfg::output_ahead_bytes; });
        if (stop.stop_requested()) return;
        outstanding += piece.size();
      }
      gw::ExecMessage message;
      message.mutable_file()->set_fd(fd);
      message.mutable_file()->set_data(std::string(piece));
      tell(std::move(message));
      bytes.remove_prefix(piece.size());
    }
  }

  void credit(std::uint64_t bytes) {
    {
      std::lock_guard lock(mutex);
      outstanding -= std::min(outstanding, bytes);
    }
    changed.notify_all();
  }

  static status verdict_of(const result<workers::exit_state>& end) {
    if (!end.ok()) return end.error();
    if (end->code == 0) return {};
    auto code = std::to_string(end->code);
    auto why =
        make_error(errc::unknown, end->out_of_memory ? "cannot allocate memory" : "exit code: " + code);
    why.details.push_back({exit_detail_type, "{\"Code\":" + code + "}"});
    return why;
  }

  void report_end(std::uint32_t code, const status& verdict) {
    for (auto fd : fds) {
      if (fd == 0) continue;
      gw::ExecMessage eof;
      eof.mutable_file()->set_fd(fd);
      eof.mutable_file()->set_eof(true);
      tell(std::move(eof));
    }
    gw::ExecMessage exit;
    auto& out = *exit.mutable_exit();
    out.set_code(code);
    if (!verdict.ok()) to_rpc_status(verdict.error(), *out.mutable_error());
    tell(std::move(exit));
    gw::ExecMessage done;
    done.mutable_done();
    tell(std::move(done));
  }

  status run() {
    // The container's end is this process' end too.
    std::stop_callback released(options.released, [this] { stop.request_stop(); });
    bool told = false;
    auto start = [&](bool up) {
      if (std::exchange(told, true)) return;
      if (up && !fds.contains(0)) control.close_input();  // would wait for ever before the process is up
      gw::ExecMessage started;
      started.mutable_started();
      tell(std::move(started));
    };
    workers::process_io io;
    io.control = &control;
    io.started = [&] { start(true); };
    io.output = [&](int stream, std::string_view bytes) {
      start(true);
      output(static_cast<std::uint32_t>(stream), bytes);
    };
    auto end = options.container->run(options.init.init(), io, stop.get_token());
    start(false);
    auto verdict = verdict_of(end);
    report_end(end.ok() ? static_cast<std::uint32_t>(end->code) : unknown_exit, verdict);
    return verdict;
  }

  process_options options;
  const std::string id;
  std::set<std::uint32_t> fds;
  workers::process_control control;
  std::stop_source stop;
  std::mutex mutex;
  std::condition_variable_any changed;
  std::uint64_t outstanding = 0;  // bytes of output that have not left yet
};

/// Orders for a process, carried out one after the other on a pool thread. Owned by the actor.
class order_line {
 public:
  using order = std::function<void(workers::process_control&)>;
  void push(order o, std::size_t bytes) {
    orders_.push_back({std::move(o), bytes});
    bytes_ += bytes;
  }
  bool full() const { return bytes_ >= cfg::input_ahead_bytes; }
  bool idle() const { return !busy_ && !orders_.empty(); }
  std::pair<order, std::size_t> take() {
    busy_ = true;
    auto next = std::move(orders_.front());
    orders_.pop_front();
    return next;
  }
  void done(std::size_t bytes) {
    busy_ = false;
    bytes_ -= bytes;
  }

 private:
  std::deque<std::pair<order, std::size_t>> orders_;
  std::size_t bytes_ = 0;
  bool busy_ = false;
};

class process_state {
 public:
  process_state(process_impl::pointer self, process_options options)
      : self_(self), core_(std::make_shared<process_core>(std::move(options))) {
    auto listener = caf::actor_cast<caf::actor>(core_->options.listener);
    self->monitor(listener);
    self->set_down_handler([this](caf::down_msg&) { core_->stop.request_stop(); });
    jobs_.run<bool>(
        self, *core_->options.pool,
        [core = core_]() -> result<bool> {
          auto verdict = core->run();
          core->options.container.reset();  // here, where unmounting may block
          core->options.ended(std::move(verdict));
          return true;
        },
        [self, listener](result<bool>) {
          self->demonitor(listener);
          self->quit();
        });
  }
  ~process_state() {
    core_->stop.request_stop();
    refuse_all(waiting_, make_error(errc::unavailable, "the process has ended"));
  }

  process_impl::behavior_type behavior() {
    return {
        [this](gw::ExecMessage& message) { return take(message); },
        [this](credit_atom, std::uint64_t bytes) { core_->credit(bytes); },
        [this](job_done_atom, std::uint64_t id) { jobs_.finish(id); },
    };
  }

 private:
  caf::result<bool> take(gw::ExecMessage& message) {
    if (message.has_file()) return take_input(*message.mutable_file());
    if (message.has_resize()) {
      auto rows = message.resize().rows(), cols = message.resize().cols();
      controls_.push([rows, cols](workers::process_control& c) { c.resize(rows, cols); }, 0);
    } else if (message.has_signal()) {
      auto number = workers::signal_number(message.signal().name());
      if (!number)
        return to_caf(make_error(errc::invalid_argument, "Unknown signal " + message.signal().name()));
      controls_.push([n = *number](workers::process_control& c) { c.signal(n); }, 0);
    } else {
      return to_caf(make_error(errc::invalid_argument, "unexpected message for a process"));
    }
    pump(controls_);
    return true;
  }

  caf::result<bool> take_input(gw::FdMessage& file) {
    if (file.fd() != 0 || !core_->fds.contains(0) || input_closed_) {
      // The end of what was never open, or is closed already, is no news.
      if (file.eof() && file.data().empty()) return true;
      return to_caf(
          make_error(errc::out_of_range, "fd " + std::to_string(file.fd()) + " unavailable to write"));
    }
    if (auto size = file.data().size(); size > 0)
      input_.push(
          [data = std::move(*file.mutable_data())](workers::process_control& c) { c.write_input(data); },
          size);
    if (file.eof()) {
      input_closed_ = true;
      input_.push([](workers::process_control& c) { c.close_input(); }, 0);
    }
    pump(input_);
    if (!input_.full()) return true;
    waiting_.push_back(self_->make_response_promise<bool>());
    return waiting_.back();
  }

  void pump(order_line& line) {
    if (!line.idle()) return;
    auto [order, bytes] = line.take();
    jobs_.run<bool>(
        self_, *core_->options.pool,
        [core = core_, order = std::move(order)]() -> result<bool> {
          order(core->control);
          return true;
        },
        [this, &line, bytes = bytes](result<bool>) {
          line.done(bytes);
          pump(line);
          if (!input_.full())
            for (auto& p : std::exchange(waiting_, {})) p.deliver(true);
        });
  }

  process_impl::pointer self_;
  std::shared_ptr<process_core> core_;
  job_runner jobs_;
  order_line input_;
  order_line controls_;
  bool input_closed_ = false;
  std::vector<caf::typed_response_promise<bool>> waiting_;
};

}  // namespace

process_impl::behavior_type container_process(process_impl::stateful_pointer<actor_state> self,
                                              process_options options) {
  return self->state.hold<process_state>("process", self, std::move(options)).behavior();
}

}  // namespace kiln::actors
