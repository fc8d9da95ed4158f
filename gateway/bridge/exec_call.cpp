#include "gateway/bridge/exec_call.hpp"

#include <deque>
#include <map>
#include <set>

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

struct exec_state {
  std::shared_ptr<exec_call> call;
  containers_actor containers;
  build_actor build;
  std::map<std::string, process_actor> processes;             // null while starting
  std::map<std::string, std::vector<gw::ExecMessage>> early;  // input that came before the process was up
  std::set<std::string> ended;                                // processes that were here
  bool input_ended = false;
  static inline const char* name = "exec-call";
  // However the actor ends, the call does; processes see their listener go.
  ~exec_state() {
    if (call) call->fail(make_error(errc::unavailable, "the daemon dropped the call"));
  }
};

using exec_pointer = exec_actor::stateful_pointer<exec_state>;

void give_up(exec_pointer self, const error& e) {
  self->state.call->fail(e);
  self->quit();
}

void end_if_idle(exec_pointer self) {
  auto& st = self->state;
  if (!st.input_ended || !st.processes.empty()) return;
  st.call->succeed();
  self->quit();
}

void start_process(exec_pointer self, gw::ExecMessage message) {
  auto& st = self->state;
  auto id = message.processid();
  st.processes.emplace(id, process_actor{});
  self->request(st.containers, caf::infinite, exec_atom::value, st.build, std::move(message),
                caf::actor_cast<process_listener>(self))
      .then(
          [self, id](process_actor& process) {
            auto& st = self->state;
            auto it = st.processes.find(id);
            if (it == st.processes.end()) return;  // it has ended already
            it->second = process;
            for (auto& early : std::exchange(st.early[id], {})) caf::anon_send(process, std::move(early));
            st.early.erase(id);
          },
          [self](caf::error& e) { give_up(self, from_caf(e)); });
  st.call->read_next();
}

void to_process(exec_pointer self, gw::ExecMessage message) {
  auto& st = self->state;
  auto it = st.processes.find(message.processid());
  // The client may not know yet that it has ended.
  if (it == st.processes.end() && st.ended.contains(message.processid())) return st.call->read_next();
  if (it == st.processes.end())
    return give_up(self,
                   make_error(errc::not_found, "IO for process \"" + message.processid() + "\" not found"));
  if (!it->second) {
    st.early[message.processid()].push_back(std::move(message));
    return st.call->read_next();
  }
  self->request(it->second, caf::infinite, std::move(message))
      .then([self](bool) { self->state.call->read_next(); },
            [self](caf::error& e) {
              auto why = from_caf(e);
              // A process that has just ended takes no more input; that is no error of the client's.
              if (why.code == errc::unavailable) return self->state.call->read_next();
              give_up(self, why);
            });
}

exec_actor::behavior_type exec_behavior(exec_pointer self, std::shared_ptr<exec_call> call,
                                        build_lookup lookup, containers_actor containers) {
  auto& st = self->state;
  st.call = std::move(call);
  st.containers = containers;
  self->monitor(containers);
  self->set_down_handler([self, containers](caf::down_msg& down) {
    if (down.source == containers.address())
      give_up(self, make_error(errc::unavailable, "the daemon's containers are restarting"));
  });
  if (lookup.known) {
    st.build = lookup.known;
    st.call->read_next();
  } else {
    self->request(lookup.builds, caf::infinite, find_atom::value, lookup.ref)
        .then(
            [self](build_actor& build) {
              self->state.build = build;
              self->state.call->read_next();
            },
            [self](caf::error& e) { give_up(self, from_caf(e).with_context("forwarding ExecProcess")); });
  }
  return {
      [self](gw::ExecMessage& message) {
        auto& st = self->state;
        bool done = message.has_done();
        auto id = message.processid();
        st.call->send(std::move(message));
        if (!done) return;
        st.processes.erase(id);
        st.ended.insert(id);
        end_if_idle(self);
      },
      [self](input_atom, gw::ExecMessage& message) {
        auto& st = self->state;
        if (message.processid().empty())
          return give_up(self, make_error(errc::invalid_argument, "ProcessID required"));
        if (!message.has_init()) return to_process(self, std::move(message));
        if (st.processes.contains(message.processid()))
          return give_up(
              self, make_error(errc::already_exists, "Process " + message.processid() + " already exists"));
        start_process(self, std::move(message));
      },
      [self](ended_input_atom) {
        auto& st = self->state;
        st.input_ended = true;
        for (auto& [id, process] : st.processes) {
          if (!process) continue;
          gw::ExecMessage eof;
          eof.set_processid(id);
          eof.mutable_file()->set_eof(true);
          caf::anon_send(process, std::move(eof));
        }
        end_if_idle(self);
      },
      [self](written_atom, const std::string& id, std::uint64_t bytes) {
        auto it = self->state.processes.find(id);
        if (it != self->state.processes.end() && it->second)
          self->send(it->second, credit_atom::value, bytes);
      },
  };
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
