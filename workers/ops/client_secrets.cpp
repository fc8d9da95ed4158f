#include "workers/ops/client_secrets.hpp"

#include <cerrno>
#include <atomic>
#include <list>
#include <mutex>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "configs/executor.hpp"
#include "secrets.pb.h"
#include "ssh.pb.h"
#include "store/unique_fd.hpp"

namespace kiln::workers {

namespace {

using ssh_bytes = moby::sshforward::v1::BytesMessage;

constexpr const char* get_secret = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
constexpr const char* check_agent = "/moby.sshforward.v1.SSH/CheckAgent";
constexpr const char* forward_agent = "/moby.sshforward.v1.SSH/ForwardAgent";
constexpr std::size_t ssh_chunk = 32 * 1024;  // bytes

bool missing(const error& e) { return e.code == errc::not_found || e.code == errc::unimplemented; }

class agent_socket final : public ssh_socket {
 public:
  agent_socket(std::string directory, std::shared_ptr<session_caller> caller, std::string id)
      : directory_(std::move(directory)),
        path_(directory_ + "/ssh_auth_sock"),
        caller_(std::move(caller)),
        id_(std::move(id)) {}

  ~agent_socket() override {
    stopping_.request_stop();
    std::uint64_t one = 1;
    if (wake_) [[maybe_unused]]
      ssize_t n = ::write(wake_.get(), &one, sizeof one);
    if (acceptor_.joinable()) acceptor_.join();
    for (auto& c : connections_) {
      ::shutdown(c.fd.get(), SHUT_RDWR);
      c.thread.join();
    }
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
    listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    wake_.reset(::eventfd(0, EFD_CLOEXEC));
    if (!listener_ || !wake_) return errno_error(errno, "socket");
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_.get(), 16) != 0) {
      return errno_error(errno, "listen " + path_);
    }
    if (::chown(path_.c_str(), options.uid(), options.gid()) != 0 ||
        ::chmod(path_.c_str(), options.mode() & 0777) != 0) {
      return errno_error(errno, "chown " + path_);
    }
    acceptor_ = std::thread([this] { accept_all(); });
    return {};
  }

 private:
  struct connection {
    unique_fd fd;
    std::thread thread;
    std::atomic<bool> done{false};
  };

  void accept_all() {
    while (true) {
      pollfd fds[2] = {{listener_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
      if (::poll(fds, 2, -1) < 0 && errno != EINTR) return;
      if (fds[1].revents != 0) return;
      int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      connections_.remove_if([](connection& c) {
        if (!c.done) return false;
        c.thread.join();
        return true;
      });
      connection& c = connections_.emplace_back();
      c.fd.reset(fd);
      c.thread = std::thread([this, &c] {
        serve(c.fd.get());
        c.done = true;
      });
    }
  }

  void serve(int fd) {
    auto stream = caller_->open(forward_agent, {{"buildkit.ssh.id", id_}}, stopping_.get_token());
    if (!stream) {
      spdlog::debug("forwarding ssh agent: {}", stream.error().message);
      ::shutdown(fd, SHUT_RDWR);
      return;
    }
    std::thread to_client([&] {
      std::string buffer(ssh_chunk, '\0');
      while (true) {
        ssize_t n = ::read(fd, buffer.data(), buffer.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        ssh_bytes m;
        m.set_data(buffer.data(), static_cast<std::size_t>(n));
        if (!(*stream)->write(m.SerializeAsString())) return;
      }
      (*stream)->writes_done();
    });
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
    to_client.join();
  }

  std::string directory_;
  std::string path_;
  std::shared_ptr<session_caller> caller_;
  std::string id_;
  unique_fd listener_;
  unique_fd wake_;
  std::stop_source stopping_;
  std::thread acceptor_;
  std::list<connection> connections_;  // the acceptor's; the destructor's once that has ended
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
