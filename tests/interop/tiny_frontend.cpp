// A frontend image's program, as small as one can be: speaks LLBBridge over its standard input and output, as
// buildkit's gateway frontends do. What it does is its option "mode": file (the default) makes one file and
// returns it; empty returns nothing; nested asks for two more builds first; hang never answers; crash ends
// without a word; facts makes a file of what it was told about itself; final ends with its last Solve, as
// frontends did before there was Return; refuse returns an error with a code.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <thread>

#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>

#include "base/digest.hpp"
#include "gateway.grpc.pb.h"
#include "ops.pb.h"

namespace gw = moby::buildkit::v1::frontend;

namespace {

void copy(int from, int to) {
  char buffer[16384];
  for (;;) {
    auto n = ::read(from, buffer, sizeof buffer);
    if (n <= 0) break;
    for (ssize_t at = 0; at < n;) {
      auto written = ::write(to, buffer + at, static_cast<std::size_t>(n - at));
      if (written <= 0) return;
      at += written;
    }
  }
  ::shutdown(to, SHUT_WR);
}

std::string option(const std::string& name) {
  for (int i = 0; i < 64; ++i) {
    auto* text = std::getenv(("BUILDKIT_FRONTEND_OPT_" + std::to_string(i)).c_str());
    if (!text) break;
    std::string one = text;
    if (one.starts_with(name + "=")) return one.substr(name.size() + 1);
  }
  return "";
}

/// One file on scratch, and the vertex that names the result.
pb::Definition one_file(const std::string& content) {
  pb::Op op;
  auto& action = *op.mutable_file()->add_actions();
  action.set_input(-1);
  action.set_secondaryinput(-1);
  action.set_output(0);
  action.mutable_mkfile()->set_path("/made");
  action.mutable_mkfile()->set_mode(0644);
  action.mutable_mkfile()->set_data(content);
  action.mutable_mkfile()->set_timestamp(-1);
  op.mutable_platform()->set_os("linux");
  op.mutable_platform()->set_architecture("amd64");
  auto bytes = op.SerializeAsString();
  pb::Op last;
  auto& input = *last.add_inputs();
  input.set_digest(kiln::sha256(bytes).str());
  pb::Definition out;
  *out.add_def() = bytes;
  *out.add_def() = last.SerializeAsString();
  return out;
}

std::string variable(const char* name) {
  auto* text = std::getenv(name);
  return text ? text : "(none)";
}

/// What a frontend knows of where it comes from and who runs it.
std::string facts() {
  std::ifstream file("/run/config/buildkit/metadata/frontend.bin", std::ios::binary);
  std::string bytes(std::istreambuf_iterator<char>(file), {});
  pb::Definition definition;
  pb::Op op;
  std::string out = "source ";
  if (!bytes.empty() && definition.ParseFromString(bytes) && definition.def_size() > 0 &&
      op.ParseFromString(definition.def(0)))
    out += op.source().identifier() + " " + op.source().attrs().at("image.recordtype");
  out += "\nproduct " + variable("BUILDKIT_EXPORTEDPRODUCT");
  return out + "\nworkers " + variable("BUILDKIT_WORKERS") + "\n";
}

int fail(const grpc::Status& s) {
  std::cerr << s.error_message() << "\n";
  return 1;
}

}  // namespace

int main() {
  auto mode = option("mode");
  if (mode == "crash") return 3;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return 2;
  std::thread([fd = ends[1]] { copy(STDIN_FILENO, fd); }).detach();
  std::thread([fd = ends[1]] { copy(fd, STDOUT_FILENO); }).detach();
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  auto stub = gw::LLBBridge::NewStub(grpc::CreateInsecureChannelFromFd("gateway", ends[0]));
  auto call = [](auto&& rpc) {
    grpc::ClientContext context;
    return rpc(context);
  };
  gw::PongResponse pong;
  if (auto s = call([&](auto& c) { return stub->Ping(&c, {}, &pong); }); !s.ok()) return fail(s);
  if (mode == "hang") ::pause();
  gw::ReturnRequest done;
  int builds = mode == "nested" ? 3 : mode == "empty" ? 0 : 1;
  for (int i = 0; i < builds; ++i) {
    gw::SolveRequest request;
    *request.mutable_definition() =
        one_file(mode == "facts" ? facts() : "made by a frontend image, " + std::to_string(i) + "\n");
    if (mode == "final") {
      request.set_final(true);
      request.set_exporterattr(R"({"frontend.old":"eWVz"})");
    } else {
      request.set_allowresultreturn(true);
      request.set_allowresultarrayref(true);
    }
    request.set_evaluate(true);
    gw::SolveResponse solved;
    if (auto s = call([&](auto& c) { return stub->Solve(&c, request, &solved); }); !s.ok()) return fail(s);
    *done.mutable_result() = solved.result();
  }
  if (mode == "final") return 0;
  if (mode == "refuse") {
    done.mutable_error()->set_code(grpc::StatusCode::OUT_OF_RANGE);
    done.mutable_error()->set_message("not by me");
  }
  if (builds == 0) done.mutable_result();
  gw::ReturnResponse returned;
  if (auto s = call([&](auto& c) { return stub->Return(&c, done, &returned); }); !s.ok()) return fail(s);
  return 0;
}
