// Puts a daemon together from its configuration: state, worker, actors, gateway; and takes it apart again.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "configs/daemon_config.hpp"

namespace kiln::node {

class daemon {
 public:
  /// Everything is up and answers when this returns. Errors say what could not be opened. `own_mounts`: this
  /// process has a mount namespace of its own.
  static result<std::unique_ptr<daemon>> start(const configs::daemon_config& config, bool own_mounts);
  ~daemon();

  /// Becomes readable when the root supervisor gave up: the process should end and be started anew.
  int failure_fd() const;
  /// Takes no new builds and waits for those that run, and for what other nodes have here: as long as the
  /// configuration gives them, and until `force_stop`, asked ten times a second, says true. Cancels the rest
  /// and stops everything in order. `closing` is called once all that is left to wait for is bounded by the
  /// time it is told, with somebody to ask what still runs; may be null.
  using closing_hook =
      std::function<void(std::chrono::nanoseconds time, std::function<std::string()> what_runs)>;
  void stop(const std::function<bool()>& force_stop, const closing_hook& closing = nullptr);

 private:
  struct parts;
  explicit daemon(std::unique_ptr<parts> p);
  std::unique_ptr<parts> parts_;
};

}  // namespace kiln::node
