#include "client/connect/dial_stdio.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <fmt/format.h>

#include "base/thread.hpp"
#include "client/connect/address.hpp"
#include "client/connect/dial.hpp"
#include "client/fd.hpp"

namespace kiln::client {
namespace {

constexpr std::size_t copy_bytes = 64 * 1024;

// Waits for bytes so that both directions work on one thread.
bool copy_once(int from, int to, bool& open) {
  char buffer[copy_bytes];
  auto n = ::read(from, buffer, sizeof buffer);
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  if (n == 0) {
    open = false;
    return true;
  }
  return write_all(to, {buffer, static_cast<std::size_t>(n)}).ok();
}

}  // namespace

status dial_stdio(const std::string& address, int input, int output) {
  KILN_TRY(auto parsed, parse_address(address));
  if (parsed.how != daemon_address::kind::unix_socket)
    return make_error(errc::invalid_argument,
                      fmt::format("invalid address {} (dial-stdio expects unix://)", address));
  KILN_TRY(int raw, connect_unix(parsed.path));
  unique_fd socket(raw);
  // Writes to a slow peer block: each direction has its own thread of control. Stdin goes in a helper thread
  // that is abandoned when the daemon closes, because stdin may be a terminal that never ends.
  auto from_input = thread::start("stdin", [input, fd = ::dup(socket.get())] {
    bool open = true;
    while (open && copy_once(input, fd, open)) {
    }
    ::shutdown(fd, SHUT_WR);
    ::close(fd);
  });
  if (!from_input.ok()) return std::move(from_input).error();
  from_input->let_go();
  bool open = true;
  while (open)
    if (!copy_once(socket.get(), output, open)) return errno_error(errno, "copy from daemon to stdout");
  return {};
}

}  // namespace kiln::client
