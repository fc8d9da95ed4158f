#include "supervisors/supervisor.hpp"

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <set>

#include <spdlog/spdlog.h>

#include "actors/handles.hpp"
#include "configs/supervision.hpp"
#include "messages/actor_error.hpp"
#include "messages/actor_interfaces.hpp"
#include "supervisors/restart_window.hpp"

namespace kiln::supervision {

namespace {

using stop_timeout_atom = caf::atom_constant<caf::atom("stoptimeo")>;
using start_again_atom = caf::atom_constant<caf::atom("startagain")>;

struct child {
  child_spec spec;
  caf::actor handle;  // null while down
  std::uint32_t restarts = 0;
};

bool is_normal(const caf::error& reason) {
  return !reason || reason == caf::exit_reason::normal || reason == caf::exit_reason::user_shutdown;
}

/// What happens once the children being stopped are down.
enum class after_stop { start_again, quit };

class supervisor_state {
 public:
  explicit supervisor_state(caf::event_based_actor* self) : self_(self) {}

  caf::behavior run(supervisor_options options) {
    options_ = std::move(options);
    window_.emplace(options_.intensity, options_.period);
    self_->set_exit_handler([this](caf::exit_msg& m) { on_exit(m); });
    if (!simple())
      for (auto& spec : options_.children) children_.push_back({spec, {}, 0});
    start_from(0);
    return {
        [this](start_child_atom, const caf::message& arguments) { return start_dynamic(arguments); },
        [this](adopt_atom, const caf::actor& child) { adopt(child); },
        [this](children_atom) { return report(); },
        [this](stop_timeout_atom, std::uint64_t generation) { on_stop_timeout(generation); },
        [this](start_again_atom, std::uint64_t index) { start_from(index); },
    };
  }

 private:
  bool simple() const { return options_.how == strategy::simple_one_for_one; }

  std::vector<child>::iterator find(const std::string& id) {
    return std::find_if(children_.begin(), children_.end(), [&](const child& c) { return c.spec.id == id; });
  }

  // Starting.

  bool start_child(child& c, const caf::message& arguments) {
    auto started = c.spec.start(self_, arguments);
    if (!started) {
      spdlog::error("{}: starting {} failed: {}", options_.name, c.spec.id,
                    from_caf(started.error()).message);
      return false;
    }
    c.handle = *started;
    self_->link_to(c.handle);
    if (options_.registry && !simple()) options_.registry->put(c.spec.id, c.handle);
    if (options_.started) options_.started(c.spec.id);
    return true;
  }

  /// Starts every child that is down, from `index` on, in order. A failed start counts as a restart
  /// and is tried again by a message to ourselves, so that the supervisor stays responsive.
  void start_from(std::size_t index) {
    if (stopping_ || quitting_) return;
    for (; index < children_.size(); ++index) {
      auto& c = children_[index];
      if (c.handle || ended_.count(c.spec.id)) continue;
      if (start_child(c, {})) continue;
      if (!window_->add(self_->clock().now())) return give_up(c.spec.id);
      ++c.restarts;
      self_->send(self_, start_again_atom::value, static_cast<std::uint64_t>(index));
      return;
    }
    if (failed_.empty()) return;
    auto [id, reason] = std::move(failed_.front());
    failed_.pop_front();
    on_child_down(id, reason);
  }

  caf::result<caf::actor> start_dynamic(const caf::message& arguments) {
    if (!simple())
      return to_caf(make_error(errc::failed_precondition, options_.name + " starts no children on demand"));
    if (stopping_ || quitting_)
      return to_caf(make_error(errc::unavailable, options_.name + " is shutting down"));
    child c{options_.children.front(), {}, 0};
    c.spec.id += "/" + std::to_string(++dynamic_count_);
    if (!start_child(c, arguments))
      return to_caf(make_error(errc::unavailable, "starting " + c.spec.id + " failed"));
    arguments_.emplace(c.spec.id, arguments);
    children_.push_back(std::move(c));
    return children_.back().handle;
  }

  void adopt(const caf::actor& handle) {
    if (!simple() || stopping_ || quitting_)
      return caf::anon_send_exit(handle, caf::exit_reason::user_shutdown);
    child c{options_.children.front(), handle, 0};
    c.spec.id += "/" + std::to_string(++dynamic_count_);
    c.spec.policy = restart::temporary;
    children_.push_back(std::move(c));
    self_->link_to(handle);
  }

  // A child or our parent died.

  void on_exit(const caf::exit_msg& m) {
    auto found = std::find_if(children_.begin(), children_.end(),
                              [&](const child& c) { return c.handle && c.handle.address() == m.source; });
    if (found == children_.end()) {
      if (was_child(m.source)) return;  // a kill that came through late
      return quit_with(m.reason ? m.reason : caf::error{caf::exit_reason::user_shutdown});
    }
    auto id = found->spec.id;
    forget(*found, is_normal(m.reason) ? std::string() : from_caf(m.reason).message);
    if (stopping_) return on_down_while_stopping(id, m.reason);
    on_child_down(id, m.reason);
  }

  void forget(child& c, std::string fate = {}) {
    gone_.push_back(c.handle.address());
    if (gone_.size() > configs::supervision::remembered_dead_max) gone_.pop_front();
    c.handle = nullptr;
    if (options_.registry && !simple()) options_.registry->erase(c.spec.id, std::move(fate));
  }

  bool was_child(const caf::actor_addr& address) const {
    return std::find(gone_.begin(), gone_.end(), address) != gone_.end();
  }

