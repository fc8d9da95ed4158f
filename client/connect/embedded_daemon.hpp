// A daemon of our own for `kilnctl build` when none listens: started beside us, ended with us, its state
// kept.
#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "base/result.hpp"
#include "client/process.hpp"

namespace kiln::client {

/// Where embedded daemons keep their state: /var/lib/kiln as root, else $XDG_DATA_HOME/kiln or
/// ~/.local/share/kiln. KILN_ROOT overrides.
std::string embedded_root();
/// The socket an embedded daemon on that root listens at.
std::string embedded_socket(const std::string& root);

class embedded_daemon {
 public:
  /// Starts kilnd on `root` and waits until its socket accepts; its output goes to <root>/kilnd.log. When
  /// another daemon already holds the root, nothing is started and that one is used. permission_denied where
  /// another user could listen in our place; not_found without a kilnd; unavailable with the log's end when
  /// it does not come up.
  static result<std::unique_ptr<embedded_daemon>> start(const std::string& root, std::stop_token stop);
  ~embedded_daemon();

  std::string address() const;
  /// Waits until no other client uses it, asks it to end and waits for that; only gives it up when it is not
  /// ours.
  void stop();
  /// For the second Ctrl-C.
  void kill();

 private:
  std::string socket_;
  unique_fd use_lock_;  // shared while we use the daemon; whoever started it waits for the others
  std::unique_ptr<child_process> child_;  // null: somebody else's
};

}  // namespace kiln::client
