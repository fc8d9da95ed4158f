#include "client/connect/dial.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <thread>

#include <sys/socket.h>
#include <sys/un.h>

#include <fmt/format.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>

#include "client/fd.hpp"
#include "client/process.hpp"
#include "control.grpc.pb.h"
#include "rpc_status.pb.h"

namespace kiln::client {
namespace {

constexpr std::size_t pem_bytes_max = 1 << 20;

grpc::ChannelArguments channel_arguments(const std::string& authority) {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(grpc_message_bytes_max);
  args.SetMaxSendMessageSize(grpc_message_bytes_max);
  args.SetInt("grpc.max_metadata_size", 1 << 20);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  args.SetString(GRPC_ARG_DEFAULT_AUTHORITY, authority.empty() ? "localhost" : authority);
  return args;
}

result<std::shared_ptr<grpc::Channel>> dial_tcp(const daemon_address& address, const tls_options& tls) {
  auto name = tls.server_name.empty() ? address.host : tls.server_name;
  if (tls.ca_cert.empty() && tls.cert.empty() && tls.key.empty())
    return grpc::CreateCustomChannel(address.host_port, grpc::InsecureChannelCredentials(),
                                     channel_arguments(address.host_port));
  grpc::SslCredentialsOptions ssl;
  auto load = [](const std::string& path, std::string& into, std::string_view what) -> status {
    if (path.empty()) return {};
    auto pem = read_file(path, pem_bytes_max);
    if (!pem.ok()) return std::move(pem).error().with_context(fmt::format("could not read {}", what));
    into = *std::move(pem);
    return {};
  };
  KILN_CHECK(load(tls.ca_cert, ssl.pem_root_certs, "ca certificate"));
  KILN_CHECK(load(tls.cert, ssl.pem_cert_chain, "certificate"));
  KILN_CHECK(load(tls.key, ssl.pem_private_key, "key"));
  if (ssl.pem_cert_chain.empty() != ssl.pem_private_key.empty())
    return make_error(errc::invalid_argument,
                      "could not read certificate/key: --tlscert and --tlskey go together");
  auto args = channel_arguments(name);
  args.SetSslTargetNameOverride(name);
  return grpc::CreateCustomChannel(address.host_port, grpc::SslCredentials(ssl), args);
}

result<std::shared_ptr<grpc::Channel>> dial_command(const daemon_address& address) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    return errno_error(errno, "socketpair");
  unique_fd ours(pair[0]), theirs(pair[1]);
  KILN_TRY(auto child, child_process::start({.argv = address.argv,
                                             .input = theirs.get(),
                                             .output = theirs.get(),
                                             .own_session = true,
                                             .environment = {}}));
  (void)child;  // it ends when our end of the pair closes
  return channel_from_fd(ours.release());
}

}  // namespace

result<tls_options> resolve_tls(tls_options options) {
  if (options.directory.empty()) return options;
  if (!options.ca_cert.empty() || !options.cert.empty() || !options.key.empty())
    return make_error(errc::invalid_argument,
                      "cannot specify tlsdir and tlscacert/tlscert/tlskey at the same time");
  auto one_of = [&](const char* first, const char* second) -> result<std::string> {
    for (const char* name : {first, second}) {
      auto path = options.directory + "/" + name;
      std::error_code err;
      if (std::filesystem::exists(path, err)) return path;
    }
    return make_error(errc::invalid_argument,
                      fmt::format("--tlsdir {}: directory did not contain one of the needed files: {} or {}",
                                  options.directory, first, second));
  };
  KILN_TRY(options.ca_cert, one_of("ca.pem", "ca.crt"));
  KILN_TRY(options.cert, one_of("cert.pem", "tls.crt"));
  KILN_TRY(options.key, one_of("key.pem", "tls.key"));
  return options;
}

result<int> connect_unix(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof name.sun_path)
    return make_error(errc::invalid_argument,
                      fmt::format("socket path longer than {} bytes: {}", sizeof name.sun_path - 1, path));
  std::memcpy(name.sun_path, path.data(), path.size());
  if (path.starts_with('@')) name.sun_path[0] = '\0';
  unique_fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return errno_error(errno, "socket");
  auto length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (path.starts_with('@') ? 0 : 1));
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), length) != 0)
    return errno_error(errno, "connect " + path);
  return fd.release();
}

std::shared_ptr<grpc::Channel> channel_from_fd(int fd) {
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  return grpc::CreateCustomInsecureChannelFromFd("localhost", fd, channel_arguments({}));
}

result<std::shared_ptr<grpc::Channel>> dial(const std::string& address, const tls_options& tls) {
  KILN_TRY(auto resolved, resolve_tls(tls));
  KILN_TRY(auto parsed, parse_address(address));
  switch (parsed.how) {
    case daemon_address::kind::tcp: return dial_tcp(parsed, resolved);
    case daemon_address::kind::command: return dial_command(parsed);
    case daemon_address::kind::unix_socket: break;
  }
  auto fd = connect_unix(parsed.path);
  if (!fd.ok()) {
    auto err = std::move(fd).error();
    err.message =
        fmt::format("no daemon at {}: {}. Make sure buildkitd (kilnd) is running", address, err.message);
    err.code = errc::unavailable;
    return err;
  }
  ::close(*fd);
  auto target =
      parsed.path.starts_with('@') ? "unix-abstract:" + parsed.path.substr(1) : "unix:" + parsed.path;
  return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), channel_arguments({}));
}

status wait_until_ready(const std::shared_ptr<grpc::Channel>& channel, std::chrono::milliseconds timeout,
                        std::stop_token stop) {
  auto stub = moby::buildkit::v1::Control::NewStub(channel);
  auto deadline = std::chrono::system_clock::now() + timeout;
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(deadline);
  std::stop_callback cancel(stop, [&] { context.TryCancel(); });
  moby::buildkit::v1::InfoResponse response;
  auto s = stub->Info(&context, {}, &response);
  // An old daemon without Info has answered all the same.
  if (s.ok() || s.error_code() == grpc::StatusCode::UNIMPLEMENTED) return {};
  return from_grpc(s).with_context("waiting for the daemon");
}

error from_grpc(const grpc::Status& s) {
  error out;
  int code = s.error_code();
  out.code = code > 0 && code <= 16 ? static_cast<errc>(code) : errc::unknown;
  out.message = s.error_message();
  google::rpc::Status details;
  if (!s.error_details().empty() && details.ParseFromString(s.error_details())) {
    for (const auto& any : details.details()) out.details.push_back({any.type_url(), any.value()});
    if (details.message().size() > out.message.size()) out.message = details.message();
  }
  return out;
}

grpc::Status to_grpc(const error& e) {
  auto code = static_cast<grpc::StatusCode>(e.code);
  if (e.details.empty()) return {code, e.message};
  google::rpc::Status details;
  details.set_code(static_cast<int>(e.code));
  details.set_message(e.message);
  for (const auto& d : e.details) {
    auto* any = details.add_details();
    any->set_type_url(d.type_url);
    any->set_value(d.value);
  }
  return {code, e.message, details.SerializeAsString()};
}

}  // namespace kiln::client
