#include "gateway/bridge/exec_call.hpp"

#include <deque>
#include <map>
#include <set>

#include "actors/handles.hpp"
#include "actors/spawn_outside.hpp"
#include "messages/actor_error.hpp"

namespace kiln::gateway {

namespace {

constexpr auto method = "LLBBridge/ExecProcess";

using input_atom = caf::atom_constant<caf::atom("input")>;
using ended_input_atom = caf::atom_constant<caf::atom("inputend")>;
using written_atom = caf::atom_constant<caf::atom("written")>;

/// The actor's face to the reactor; each message is one event of the stream.
using exec_actor =
    process_listener::extend<caf::reacts_to<input_atom, gw::ExecMessage>, caf::reacts_to<ended_input_atom>,
                             caf::reacts_to<written_atom, std::string, std::uint64_t>>;

/// Moves messages between the stream and its actor. Reads one message at a time: the actor asks for the next.
class exec_call final : public exec_reactor, public call_state {
 public:
  static std::shared_ptr<exec_call> make() {
    auto call = std::make_shared<exec_call>();
    call->self_ = call;
    return call;
  }
  void attach(exec_actor actor) {
    std::lock_guard lock(mutex_);
    actor_ = std::move(actor);
  }
  void read_next() {
    std::lock_guard lock(mutex_);
    if (!is_finished()) StartRead(&in_);
  }
  void send(gw::ExecMessage message) {
    std::lock_guard lock(mutex_);
    if (is_finished()) return;
    queue_.push_back(std::move(message));
    if (!writing_) start_write();
  }
  void succeed() {
    {
      std::lock_guard lock(mutex_);
      ending_ = true;
      if (writing_) return;
    }
    finish(grpc::Status::OK);
  }
  void fail(const error& e) {
    {
      std::lock_guard lock(mutex_);
      if (ending_) return;
    }
    if (claim_finish()) end(e);
  }

 private:
  void finish(const grpc::Status& s) {
    if (claim_finish()) Finish(s);
  }
  void end(const error& e) {
    log_failure(method, e);
    Finish(to_grpc(e));
  }
  void start_write() {  // with mutex_ held
    writing_ = true;
    out_ = std::move(queue_.front());
    queue_.pop_front();
    StartWrite(&out_);
  }
  exec_actor actor() {
    std::lock_guard lock(mutex_);
    return actor_;
  }
  void OnReadDone(bool ok) override {
    auto to = actor();
    if (!to) return;
    if (ok) {
      caf::anon_send(to, input_atom::value, std::move(in_));
      in_.Clear();
    } else {
      caf::anon_send(to, ended_input_atom::value);
    }
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return OnCancel();
    exec_actor to;
    bool over = false;
    std::string process = out_.processid();
    std::uint64_t bytes = out_.has_file() ? out_.file().data().size() : 0;
    {
      std::lock_guard lock(mutex_);
      if (is_finished()) return;
      writing_ = false;
      to = actor_;
      if (!queue_.empty()) {
        start_write();
      } else {
        over = ending_;
      }
    }
    if (bytes > 0 && to) caf::anon_send(to, written_atom::value, std::move(process), bytes);
    if (over) finish(grpc::Status::OK);
  }
  void OnCancel() override {
    leave([this] { end(client_gone()); });
  }
  void OnDone() override {
    {
      std::lock_guard lock(mutex_);
      actor_ = nullptr;
    }
    self_.reset();
  }

  std::shared_ptr<exec_call> self_;
  exec_actor actor_;
  gw::ExecMessage in_;
  gw::ExecMessage out_;
  std::deque<gw::ExecMessage> queue_;
  bool writing_ = false;
  bool ending_ = false;
};

class exec_state {
 public:
  exec_state(exec_actor::pointer self, std::shared_ptr<exec_call> call, const build_lookup& lookup,
             containers_actor containers)
      : self_(self), call_(std::move(call)), containers_(std::move(containers)) {
    self_->monitor(containers_);
    self_->set_down_handler([this](caf::down_msg& down) {
      if (down.source == containers_.address())
        give_up(make_error(errc::unavailable, "the daemon's containers are restarting"));
    });
    find(lookup);
  }
  // However the actor ends, the call does; processes see their listener go.
  ~exec_state() { call_->fail(make_error(errc::unavailable, "the daemon dropped the call")); }

  exec_actor::behavior_type behavior() {
    return {
        [this](gw::ExecMessage& message) { said(message); },
        [this](input_atom, gw::ExecMessage& message) { take(message); },
        [this](ended_input_atom) { input_ends(); },
        [this](written_atom, const std::string& id, std::uint64_t bytes) {
          auto it = processes_.find(id);
          if (it != processes_.end() && it->second) self_->send(it->second, credit_atom::value, bytes);
        },
    };
  }

