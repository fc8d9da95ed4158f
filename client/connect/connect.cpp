#include "client/connect/connect.hpp"

#include <filesystem>

#include "configs/state_files.hpp"

namespace kiln::client {
namespace {

constexpr const char* default_sockets[] = {"/run/buildkit/buildkitd.sock", "/run/kiln/kilnd.sock"};

/// Whether an embedded daemon ever ran there.
bool has_state(const std::string& root) {
  std::error_code unreadable;
  return std::filesystem::exists(std::filesystem::path(root) / configs::database_file, unreadable);
}

result<std::string> choose_address(const global_flags& flags, without_daemon otherwise,
                                   interrupt_handler& interrupts, daemon_connection& connection) {
  if (!flags.address.empty()) return flags.address;
  auto accepts = [](const std::string& path) {
    auto fd = connect_unix(path);
    if (fd.ok()) ::close(*fd);
    return fd.ok();
  };
  for (std::string path : default_sockets)
    if (accepts(path)) return "unix://" + path;
  auto root = embedded_root();
  bool may_start = otherwise == without_daemon::start ||
                   (otherwise == without_daemon::start_where_state && has_state(root));
  if (!may_start)
    return "unix://" +
           (accepts(embedded_socket(root)) ? embedded_socket(root) : std::string(default_sockets[0]));
  KILN_TRY(connection.embedded, embedded_daemon::start(root, interrupts.token()));
  interrupts.on_kill([daemon = connection.embedded.get()] { daemon->kill(); });
  return connection.embedded->address();
}

}  // namespace

result<daemon_connection> connect_daemon(const global_flags& flags, without_daemon otherwise,
                                         interrupt_handler& interrupts) {
  daemon_connection connection;
  KILN_TRY(auto address, choose_address(flags, otherwise, interrupts, connection));
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(flags.timeout_seconds);
  auto channel = dial(address, flags.tls);
  // With --wait the socket may still be on its way.
  while (!channel.ok() && flags.wait && channel.error().code == errc::unavailable &&
         (flags.timeout_seconds <= 0 || std::chrono::steady_clock::now() < deadline) &&
         !interrupts.token().stop_requested()) {
    ::usleep(50'000);
    channel = dial(address, flags.tls);
  }
  if (!channel.ok()) return std::move(channel).error();
  connection.channel = *std::move(channel);
  if (flags.wait) {
    auto left = flags.timeout_seconds <= 0 ? std::chrono::milliseconds(std::chrono::hours(24))
                                           : std::chrono::duration_cast<std::chrono::milliseconds>(
                                                 deadline - std::chrono::steady_clock::now());
    KILN_CHECK(wait_until_ready(connection.channel, left, interrupts.token()));
  }
  return connection;
}

}  // namespace kiln::client
