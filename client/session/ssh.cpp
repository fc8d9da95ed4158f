#include "client/session/ssh.hpp"

#include <cstdlib>
#include <atomic>

#include <sys/socket.h>
#include <sys/stat.h>

#include <fmt/format.h>

#include "base/thread.hpp"
#include "client/connect/dial.hpp"
#include "client/fd.hpp"
#include "client/session/ssh_agent.hpp"
#include "ssh.grpc.pb.h"

namespace kiln::client {
namespace {

namespace proto = moby::sshforward::v1;
using forward_stream = grpc::ServerReaderWriter<proto::BytesMessage, proto::BytesMessage>;

constexpr std::size_t key_file_bytes_max = 100 * 1024;  // Source: buildkit sshprovider toDialer
constexpr std::size_t chunk_bytes = 32 * 1024;

struct agent_source {
  std::string socket;  // empty: the keys
  bool raw = false;
  std::vector<std::shared_ptr<agent_key>> keys;
};

bool send(forward_stream& stream, std::string_view bytes) {
  proto::BytesMessage message;
  message.set_data(bytes.data(), bytes.size());
  return stream.Write(message);
}

// Bytes as they come, both ways.
grpc::Status forward_raw(forward_stream& stream, unique_fd socket) {
  auto from_socket = thread::start("ssh-raw", [&] {
    std::string buffer(chunk_bytes, '\0');
    for (;;) {
      auto n = ::read(socket.get(), buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0 || !send(stream, {buffer.data(), static_cast<std::size_t>(n)})) break;
    }
  });
  if (!from_socket.ok()) return to_grpc(from_socket.error());
  proto::BytesMessage message;
  bool broken = false;
  while (!broken && stream.Read(&message)) broken = !write_all(socket.get(), message.data()).ok();
  ::shutdown(socket.get(), broken ? SHUT_RDWR : SHUT_WR);
  from_socket->join();
  return grpc::Status::OK;
}

std::string framed(std::string_view message) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>((message.size() >> shift) & 0xFF));
  return out.append(message);
}

std::size_t frame_length(std::string_view bytes) {
  std::size_t length = 0;
  for (int i = 0; i < 4; ++i)
    length = (length << 8) | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
  return length;
}

result<std::string> read_exactly(int fd, std::size_t count) {
  std::string out(count, '\0');
  for (std::size_t have = 0; have < count;) {
    auto n = ::read(fd, out.data() + have, count - have);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "agent");
    if (n == 0) return make_error(errc::unavailable, "the agent closed the connection");
    have += static_cast<std::size_t>(n);
  }
  return out;
}

result<std::string> ask_agent(int fd, std::string_view request) {
  KILN_CHECK(write_all(fd, framed(request)));
  KILN_TRY(auto head, read_exactly(fd, 4));
  auto length = frame_length(head);
  if (length > agent_message_bytes_max) return make_error(errc::resource_exhausted, "agent answer too large");
  return read_exactly(fd, length);
}

// Message by message: every request is looked at, and answered by `answer`.
grpc::Status serve_agent(forward_stream& stream,
                         const std::function<result<std::string>(std::string_view)>& answer) {
  proto::BytesMessage message;
  std::string pending;
  while (stream.Read(&message)) {
    pending += message.data();
    while (pending.size() >= 4) {
      auto length = frame_length(pending);
      if (length == 0 || length > agent_message_bytes_max)
        return {grpc::StatusCode::UNKNOWN, "agent request of invalid length"};
      if (pending.size() < 4 + length) break;
      auto answered = answer(std::string_view(pending).substr(4, length));
      if (!answered.ok()) return to_grpc(answered.error());
      auto reply = framed(*answered);
      for (std::size_t at = 0; at < reply.size(); at += chunk_bytes)
        if (!send(stream, std::string_view(reply).substr(at, chunk_bytes))) return grpc::Status::OK;
      pending.erase(0, 4 + length);
    }
  }
  return grpc::Status::OK;
}