  void on_child_down(const std::string& id, const caf::error& reason) {
    auto found = find(id);
    if (found == children_.end()) return;
    bool again = found->spec.policy == restart::permanent ||
                 (found->spec.policy == restart::transient && !is_normal(reason));
    if (!again) {
      if (simple()) {
        arguments_.erase(id);
        children_.erase(found);
      } else {
        ended_.insert(id);
      }
      return;
    }
    spdlog::warn("{}: {} died ({}), restarting", options_.name, id,
                 reason ? from_caf(reason).message : "it ended by itself");
    if (!window_->add(self_->clock().now())) return give_up(id);
    ++found->restarts;
    auto index = static_cast<std::size_t>(found - children_.begin());
    switch (options_.how) {
      case strategy::one_for_one: return start_from(index);
      case strategy::one_for_all: return stop_children(0, after_stop::start_again);
      case strategy::rest_for_one: return stop_children(index, after_stop::start_again);
      case strategy::simple_one_for_one:
        if (!start_child(*found, arguments_[id])) give_up(id);
        return;
    }
  }

  void give_up(const std::string& id) {
    spdlog::error("{}: {} died too often (more than {} restarts in {} ms), giving up", options_.name, id,
                  options_.intensity, options_.period.count());
    quit_with(to_caf(make_error(errc::aborted, options_.name + ": too many restarts of " + id)));
  }

  // Stopping.

  void quit_with(caf::error reason) {
    if (quitting_) return;
    quitting_ = true;
    quit_reason_ = std::move(reason);
    if (stopping_) {  // a stop for a restart is under way: it becomes a stop for good
      after_ = after_stop::quit;
      stop_lowest_ = 0;
      return;
    }
    stop_children(0, after_stop::quit);
  }

  /// Stops children [lowest, end) in reverse order; all at once for simple_one_for_one.
  void stop_children(std::size_t lowest, after_stop then) {
    stopping_ = true;
    stop_lowest_ = lowest;
    after_ = then;
    if (simple())
      for (auto& c : children_) ask_to_stop(c);
    stop_next();
  }

  // Anonymously: an actor that gets an exit message from a linked peer drops the link, and we would
  // never hear of its end.
  void ask_to_stop(child& c) {
    if (c.handle) caf::anon_send_exit(c.handle, caf::exit_reason::user_shutdown);
  }

  void stop_next() {
    for (auto i = children_.size(); i > stop_lowest_; --i) {
      auto& c = children_[i - 1];
      if (!c.handle) continue;
      stopping_id_ = c.spec.id;
      killed_ = false;
      ++generation_;
      if (!simple()) ask_to_stop(c);
      if (c.spec.shutdown_timeout != no_timeout)
        self_->delayed_send(self_, c.spec.shutdown_timeout, stop_timeout_atom::value, generation_);
      return;
    }
    finish_stop();
  }

  void on_stop_timeout(std::uint64_t generation) {
    if (!stopping_ || generation != generation_) return;
    auto found = find(stopping_id_);
    if (found == children_.end() || !found->handle) return;
    if (!killed_) {
      spdlog::warn("{}: {} did not stop in {} ms, killing it", options_.name, stopping_id_,
                   found->spec.shutdown_timeout.count());
      killed_ = true;
      caf::anon_send_exit(found->handle, caf::exit_reason::kill);
      self_->delayed_send(self_, configs::supervision::kill_grace, stop_timeout_atom::value, generation_);
      return;
    }
    spdlog::error("{}: {} does not even die when killed, going on without it", options_.name, stopping_id_);
    self_->unlink_from(found->handle);
    forget(*found);
    stop_next();
  }

  void on_down_while_stopping(const std::string& id, const caf::error& reason) {
    if (id == stopping_id_) return stop_next();
    auto index = static_cast<std::size_t>(find(id) - children_.begin());
    // A sibling outside the set being stopped died meanwhile: its turn comes after this restart.
    if (index < stop_lowest_) failed_.emplace_back(id, reason);
  }

  void finish_stop() {
    stopping_ = false;
    stopping_id_.clear();
    if (after_ == after_stop::start_again) return start_from(stop_lowest_);
    self_->quit(quit_reason_);
  }

  std::vector<child_report> report() const {
    std::vector<child_report> all;
    for (const auto& c : children_) all.push_back({c.spec.id, static_cast<bool>(c.handle), c.restarts});
    return all;
  }

  caf::event_based_actor* self_;
  supervisor_options options_;
  std::optional<restart_window> window_;
  std::vector<child> children_;
  std::set<std::string> ended_;  // for good: temporary, or transient and normal
  std::map<std::string, caf::message> arguments_;
  std::uint64_t dynamic_count_ = 0;
  std::deque<caf::actor_addr> gone_;
  std::deque<std::pair<std::string, caf::error>> failed_;

  bool stopping_ = false;
  bool quitting_ = false;
  bool killed_ = false;
  after_stop after_ = after_stop::quit;
  std::size_t stop_lowest_ = 0;
  std::string stopping_id_;
  std::uint64_t generation_ = 0;
  caf::error quit_reason_;
};

caf::behavior supervisor(caf::stateful_actor<actors::actor_state>* self, const supervisor_options& options) {
  return self->state.hold<supervisor_state>("supervisor", self).run(options);
}

}  // namespace

caf::actor spawn_supervisor(caf::actor_system& system, supervisor_options options) {
  return system.spawn(supervisor, std::move(options));
}

child_spec nested(supervisor_options options) {
  child_spec spec;
  spec.id = options.name;
  spec.shutdown_timeout = no_timeout;
  spec.start = [options = std::move(options)](caf::event_based_actor* parent,
                                              const caf::message&) -> caf::expected<caf::actor> {
    return spawn_supervisor(parent->system(), options);
  };
  return spec;
}

}  // namespace kiln::supervision
