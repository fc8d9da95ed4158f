#include "workers/ops/client_secrets.hpp"

#include <cerrno>
#include <latch>
#include <mutex>
#include <set>

#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/thread.hpp"
#include "base/thread_pool.hpp"
#include "base/unique_fd.hpp"
#include "configs/executor.hpp"
#include "configs/ssh.hpp"
#include "secrets.pb.h"
#include "ssh.pb.h"

namespace kiln::workers {

namespace {

using ssh_bytes = moby::sshforward::v1::BytesMessage;

constexpr const char* get_secret = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
constexpr const char* check_agent = "/moby.sshforward.v1.SSH/CheckAgent";
constexpr const char* forward_agent = "/moby.sshforward.v1.SSH/ForwardAgent";
constexpr std::size_t ssh_chunk = 32 * 1024;  // bytes

bool missing(const error& e) { return e.code == errc::not_found || e.code == errc::unimplemented; }

/// The connections of one socket: as many at a time as there are threads for, the others wait in its backlog.
class agent_socket final : public ssh_socket {
 public:
  agent_socket(std::string directory, std::shared_ptr<session_caller> caller, std::string id)
      : directory_(std::move(directory)),
        path_(directory_ + "/ssh_auth_sock"),
        caller_(std::move(caller)),
        id_(std::move(id)) {}