class ssh_service : public session_service, public proto::SSH::Service {
 public:
  explicit ssh_service(std::map<std::string, agent_source> sources) : sources_(std::move(sources)) {}

  grpc::Service& service() override { return *this; }
  std::vector<std::string> methods() const override {
    return {"/moby.sshforward.v1.SSH/CheckAgent", "/moby.sshforward.v1.SSH/ForwardAgent"};
  }

  grpc::Status CheckAgent(grpc::ServerContext*, const proto::CheckAgentRequest* request,
                          proto::CheckAgentResponse*) override {
    auto id = request->id().empty() ? "default" : request->id();
    if (!sources_.contains(id)) return unset(id);
    return grpc::Status::OK;
  }

  grpc::Status ForwardAgent(grpc::ServerContext* context, forward_stream* stream) override {
    struct place {
      std::atomic<int>& taken;
      bool free = ++taken <= connections_max;
      ~place() { --taken; }
    } place{connections_};
    if (!place.free)
      return {grpc::StatusCode::RESOURCE_EXHAUSTED, "too many connections to SSH agents at a time"};
    auto id = metadata_value(*context, "buildkit.ssh.id");
    if (id.empty()) id = "default";
    auto it = sources_.find(id);
    if (it == sources_.end()) return unset(id);
    const auto& source = it->second;
    if (source.socket.empty())
      return serve_agent(*stream, [&](std::string_view request) -> result<std::string> {
        return answer_agent_request(source.keys, request);
      });
    auto fd = connect_unix(source.socket);
    if (!fd.ok())
      return {grpc::StatusCode::UNKNOWN, fmt::format("failed to dial agent {}: {}", id, fd.error().message)};
    unique_fd socket(*fd);
    if (source.raw) return forward_raw(*stream, std::move(socket));
    return serve_agent(*stream, [&](std::string_view request) -> result<std::string> {
      if (!agent_request_allowed(request)) return std::string(1, static_cast<char>(agent_message::failure));
      return ask_agent(socket.get(), request);
    });
  }

 private:
  static grpc::Status unset(const std::string& id) {
    return {grpc::StatusCode::UNKNOWN, fmt::format("unset ssh forward key {}", id)};
  }

  static constexpr int connections_max = 128;
  std::map<std::string, agent_source> sources_;
  std::atomic<int> connections_ = 0;
};

result<agent_source> load_source(const ssh_source& source) {
  agent_source out;
  out.raw = source.raw;
  auto paths = source.paths;
  if (paths.empty() || (paths.size() == 1 && paths[0].empty())) {
    const char* socket = std::getenv("SSH_AUTH_SOCK");
    if (!socket || !*socket)
      return make_error(errc::invalid_argument,
                        "invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set");
    paths = {socket};
  }
  for (const auto& path : paths) {
    if (!out.socket.empty()) return make_error(errc::invalid_argument, "only single socket allowed");
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0) return errno_error(errno, "stat " + path);
    if (S_ISSOCK(st.st_mode)) {
      out.socket = path;
      continue;
    }
    if (source.raw) return make_error(errc::invalid_argument, "raw mode only supported with socket paths");
    KILN_TRY(auto text, read_file(path, key_file_bytes_max));
    auto key = parse_private_key(text, path);
    if (!key.ok()) return std::move(key).error().with_context("failed to parse " + path);
    out.keys.push_back(*std::move(key));
  }
  if (!out.socket.empty() && !out.keys.empty())
    return make_error(errc::invalid_argument, "invalid combination of keys and sockets");
  return out;
}

}  // namespace

result<std::unique_ptr<session_service>> make_ssh_service(const std::vector<ssh_source>& sources) {
  std::map<std::string, agent_source> loaded;
  for (const auto& source : sources) {
    auto agent = load_source(source);
    if (!agent.ok())
      return std::move(agent).error().with_context(
          fmt::format("--ssh: failed to convert agent config for ID: \"{}\"", source.id));
    loaded[source.id] = *std::move(agent);
  }
  return std::unique_ptr<session_service>(std::make_unique<ssh_service>(std::move(loaded)));
}

}  // namespace kiln::client
