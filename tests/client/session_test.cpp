#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>

#include <sys/socket.h>
#include <sys/stat.h>

#include <grpcpp/grpcpp.h>
#include <openssl/evp.h>

#include "auth.grpc.pb.h"
#include "client/connect/dial.hpp"
#include "client/session/auth.hpp"
#include "client/session/content.hpp"
#include "client/session/file_send.hpp"
#include "client/session/file_sync.hpp"
#include "client/session/secrets.hpp"
#include "client/session/ssh.hpp"
#include "client/session/ssh_agent.hpp"
#include "client/session/token_seed.hpp"
#include "client/session/tunnel.hpp"
#include "content.grpc.pb.h"
#include "filesync.grpc.pb.h"
#include "secrets.grpc.pb.h"
#include "ssh.grpc.pb.h"

using namespace kiln;
using namespace kiln::client;
namespace fs = std::filesystem;

namespace {

struct scratch_directory {
  scratch_directory() : path(fs::temp_directory_path() / ("kiln-client-" + new_id())) {
    fs::create_directories(path);
  }
  ~scratch_directory() { fs::remove_all(path); }
  std::string file(const std::string& name, const std::string& content) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name) << content;
    return (path / name).string();
  }
  std::string read(const std::string& name) const {
    std::ifstream in(path / name);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  fs::path path;
};

// The daemon's end of a session: the services on one end of a socket pair, a channel on the other.
struct fake_daemon {
  explicit fake_daemon(std::unique_ptr<session_service> service) {
    services.push_back(std::move(service));
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    server = make_session_server(services);
    serve_connection(*server, unique_fd(pair[0]));
    channel = channel_from_fd(pair[1]);
  }
  ~fake_daemon() {
    channel.reset();
    server->Shutdown(std::chrono::system_clock::now());
  }
  std::vector<std::unique_ptr<session_service>> services;
  std::unique_ptr<grpc::Server> server;
  std::shared_ptr<grpc::Channel> channel;
};

using packet = fsutil::types::Packet;

// Receives a directory the way a daemon does: every stat, every regular file's content.
struct received_tree {
  std::vector<fsutil::types::Stat> stats;
  std::map<std::string, std::string> files;
  grpc::Status status;
};

received_tree receive_directory(fake_daemon& daemon,
                                const std::vector<std::pair<std::string, std::string>>& metadata) {
  received_tree out;
  auto stub = moby::filesync::v1::FileSync::NewStub(daemon.channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  for (const auto& [key, value] : metadata) context.AddMetadata(key, value);
  auto stream = stub->DiffCopy(&context);
  packet p;
  std::map<unsigned, std::string> wanted;
  unsigned id = 0;
  bool all_stats_seen = false;
  // Content may arrive before the last stat: only both ends together end the transfer.
  auto finish_when_complete = [&] {
    if (!all_stats_seen || !wanted.empty()) return;
    packet fin;
    fin.set_type(packet::PACKET_FIN);
    stream->Write(fin);
  };
  while (stream->Read(&p)) {
    if (p.type() == packet::PACKET_STAT) {
      if (!p.has_stat()) {
        all_stats_seen = true;
        finish_when_complete();
        continue;
      }
      out.stats.push_back(p.stat());
      if ((p.stat().mode() & 0xFFF80000u) == 0 && p.stat().linkname().empty()) {
        wanted[id] = p.stat().path();
        packet request;
        request.set_type(packet::PACKET_REQ);
        request.set_id(id);
        stream->Write(request);
      }
      ++id;
    } else if (p.type() == packet::PACKET_DATA) {
      if (!p.data().empty()) {
        out.files[wanted[p.id()]] += p.data();
        continue;
      }
      out.files.try_emplace(wanted[p.id()]);
      wanted.erase(p.id());
      finish_when_complete();
    } else if (p.type() == packet::PACKET_FIN) {
      stream->WritesDone();
    }
  }
  out.status = stream->Finish();
  return out;
}

const char* test_key_ed25519 =
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    "-----END PRIVATE KEY-----\n";

std::string wire_text(std::string_view text) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>((text.size() >> shift) & 0xFF));
  return out.append(text);
}

}  // namespace

TEST_CASE("A shared directory arrives with owners reset and filters applied") {
  scratch_directory dir;
  dir.file("a.txt", "content of a");
  dir.file("sub/b.txt", "b");
  dir.file("sub/c.log", "c");
  REQUIRE(::chown((dir.path / "a.txt").c_str(), 1234, 1234) == 0);
  fake_daemon daemon(make_file_sync_service({{"context", dir.path.string()}}));
  auto got = receive_directory(daemon, {{"dir-name", "context"}, {"exclude-patterns", "**/*.log"}});
  CHECK(got.status.ok());
  CHECK(got.files == std::map<std::string, std::string>{{"a.txt", "content of a"}, {"sub/b.txt", "b"}});
  for (const auto& s : got.stats) CHECK((s.uid() == 0 && s.gid() == 0));
}