 private:
  void find(const build_lookup& lookup) {
    if (lookup.known) {
      build_ = lookup.known;
      call_->read_next();
      return;
    }
    self_->request(lookup.builds, caf::infinite, find_atom::value, lookup.ref)
        .then(
            [this](build_actor& build) {
              build_ = build;
              call_->read_next();
            },
            [this](caf::error& e) { give_up(from_caf(e).with_context("forwarding ExecProcess")); });
  }

  void give_up(const error& e) {
    call_->fail(e);
    self_->quit();
  }

  void end_if_idle() {
    if (!input_ended_ || !processes_.empty()) return;
    call_->succeed();
    self_->quit();
  }

  /// What a process says.
  void said(gw::ExecMessage& message) {
    bool done = message.has_done();
    auto id = message.processid();
    call_->send(std::move(message));
    if (!done) return;
    processes_.erase(id);
    ended_.insert(id);
    end_if_idle();
  }

  /// What the client says.
  void take(gw::ExecMessage& message) {
    if (message.processid().empty()) return give_up(make_error(errc::invalid_argument, "ProcessID required"));
    if (!message.has_init()) return pass_on(std::move(message));
    if (processes_.contains(message.processid()))
      return give_up(make_error(errc::already_exists, "Process " + message.processid() + " already exists"));
    start(std::move(message));
  }

  void start(gw::ExecMessage message) {
    auto id = message.processid();
    processes_.emplace(id, process_actor{});
    self_
        ->request(containers_, caf::infinite, exec_atom::value, build_, std::move(message),
                  actors::handle_of<process_listener>(self_))
        .then(
            [this, id](process_actor& process) {
              auto it = processes_.find(id);
              if (it == processes_.end()) return;  // it has ended already
              it->second = process;
              for (auto& early : std::exchange(early_[id], {})) caf::anon_send(process, std::move(early));
              early_.erase(id);
            },
            [this](caf::error& e) { give_up(from_caf(e)); });
    call_->read_next();
  }

  void pass_on(gw::ExecMessage message) {
    auto it = processes_.find(message.processid());
    // The client may not know yet that it has ended.
    if (it == processes_.end() && ended_.contains(message.processid())) return call_->read_next();
    if (it == processes_.end())
      return give_up(make_error(errc::not_found, "IO for process \"" + message.processid() + "\" not found"));
    if (!it->second) {
      early_[message.processid()].push_back(std::move(message));
      return call_->read_next();
    }
    self_->request(it->second, caf::infinite, std::move(message))
        .then([this](bool) { call_->read_next(); },
              [this](caf::error& e) {
                auto why = from_caf(e);
                // A process that has just ended takes no more input; that is no error of the client's.
                if (why.code == errc::unavailable) return call_->read_next();
                give_up(why);
              });
  }

  void input_ends() {
    input_ended_ = true;
    for (auto& [id, process] : processes_) {
      if (!process) continue;
      gw::ExecMessage eof;
      eof.set_processid(id);
      eof.mutable_file()->set_eof(true);
      caf::anon_send(process, std::move(eof));
    }
    end_if_idle();
  }

  exec_actor::pointer self_;
  std::shared_ptr<exec_call> call_;
  containers_actor containers_;
  build_actor build_;
  std::map<std::string, process_actor> processes_;             // null while starting
  std::map<std::string, std::vector<gw::ExecMessage>> early_;  // input that came before the process was up
  std::set<std::string> ended_;                                // processes that were here
  bool input_ended_ = false;
};

exec_actor::behavior_type exec_behavior(exec_actor::stateful_pointer<actors::actor_state> self,
                                        std::shared_ptr<exec_call> call, const build_lookup& lookup,
                                        containers_actor containers) {
  return self->state.hold<exec_state>("exec-call", self, std::move(call), lookup, std::move(containers))
      .behavior();
}

}  // namespace

exec_reactor* open_exec_call(caf::actor_system& system, const build_lookup& lookup,
                             const containers_actor& containers) {
  auto call = exec_call::make();
  auto* reactor = call.get();
  auto actor = actors::spawn_outside(system, exec_behavior, call, lookup, containers);
  call->attach(actor);
  call->on_cancel([actor] { caf::anon_send_exit(actor, caf::exit_reason::user_shutdown); });
  return reactor;
}

exec_reactor* refuse_exec_call(const error& e) {
  class refused final : public exec_reactor {
   public:
    explicit refused(const error& e) {
      log_failure(method, e);
      Finish(to_grpc(e));
    }
    void OnDone() override { delete this; }
  };
  return new refused(e);
}

}  // namespace kiln::gateway
