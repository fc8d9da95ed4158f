// ExecProcess from a gRPC client through the gateway and the containers actor, with a scripted container.
#include <catch2/catch.hpp>

#include <atomic>
#include <csignal>
#include <thread>

#include "actors/containers/containers.hpp"
#include "fake_build.hpp"
#include "fakes.hpp"
#include "gateway.grpc.pb.h"
#include "gateway/control/status_convert.hpp"

using namespace kiln;
using namespace kiln::testing;

namespace {

/// What it runs depends on the first argument; no process exists.
class scripted_container final : public workers::client_container {
 public:
  struct log {
    box<bool> running;
    box<bool> stopped;
    box<bool> destroyed;
    std::atomic<std::uint64_t> written{0};
    std::atomic<int> runs{0};
  };
  explicit scripted_container(std::shared_ptr<log> l) : log_(std::move(l)) {}
  ~scripted_container() override { log_->destroyed.put(true); }

  status add_document(const std::string&, const std::string&, std::string_view) override { return {}; }
  result<workers::exit_state> run(const gw::InitMessage& init, const workers::process_io& io,
                                  std::stop_token stop) override {
    ++log_->runs;
    if (io.started) io.started();
    const auto& what = init.meta().args(0);
    if (what == "echo") {
      io.output(1, "to stdout");
      io.output(2, "to stderr");
      return workers::exit_state{};
    }
    if (what == "exit") return workers::exit_state{std::stoi(init.meta().args(1)), false};
    if (what == "fail") return make_error(errc::invalid_argument, "no such user");
    if (what == "flood") {
      std::string piece(64 << 10, 'f');
      for (int i = 0; i < 256 && !stop.stop_requested(); ++i) {
        io.output(1, piece);
        log_->written += piece.size();
      }
      return workers::exit_state{};
    }
    std::mutex mutex;
    std::condition_variable_any gone;
    std::unique_lock lock(mutex);
    log_->running.put(true);
    gone.wait(lock, stop, [] { return false; });
    log_->stopped.put(true);
    return make_error(errc::cancelled, "context canceled");
  }
  result<gw::ReadFileResponse> read_file(const gw::ReadFileRequest& request) override {
    gw::ReadFileResponse r;
    r.set_data(request.filepath() + "@" + std::to_string(request.mountindex()));
    return r;
  }
  result<gw::ReadDirResponse> read_dir(const gw::ReadDirRequest& request) override {
    return make_error(errc::not_found, "open " + request.dirpath() + ": no such file or directory");
  }
  result<gw::StatFileResponse> stat_file(const gw::StatFileRequest& request) override {
    gw::StatFileResponse r;
    r.mutable_stat()->set_path(request.path());
    return r;
  }

 private:
  std::shared_ptr<log> log_;
};

struct exec_fixture : gateway_fixture {
  std::shared_ptr<scripted_container::log> log = std::make_shared<scripted_container::log>();
  std::unique_ptr<gw::LLBBridge::Stub> stub;
  caf::actor build;

  exec_fixture() {
    behaviour->build = spawn_fake_build(system);
    build = caf::actor_cast<caf::actor>(behaviour->build);
    actors.push_back(build);
    actors::containers_options o;
    o.make = [log = log](
                 const gw::NewContainerRequest& request,
                 const container_inputs& inputs) -> result<std::shared_ptr<workers::client_container>> {
      if (request.hostname() == "broken") return make_error(errc::invalid_argument, "mount /x has no input");
      if (inputs.refs.size() != static_cast<std::size_t>(request.mounts_size()))
        return make_error(errc::internal, "refs are not the mounts'");
      return std::shared_ptr<workers::client_container>(std::make_shared<scripted_container>(log));
    };
    o.io = o.calls = std::make_shared<actors::job_pool>(4);
    o.processes = std::make_shared<actors::job_pool>(32);
    auto containers = caf::actor_cast<containers_actor>(system.spawn(actors::containers, o));
    actors.push_back(caf::actor_cast<caf::actor>(containers));
    gateway::server_options options;
    options.addresses = {"unix://" + (dir.path / "kilnd.sock").string()};
    auto s = make_services();
    s.containers = gateway::always(containers);
    server = *gateway::server::start(options, s);
    stub = gw::LLBBridge::NewStub(channel());
  }
  ~exec_fixture() { server->shutdown(); }

