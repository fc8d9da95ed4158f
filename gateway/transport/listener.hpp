// Listening sockets: unix://PATH, tcp://HOST:PORT and fd:// (socket activation), and the thread that
// accepts on all of them. Knows nothing of gRPC or TLS.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/thread.hpp"

namespace kiln::gateway {

/// An address as on the command line. Source: BuildKit cmd/buildkitd/main.go, getListener.
struct listen_address {
  enum class kind { unix_socket, tcp, inherited };
  listen_address::kind kind = kind::unix_socket;
  std::string target;  // path, host:port, or empty
};

/// invalid_argument for a missing or unknown scheme ("did you mean unix://…?") and an empty target.
result<listen_address> parse_listen_address(std::string_view text);

struct socket_owner {
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  mode_t mode = 0660;
};

/// One bound, listening, close-on-exec socket. Unlinks its unix path when closed.
class listening_socket {
 public:
  /// A unix path left behind by a dead daemon is taken over; one with a live listener, that is no socket, or
  /// where others than root, us and the owner could put one of theirs, is refused. tcp may yield several
  /// sockets (one a resolved address).
  static result<std::vector<listening_socket>> open(const listen_address& address, const socket_owner& owner);

  listening_socket(listening_socket&& other) noexcept;
  listening_socket& operator=(listening_socket&&) = delete;
  ~listening_socket();

  /// The same socket once more, which unlinks nothing.
  result<listening_socket> share() const;

  int fd() const { return fd_; }
  bool tcp() const { return tcp_; }
  /// As it can be dialled: "unix:///path", "tcp://127.0.0.1:1234" (port 0 replaced by the real one).
  const std::string& address() const { return address_; }

 private:
  listening_socket(int fd, bool tcp, std::string address, std::string unlink_path)
      : fd_(fd), tcp_(tcp), address_(std::move(address)), unlink_path_(std::move(unlink_path)) {}
  static result<listening_socket> open_unix(const std::string& path, const socket_owner& owner);
  static result<std::vector<listening_socket>> open_tcp(const std::string& host_port);
  static result<listening_socket> open_inherited();

  int fd_;
  bool tcp_;
  std::string address_;
  std::string unlink_path_;
};

/// Accepts on its own thread and hands each connection (non-blocking, close-on-exec) over.
class acceptor {
 public:
  /// `accepted(fd, tcp)` owns the fd.
  acceptor(std::vector<listening_socket> sockets, std::function<void(int fd, bool tcp)> accepted);
  ~acceptor();
  /// Closes the sockets: no new connections from now on. Idempotent.
  void stop();
  std::vector<std::string> addresses() const { return addresses_; }

 private:
  void run();

  std::vector<listening_socket> sockets_;
  std::vector<std::string> addresses_;
  std::function<void(int, bool)> accepted_;
  int epoll_fd_ = -1;
  int wake_fd_ = -1;
  thread thread_;
};

}  // namespace kiln::gateway
