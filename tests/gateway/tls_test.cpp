#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "fakes.hpp"

using namespace kiln;
using namespace kiln::testing;

namespace {

/// Certificates of two authorities, made with the openssl tool.
struct certificates {
  certificates() {
    auto run = [](const std::string& command) {
      if (std::system((command + " >/dev/null 2>&1").c_str()) != 0) throw std::runtime_error(command);
    };
    auto p = [this](const std::string& name) { return (dir.path / name).string(); };
    for (std::string ca : {"ca", "other"})
      run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=" +
          ca + " -keyout " + p(ca + ".key") + " -out " + p(ca + ".pem"));
    std::ofstream(p("san")) << "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
    for (auto [name, ca] :
         {std::pair<std::string, std::string>{"server", "ca"}, {"client", "ca"}, {"stranger", "other"}}) {
      run("openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=" + name +
          " -keyout " + p(name + ".key") + " -out " + p(name + ".csr"));
      run("openssl x509 -req -days 2 -in " + p(name + ".csr") + " -CA " + p(ca + ".pem") + " -CAkey " +
          p(ca + ".key") + " -CAcreateserial -extfile " + p("san") + " -out " + p(name + ".pem"));
    }
  }
  std::string path(const std::string& name) const { return (dir.path / name).string(); }
  std::string text(const std::string& name) const {
    std::ifstream in(path(name));
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
  }
  temp_dir dir;
};

}  // namespace

TEST_CASE("mutual TLS serves clients of its authority and refuses all others") {
  certificates certs;
  gateway_fixture f;
  gateway::server_options options;
  options.addresses = {"tcp://127.0.0.1:0", "unix://" + (f.dir.path / "kilnd.sock").string()};
  options.tls = {certs.path("server.pem"), certs.path("server.key"), certs.path("ca.pem")};
  f.server = *gateway::server::start(options, f.make_services());
  auto ask = [&](const std::string& client) {
    grpc::SslCredentialsOptions ssl;
    ssl.pem_root_certs = certs.text("ca.pem");
    if (!client.empty()) {
      ssl.pem_cert_chain = certs.text(client + ".pem");
      ssl.pem_private_key = certs.text(client + ".key");
    }
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    auto channel =
        grpc::CreateCustomChannel(f.server->addresses().front().substr(6), grpc::SslCredentials(ssl), args);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds{10});
    ctl::InfoResponse response;
    return ctl::Control::NewStub(channel)->Info(&context, {}, &response).error_code();
  };
  CHECK(ask("client") == grpc::StatusCode::OK);
  CHECK(ask("") == grpc::StatusCode::UNAVAILABLE);
  CHECK(ask("stranger") == grpc::StatusCode::UNAVAILABLE);
  grpc::ClientContext plain;
  ctl::InfoResponse response;
  CHECK_FALSE(ctl::Control::NewStub(f.channel())->Info(&plain, {}, &response).ok());
  // Unix sockets stay plain.
  grpc::ClientContext local;
  CHECK(ctl::Control::NewStub(f.channel(f.server->addresses().back()))->Info(&local, {}, &response).ok());
  f.server->shutdown();
}

TEST_CASE("a certificate without its key, or one that cannot be read, is a start-up error") {
  gateway_fixture f;
  gateway::server_options options;
  options.addresses = {"tcp://127.0.0.1:0"};
  options.tls.cert = "/nonexistent.pem";
  auto half = gateway::server::start(options, f.make_services());
  REQUIRE_FALSE(half.ok());
  CHECK(half.error().message == "you must specify key and cert file if one is specified");
  options.tls.key = "/nonexistent.key";
  auto unreadable = gateway::server::start(options, f.make_services());
  REQUIRE_FALSE(unreadable.ok());
  CHECK(unreadable.error().message == "tls certificate: cannot read /nonexistent.pem");
}

TEST_CASE("no listen address is a start-up error") {
  gateway_fixture f;
  auto none = gateway::server::start(gateway::server_options{}, f.make_services());
  REQUIRE_FALSE(none.ok());
  CHECK(none.error().message == "no listen addresses given");
}