  static void name_build(grpc::ClientContext& c) { c.AddMetadata("buildkit-controlapi-buildid", "known"); }
  grpc::Status make(const std::string& id, const std::string& hostname = "") {
    grpc::ClientContext c;
    name_build(c);
    gw::NewContainerRequest q;
    q.set_containerid(id);
    q.set_hostname(hostname);
    q.add_mounts()->set_dest("/");
    gw::NewContainerResponse r;
    return stub->NewContainer(&c, q, &r);
  }
  grpc::Status release(const std::string& id) {
    grpc::ClientContext c;
    name_build(c);
    gw::ReleaseContainerRequest q;
    q.set_containerid(id);
    gw::ReleaseContainerResponse r;
    return stub->ReleaseContainer(&c, q, &r);
  }
};

struct exec_stream {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<gw::ExecMessage, gw::ExecMessage>> stream;
  explicit exec_stream(exec_fixture& f) {
    exec_fixture::name_build(context);
    stream = f.stub->ExecProcess(&context);
  }
  void init(const std::string& process, const std::string& container, std::vector<std::string> args) {
    gw::ExecMessage m;
    m.set_processid(process);
    auto& i = *m.mutable_init();
    i.set_containerid(container);
    for (auto& a : args) i.mutable_meta()->add_args(a);
    for (auto fd : {0u, 1u, 2u}) i.add_fds(fd);
    stream->Write(m);
  }
  /// Everything until a process is done, as text.
  std::string until_done() {
    std::string out;
    gw::ExecMessage m;
    while (stream->Read(&m)) {
      out += m.processid() + ":";
      if (m.has_started()) out += "started ";
      if (m.has_file())
        out += std::to_string(m.file().fd()) + (m.file().eof() ? "eof" : "=" + m.file().data()) + " ";
      if (m.has_exit())
        out += "exit" + std::to_string(m.exit().code()) +
               (m.exit().has_error() ? "(" + m.exit().error().message() + ")" : "") + " ";
      if (m.has_done()) return out + "done";
    }
    return out + "end";
  }
};

}  // namespace

TEST_CASE("a process in a container tells its start, its output, its exit and its end, in this order") {
  exec_fixture f;
  REQUIRE(f.make("c").ok());
  exec_stream s(f);
  s.init("p", "c", {"echo"});
  CHECK(s.until_done() == "p:started p:1=to stdout p:2=to stderr p:1eof p:2eof p:exit0 p:done");
  s.init("q", "c", {"exit", "3"});
  CHECK(s.until_done() == "q:started q:1eof q:2eof q:exit3(exit code: 3) q:done");
  s.init("r", "c", {"fail"});
  CHECK(s.until_done() == "r:started r:1eof r:2eof r:exit255(no such user) r:done");
  s.stream->WritesDone();
  CHECK(s.until_done() == "end");
  CHECK(s.stream->Finish().ok());
  CHECK(f.release("c").error_message() == "exit code: 3");  // the first that failed
  CHECK(f.log->destroyed.get() == true);
}

TEST_CASE("releasing a container in which all went well is no error") {
  exec_fixture f;
  REQUIRE(f.make("c").ok());
  exec_stream s(f);
  s.init("p", "c", {"echo"});
  s.until_done();
  CHECK(f.release("c").ok());
}

TEST_CASE("input for a process that has just ended is dropped, and the stream serves the next one") {
  exec_fixture f;
  REQUIRE(f.make("c").ok());
  exec_stream s(f);
  s.init("p", "c", {"echo"});
  CHECK(s.until_done().ends_with("p:done"));
  gw::ExecMessage late;
  late.set_processid("p");
  late.mutable_file()->set_fd(0);
  late.mutable_file()->set_eof(true);
  s.stream->Write(late);
  s.init("q", "c", {"echo"});
  CHECK(s.until_done().ends_with("q:done"));
  s.stream->WritesDone();
  CHECK(s.until_done() == "end");
  CHECK(s.stream->Finish().ok());
}

TEST_CASE("a flood of output is produced no faster than its client takes it, and arrives whole") {
  exec_fixture f;
  REQUIRE(f.make("c").ok());
  exec_stream s(f);
  s.init("p", "c", {"flood"});
  gw::ExecMessage m;
  REQUIRE(s.stream->Read(&m));
  std::size_t bytes = 0;
  while (s.stream->Read(&m) && !m.has_done()) bytes += m.file().data().size();
  CHECK(bytes == 256 * (64u << 10));
}

// moby/buildkit client suite, TestClientGatewayContainerMounts.
TEST_CASE(
    "releasing a container kills what runs in it and says so, and its processes still report their end") {
  exec_fixture f;
  REQUIRE(f.make("c").ok());
  exec_stream s(f);
  s.init("p", "c", {"wait"});
  REQUIRE(f.log->running.get());
  auto released = f.release("c");
  CHECK(released.error_code() == grpc::StatusCode::CANCELLED);
  CHECK(released.error_message() == "context canceled");
  CHECK(f.log->destroyed.get() == true);
  CHECK(s.until_done() == "p:started p:1eof p:2eof p:exit255(context canceled) p:done");
  auto again = f.release("c");
  CHECK(again.error_message() == "container details for c not found");
}