TEST_CASE("Patterns that are not ASCII arrive URL-escaped") {
  scratch_directory dir;
  dir.file("ü.txt", "u");
  dir.file("x.txt", "x");
  fake_daemon daemon(make_file_sync_service({{"context", dir.path.string()}}));
  auto got = receive_directory(
      daemon,
      {{"dir-name", "context"}, {"include-patterns", "%C3%BC.txt"}, {"include-patterns-encoded", "1"}});
  CHECK(got.files == std::map<std::string, std::string>{{"ü.txt", "u"}});
}

TEST_CASE("A directory that is not shared is refused as not found") {
  fake_daemon daemon(make_file_sync_service({{"context", "/tmp"}}));
  auto got = receive_directory(daemon, {{"dir-name", "secrets"}});
  CHECK(got.status.error_code() == grpc::StatusCode::NOT_FOUND);
  CHECK(got.status.error_message() == "no access allowed to dir \"secrets\"");
}

TEST_CASE("An exported file is written whole, and a declined one already exists") {
  scratch_directory dir;
  auto path = (dir.path / "out.tar").string();
  std::map<int, export_target> targets;
  targets[0] = {.file = nullptr, .directory = {}};
  auto file = output_file::open(path);
  REQUIRE(file.ok());
  targets[1] = {.file = std::make_shared<output_file>(*std::move(file)), .directory = {}};
  fake_daemon daemon(make_file_send_service(targets));
  auto stub = moby::filesync::v1::FileSend::NewStub(daemon.channel);
  auto send = [&](const char* id, const std::vector<std::string>& parts) {
    grpc::ClientContext context;
    context.AddMetadata("buildkit-attachable-exporter-id", id);
    auto stream = stub->DiffCopy(&context);
    moby::filesync::v1::BytesMessage message;
    for (const auto& part : parts) {
      message.set_data(part);
      stream->Write(message);
    }
    stream->WritesDone();
    while (stream->Read(&message)) {
    }
    return stream->Finish();
  };
  CHECK(send("1", {std::string(100'000, 'x'), "end"}).ok());
  CHECK(send("1", {"x"}).error_code() == grpc::StatusCode::ALREADY_EXISTS);
  CHECK(!std::filesystem::exists(path));  // not before the build has succeeded
  REQUIRE(targets[1].file->commit().ok());
  CHECK(dir.read("out.tar") == std::string(100'000, 'x') + "end");
  CHECK(send("0", {"x"}).error_code() == grpc::StatusCode::ALREADY_EXISTS);
  CHECK(send("7", {"x"}).error_message() == "exporter 7 not found");
}

TEST_CASE("mode=delete needs a daemon that says it sends all platforms at once") {
  scratch_directory dir;
  std::map<int, export_target> targets;
  targets[0] = {.what = export_target::kind::directory,
                .file = {},
                .directory = dir.path.string(),
                .delete_extra = true};
  fake_daemon daemon(make_file_send_service(std::move(targets)));
  auto stub = moby::filesync::v1::FileSend::NewStub(daemon.channel);
  grpc::ClientContext context;
  auto stream = stub->DiffCopy(&context);
  moby::filesync::v1::BytesMessage message;
  while (stream->Read(&message)) {
  }
  CHECK(stream->Finish().error_message() ==
        "local exporter mode=delete requires a BuildKit daemon with multi-platform local export support");
}

TEST_CASE("Secrets come from files and variables; unknown ones are not found; big ones are refused") {
  scratch_directory dir;
  auto file = dir.file("secret", "from file");
  ::setenv("KILN_TEST_SECRET", "from env", 1);
  auto resolved =
      resolve_secrets({{"f", file, ""}, {"e", "", "KILN_TEST_SECRET"}, {"KILN_TEST_SECRET", "", ""}});
  REQUIRE(resolved.ok());
  fake_daemon daemon(make_secrets_service(*resolved));
  auto stub = moby::buildkit::secrets::v1::Secrets::NewStub(daemon.channel);
  auto get = [&](const char* id, std::string& out) {
    grpc::ClientContext context;
    moby::buildkit::secrets::v1::GetSecretRequest request;
    moby::buildkit::secrets::v1::GetSecretResponse response;
    request.set_id(id);
    auto s = stub->GetSecret(&context, request, &response);
    out = response.data();
    return s.error_code();
  };
  std::string value;
  CHECK(get("f", value) == grpc::StatusCode::OK);
  CHECK(value == "from file");
  CHECK(get("e", value) == grpc::StatusCode::OK);
  CHECK(value == "from env");
  CHECK(get("KILN_TEST_SECRET", value) == grpc::StatusCode::OK);
  CHECK(get("nope", value) == grpc::StatusCode::NOT_FOUND);
  ::unsetenv("KILN_TEST_SECRET");
  CHECK(resolve_secrets({{"", file, ""}}).error().message == "secret missing ID");
  dir.file("big", std::string(secret_bytes_max + 1, 'x'));
  CHECK(resolve_secrets({{"b", (dir.path / "big").string(), ""}}).error().message ==
        "secret b too big. max size 500KiB");
}

TEST_CASE("The token authority's key depends on salt and seed, and its signatures verify") {
  auto key = authority_key("salt", "seed");
  CHECK(key == authority_key("salt", "seed"));
  CHECK(key != authority_key("other", "seed"));
  CHECK(key != authority_key("salt", ""));
  auto signed_message = sign_message(key, "payload");
  REQUIRE(signed_message.size() == 64 + 7);
  CHECK(signed_message.substr(64) == "payload");
  auto public_key = public_key_of(key);
  EVP_PKEY* pkey = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr,
                                               reinterpret_cast<const unsigned char*>(public_key.data()), 32);
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  EVP_DigestVerifyInit(context, nullptr, nullptr, nullptr, pkey);
  CHECK(EVP_DigestVerify(context, reinterpret_cast<const unsigned char*>(signed_message.data()), 64,
                         reinterpret_cast<const unsigned char*>("payload"), 7) == 1);
  EVP_MD_CTX_free(context);
  EVP_PKEY_free(pkey);
}

TEST_CASE("A host's token seed is made once and kept") {
  scratch_directory dir;
  auto first = load_token_seed(dir.path.string(), "kept.example");
  REQUIRE(first.ok());
  CHECK(first->size() == 16);
  CHECK(*load_token_seed(dir.path.string(), "kept.example") == *first);
  CHECK(*load_token_seed(dir.path.string(), "other.example") != *first);
  CHECK(dir.read(".token_seed").find("kept.example") != std::string::npos);
}

TEST_CASE("Credentials are shared with the daemon and shown once") {
  scratch_directory dir;
  auth_options options;
  options.config_directory = dir.path.string();
  options.config.auths["reg.example"] = {
      .username = "u", .password = "p", .identity_token = {}, .registry_token = {}};
  options.config.auths["token.example"] = {
      .username = {}, .password = {}, .identity_token = {}, .registry_token = "static"};
  int shown = 0;
  options.log = [&](solve_status s) {
    ++shown;
    CHECK(s.vertices[0].name == "[auth] sharing credentials for reg.example");
  };
  fake_daemon daemon(make_auth_service(std::move(options)));
  auto stub = moby::filesync::v1::Auth::NewStub(daemon.channel);
  for (int i = 0; i < 2; ++i) {
    grpc::ClientContext context;
    moby::filesync::v1::CredentialsRequest request;
    moby::filesync::v1::CredentialsResponse response;
    request.set_host("reg.example");
    CHECK(stub->Credentials(&context, request, &response).ok());
    CHECK(response.username() == "u");
    CHECK(response.secret() == "p");
  }
  CHECK(shown == 1);
  grpc::ClientContext context;
  moby::filesync::v1::FetchTokenRequest request;
  moby::filesync::v1::FetchTokenResponse response;
  request.set_host("token.example");
  CHECK(stub->FetchToken(&context, request, &response).ok());
  CHECK(response.token() == "static");
  CHECK(response.expiresin() == 60);
}

TEST_CASE("An agent holding a key file lists and signs, and refuses everything else") {
  scratch_directory dir;
  auto path = dir.file("key", test_key_ed25519);
  auto service = make_ssh_service({{.id = "default", .paths = {path}}});
  REQUIRE(service.ok());
  fake_daemon daemon(*std::move(service));
  auto stub = moby::sshforward::v1::SSH::NewStub(daemon.channel);
  grpc::ClientContext context;
  auto stream = stub->ForwardAgent(&context);
  auto ask = [&](const std::string& request) {
    moby::sshforward::v1::BytesMessage message;
    message.set_data(wire_text(request));
    stream->Write(message);
    std::string answer;
    while (answer.size() < 4 || answer.size() < 4 + static_cast<unsigned char>(answer[3]) +
                                                    256u * static_cast<unsigned char>(answer[2])) {
      if (!stream->Read(&message)) break;
      answer += message.data();
    }
    return answer.substr(4);
  };
  auto identities = ask(std::string(1, 11));
  REQUIRE(identities.size() > 60);
  CHECK(identities[0] == 12);
  auto blob = identities.substr(9, 51);  // after type, count and the blob's length
  CHECK(blob.substr(4, 11) == "ssh-ed25519");
  auto signature = ask(std::string(1, 13) + wire_text(blob) + wire_text("data") + std::string(4, '\0'));
  CHECK(signature[0] == 14);
  CHECK(ask(std::string(1, 17) + "add a key") == std::string(1, 5));
  CHECK(ask(std::string(1, 13) + "garbage") == std::string(1, 5));
  stream->WritesDone();
  CHECK(stream->Finish().ok());

  grpc::ClientContext check;
  moby::sshforward::v1::CheckAgentRequest request;
  moby::sshforward::v1::CheckAgentResponse response;
  request.set_id("other");
  CHECK(stub->CheckAgent(&check, request, &response).error_message() == "unset ssh forward key other");
}

TEST_CASE("Broken, encrypted and unknown keys are refused with the reason") {
  CHECK(parse_private_key("hello", "c").error().message == "no private key found");
  CHECK(parse_private_key("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----", "c")
            .error()
            .message == "not an OpenSSH private key");
  scratch_directory dir;
  auto both = make_ssh_service({{.id = "x", .paths = {dir.file("key", test_key_ed25519), "/nowhere"}}});
  CHECK(both.error().message.find("--ssh: failed to convert agent config for ID: \"x\"") == 0);
}

TEST_CASE("A local store is read and written over the content API, digests verified") {
  scratch_directory dir;
  auto store = std::make_shared<blob_directory>(dir.path.string());
  fake_daemon daemon(make_content_service({{"local:x", store}}));
  namespace proto = containerd::services::content::v1;
  auto stub = proto::Content::NewStub(daemon.channel);
  auto digest_text = sha256("hello world").str();
  auto write = [&](const std::string& ref, const std::string& bytes, const std::string& expected) {
    grpc::ClientContext context;
    context.AddMetadata("buildkit-attachable-store-id", "local:x");
    auto stream = stub->Write(&context);
    proto::WriteContentRequest q;
    proto::WriteContentResponse a;
    q.set_ref(ref);
    q.set_action(proto::WRITE);
    q.set_data(bytes);
    stream->Write(q);
    if (stream->Read(&a)) {
      q.clear_data();
      q.set_action(proto::COMMIT);
      q.set_offset(a.offset());
      q.set_expected(expected);
      stream->Write(q);
      while (stream->Read(&a)) {
      }
    }
    stream->WritesDone();
    return stream->Finish();
  };
  CHECK(write("r1", "hello world", digest_text).ok());
  CHECK(write("r2", "hello world", digest_text).error_code() == grpc::StatusCode::ALREADY_EXISTS);
  CHECK(write("r3", "other bytes", digest_text).error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(store->list().size() == 1);

  auto read = [&](const std::string& id, const std::string& d, std::int64_t offset, std::string& out) {
    grpc::ClientContext context;
    context.AddMetadata("buildkit-attachable-store-id", id);
    proto::ReadContentRequest q;
    q.set_digest(d);
    q.set_offset(offset);
    auto reader = stub->Read(&context, q);
    proto::ReadContentResponse chunk;
    out.clear();
    while (reader->Read(&chunk)) out += chunk.data();
    return reader->Finish().error_code();
  };
  std::string bytes;
  CHECK(read("local:x", digest_text, 6, bytes) == grpc::StatusCode::OK);
  CHECK(bytes == "world");
  CHECK(read("local:x", digest_text, 12, bytes) == grpc::StatusCode::OUT_OF_RANGE);
  CHECK(read("local:y", digest_text, 0, bytes) == grpc::StatusCode::NOT_FOUND);
  CHECK(read("local:x", "sha256:../../etc/passwd", 0, bytes) == grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_CASE("The session announces every method of its services and of health") {
  session_tunnel tunnel;
  tunnel.add(make_secrets_service({}));
  auto methods = tunnel.methods();
  CHECK(methods[0] == "/grpc.health.v1.Health/Check");
  CHECK(methods.back() == "/moby.buildkit.secrets.v1.Secrets/GetSecret");
  CHECK(tunnel.id().size() == 25);
}