  ~agent_socket() override {
    stopping_.request_stop();
    wake();
    acceptor_.join();
    {
      std::lock_guard lock(mutex_);
      for (int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    serving_.reset();
    sending_.reset();
    ::unlink(path_.c_str());
    ::rmdir(directory_.c_str());
  }

  const std::string& path() const override { return path_; }

  status start(const pb::SSHOpt& options) {
    if (::chmod(directory_.c_str(), 0711) != 0) return errno_error(errno, "chmod " + directory_);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    // Socket paths are short; the state directory's may not be.
    unique_fd dir(::open(directory_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    std::string name = "/proc/self/fd/" + std::to_string(dir.get()) + "/ssh_auth_sock";
    name.copy(address.sun_path, sizeof address.sun_path - 1);
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!listener_ || !wake_) return errno_error(errno, "socket");
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_.get(), configs::ssh_backlog) != 0) {
      return errno_error(errno, "listen " + path_);
    }
    if (::chown(path_.c_str(), options.uid(), options.gid()) != 0 ||
        ::chmod(path_.c_str(), options.mode() & 0777) != 0) {
      return errno_error(errno, "chown " + path_);
    }
    KILN_TRY(acceptor_, thread::start("ssh-accept", [this] { accept_all(); }));
    return {};
  }

 private:
  void wake() {
    std::uint64_t one = 1;
    if (wake_) [[maybe_unused]]
      ssize_t n = ::write(wake_.get(), &one, sizeof one);
  }

  void accept_all() {
    while (!stopping_.stop_requested()) {
      bool full;
      {
        std::lock_guard lock(mutex_);
        full = open_.size() >= configs::ssh_connections_max;
      }
      pollfd fds[2] = {{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
      if (::poll(fds, full ? 1 : 2, -1) < 0 && errno != EINTR) return;
      std::uint64_t count;
      if (fds[0].revents != 0) [[maybe_unused]]
        ssize_t n = ::read(wake_.get(), &count, sizeof count);
      if (full || fds[1].revents == 0) continue;
      unique_fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (fd) take(std::move(fd));
    }
  }

  void take(unique_fd fd) {
    int number = fd.get();
    auto shared = std::make_shared<unique_fd>(std::move(fd));
    {
      std::lock_guard lock(mutex_);
      open_.insert(number);
    }
    bool taken = serving_->submit([this, shared] {
      serve(shared->get());
      drop(*shared);
    });
    if (taken) return;
    spdlog::warn("forwarding ssh agent: a connection is refused, there is no thread for it");
    drop(*shared);
  }

  void drop(unique_fd& fd) {
    {
      std::lock_guard lock(mutex_);
      open_.erase(fd.get());
      fd.reset();
    }
    wake();
  }

  void serve(int fd) {
    auto stream = caller_->open(forward_agent, {{"buildkit.ssh.id", id_}}, stopping_.get_token());
    if (!stream) {
      spdlog::debug("forwarding ssh agent: {}", stream.error().message);
      return;
    }
    std::latch ended{1};
    bool taken = sending_->submit([&] {
      to_client(fd, **stream);
      ended.count_down();
    });
    if (!taken) {
      spdlog::warn("forwarding ssh agent: a connection is ended, there is no thread for it");
      return;
    }
    std::string bytes;
    ssh_bytes m;
    while ((*stream)->read(bytes) && m.ParseFromString(bytes)) {
      std::string_view rest = m.data();
      while (!rest.empty()) {
        ssize_t n = ::send(fd, rest.data(), rest.size(), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        rest.remove_prefix(static_cast<std::size_t>(n));
      }
      if (!rest.empty()) break;
    }
    ::shutdown(fd, SHUT_WR);
    // The agent is done: what the container still says has nobody to go to.
    ::shutdown(fd, SHUT_RD);
    ended.wait();
  }

  static void to_client(int fd, message_stream& stream) {
    std::string buffer(ssh_chunk, '\0');
    while (true) {
      ssize_t n = ::read(fd, buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      ssh_bytes m;
      m.set_data(buffer.data(), static_cast<std::size_t>(n));
      if (!stream.write(m.SerializeAsString())) return;
    }
    stream.writes_done();
  }

  std::string directory_;
  std::string path_;
  std::shared_ptr<session_caller> caller_;
  std::string id_;
  unique_fd listener_;
  unique_fd wake_;
  std::stop_source stopping_;
  std::mutex mutex_;
  std::set<int> open_;
  /// One thread of each for a connection; waiting for the moment that one takes to come back from the last.
  static std::unique_ptr<thread_pool> pool(const char* name) {
    return std::make_unique<thread_pool>(name, configs::ssh_connections_max, configs::ssh_connections_max);
  }
  std::unique_ptr<thread_pool> serving_ = pool("ssh-from-agent"), sending_ = pool("ssh-to-agent");
  thread acceptor_;
};

}  // namespace

result<std::optional<std::string>> find_secret(const std::string& id, const job_context& job) {
  if (job.directory == nullptr) return make_error(errc::failed_precondition, "no active sessions");
  moby::buildkit::secrets::v1::GetSecretRequest request;
  request.set_id(id);
  std::optional<std::string> found;
  status s = with_any_session(*job.directory, job.sessions, job.stop, [&](session_caller& caller) -> status {
    KILN_TRY(std::string bytes,
             caller.call(get_secret, request.SerializeAsString(), {}, configs::secret_timeout, job.stop));
    moby::buildkit::secrets::v1::GetSecretResponse response;
    if (!response.ParseFromString(bytes)) return make_error(errc::internal, "invalid answer to GetSecret");
    if (response.data().size() > configs::max_secret_size) {
      return make_error(errc::invalid_argument,
                        "secret " + id + " is too big: " + std::to_string(response.data().size()));
    }
    found = response.data();
    return {};
  });
  if (!s && !missing(s.error())) return std::move(s).error();
  return found;
}

result<std::unique_ptr<ssh_socket>> ssh_socket::open(const pb::SSHOpt& options, const std::string& directory,
                                                     const job_context& job) {
  if (job.directory == nullptr) return make_error(errc::failed_precondition, "no active sessions");
  std::string id = options.id().empty() ? "default" : options.id();
  moby::sshforward::v1::CheckAgentRequest request;
  request.set_id(options.id());
  std::shared_ptr<session_caller> chosen;
  status s = with_any_session(*job.directory, job.sessions, job.stop, [&](session_caller& caller) -> status {
    KILN_CHECK(caller.call(check_agent, request.SerializeAsString(), {}, configs::secret_timeout, job.stop));
    KILN_TRY(chosen, job.directory->find(caller.id(), std::chrono::milliseconds(0), job.stop));
    return {};
  });
  if (!s) {
    ::rmdir(directory.c_str());
    if (job.stop.stop_requested()) return std::move(s).error();
    if (s.error().code == errc::unimplemented) {
      return make_error(errc::unimplemented, "no SSH key \"" + options.id() + "\" forwarded from the client");
    }
    return std::move(s).error();
  }
  auto socket = std::make_unique<agent_socket>(directory, std::move(chosen), id);
  KILN_CHECK(socket->start(options));
  return std::unique_ptr<ssh_socket>(std::move(socket));
}

}  // namespace kiln::workers