TEST_CASE("a client that leaves its stream kills its processes, the container stays") {
  exec_fixture f;
  REQUIRE(f.make("c").ok());
  {
    exec_stream s(f);
    s.init("p", "c", {"wait"});
    REQUIRE(f.log->running.get());
    s.context.TryCancel();
    s.until_done();
    CHECK(s.stream->Finish().error_code() == grpc::StatusCode::CANCELLED);
  }
  CHECK(f.log->stopped.get() == true);
  exec_stream s(f);
  s.init("q", "c", {"echo"});
  CHECK(s.until_done().ends_with("q:done"));
}

TEST_CASE("a build that ends takes its containers with it") {
  exec_fixture f;
  REQUIRE(f.make("c").ok());
  exec_stream s(f);
  s.init("p", "c", {"wait"});
  REQUIRE(f.log->running.get());
  caf::anon_send_exit(f.build, caf::exit_reason::user_shutdown);
  CHECK(f.log->destroyed.get() == true);
}

TEST_CASE("mistakes in what a client asks of containers are told with their code") {
  exec_fixture f;
  REQUIRE(f.make("c").ok());
  CHECK(f.make("c").error_code() == grpc::StatusCode::ALREADY_EXISTS);
  CHECK(f.make("d", "broken").error_message() == "mount /x has no input");
  CHECK(f.make("d").ok());  // the failed one left nothing
  auto fails = [&](auto speak) {
    exec_stream s(f);
    speak(s);
    while (s.until_done() != "end") continue;
    return s.stream->Finish();
  };
  auto unknown_container = fails([](exec_stream& s) { s.init("p", "nobody", {"echo"}); });
  CHECK(unknown_container.error_code() == grpc::StatusCode::NOT_FOUND);
  CHECK(unknown_container.error_message() == "container \"nobody\" previously released or not created");
  auto no_process = fails([](exec_stream& s) {
    gw::ExecMessage m;
    m.mutable_resize();
    s.stream->Write(m);
  });
  CHECK(no_process.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  auto unknown_process = fails([](exec_stream& s) {
    gw::ExecMessage m;
    m.set_processid("x");
    m.mutable_file()->set_data("input");
    s.stream->Write(m);
  });
  CHECK(unknown_process.error_message() == "IO for process \"x\" not found");
  auto unknown_signal = fails([](exec_stream& s) {
    s.init("p", "c", {"wait"});
    gw::ExecMessage m, started;
    s.stream->Read(&started);
    m.set_processid("p");
    m.mutable_signal()->set_name("NOSUCH");
    s.stream->Write(m);
  });
  CHECK(unknown_signal.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(unknown_signal.error_message() == "Unknown signal NOSUCH");
}

TEST_CASE("files of a container are read through its mounts") {
  exec_fixture f;
  REQUIRE(f.make("c").ok());
  grpc::ClientContext c1, c2, c3;
  for (auto* c : {&c1, &c2, &c3}) exec_fixture::name_build(*c);
  gw::ReadFileRequest q;
  q.set_ref("c");
  q.set_filepath("/etc/passwd");
  q.set_mountindex(1);
  gw::ReadFileResponse r;
  REQUIRE(f.stub->ReadFileContainer(&c1, q, &r).ok());
  CHECK(r.data() == "/etc/passwd@1");
  gw::ReadDirRequest d;
  d.set_ref("c");
  d.set_dirpath("/no");
  gw::ReadDirResponse dr;
  CHECK(f.stub->ReadDirContainer(&c2, d, &dr).error_code() == grpc::StatusCode::NOT_FOUND);
  gw::StatFileRequest st;
  st.set_ref("nobody");
  gw::StatFileResponse sr;
  CHECK(f.stub->StatFileContainer(&c3, st, &sr).error_message() ==
        "container details for nobody@0 not found");
}

TEST_CASE("signal names are those of moby, with or without SIG") {
  CHECK(workers::signal_number("KILL") == 9);
  CHECK(workers::signal_number("SIGTERM") == 15);
  CHECK(workers::signal_number("RTMIN+1") == SIGRTMIN + 1);
  CHECK(workers::signal_number("RTMAX") == SIGRTMAX);
  CHECK_FALSE(workers::signal_number("RTMIN+99"));
  CHECK_FALSE(workers::signal_number("RTMIN+"));
  CHECK_FALSE(workers::signal_number(""));
  CHECK_FALSE(workers::signal_number("9"));
}
