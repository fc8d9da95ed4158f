// The tree that the daemon runs: each child dies once while a build is at work, and what its client hears is
// checked.
#include "supervisors/daemon_tree.hpp"

#include <catch2/catch.hpp>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <condition_variable>
#include <future>
#include <map>
#include <mutex>

#include "../support/temp_dir.hpp"
#include "actors/builds.hpp"
#include "actors/handler_watch.hpp"
#include "control.grpc.pb.h"
#include "gateway/supervised_server.hpp"
#include "store/ref_store.hpp"
#include "supervisors/tree_parts.hpp"

using namespace kiln;
using namespace std::chrono_literals;

namespace {

struct tree_config : caf::actor_system_config {
  tree_config() {
    add_message_types<caf::id_block::kiln>();
    add_message_types<caf::id_block::kiln_containers>();
    actors::watch_handlers(*this);
  }
};

/// A step that waits until the test lets it go on, or nobody wants it any more.
class gate {
 public:
  void pass(std::stop_token stop) {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, stop, [this] { return open_; });
    --waiting_;
    changed_.notify_all();
  }
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void close() {
    std::lock_guard lock(mutex_);
    open_ = false;
  }
  bool wait_for(int there) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 20s, [&] { return waiting_ == there; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable_any changed_;
  int waiting_ = 0;
  bool open_ = false;
};

/// "slow://…" waits at the gate when it runs, "stuck://…" when its key is asked for, as a server that does
/// not answer lets one wait; all give scratch.
class test_source : public workers::source_handler {
 public:
  explicit test_source(gate& g) : gate_(g) {}
  std::vector<std::string> schemes() const override { return {"slow", "stuck", "quick"}; }
  result<solver::cache_map> cache_map(const workers::op_request& r, int, const job_context& job) override {
    const auto& id = r.op.source().identifier();
    if (id.starts_with("stuck://")) gate_.pass(job.stop);
    KILN_CHECK(job.check());
    return solver::source_cache_map(id);
  }
  result<std::vector<store::ref>> run(const workers::op_request& r, std::span<const store::ref>,
                                      const job_context& job) override {
    if (r.op.source().identifier().starts_with("slow://")) gate_.pass(job.stop);
    KILN_CHECK(job.check());
    return std::vector<store::ref>(1);
  }
  result<gw::ResolveSourceMetaResponse> resolve_meta(const gw::ResolveSourceMetaRequest&,
                                                     const std::shared_ptr<workers::resolutions>&,
                                                     const job_context&) override {
    return make_error(errc::unimplemented, "nothing to tell");
  }

 private:
  gate& gate_;
};

/// The records of builds that have ended, as the history tells of them.
class ended_builds {
 public:
  void put(const ctl::BuildHistoryRecord& record) {
    std::lock_guard lock(mutex_);
    records_[record.ref()] = record;
    changed_.notify_all();
  }
  ctl::BuildHistoryRecord of(const std::string& ref) {
    std::unique_lock lock(mutex_);
    REQUIRE(changed_.wait_for(lock, 20s, [&] { return records_.contains(ref); }));
    return records_[ref];
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, ctl::BuildHistoryRecord> records_;
};

history_listener::behavior_type listener(history_listener::pointer,
                                         const std::shared_ptr<ended_builds>& into) {
  return {[into](ctl::BuildHistoryEvent& e) {
            if (e.type() == ctl::COMPLETE) into->put(e.record());
          },
          [](done_atom) {}};
}

struct daemon_fixture {
  test::temp_dir dir;
  gate at;
  std::unique_ptr<store::ref_store> refs;
  std::shared_ptr<test_source> source = std::make_shared<test_source>(at);
  supervision::tree_pools pools{std::make_shared<actors::job_pool>(4), std::make_shared<actors::job_pool>(4),
                                std::make_shared<actors::job_pool>(1), std::make_shared<actors::job_pool>(1),
                                std::make_shared<actors::layered_pool>(1)};
  std::shared_ptr<actor_registry> registry = std::make_shared<actor_registry>();
  actors::peers peers{registry};
  tree_config config;
  std::unique_ptr<caf::actor_system> system;
  std::shared_ptr<gateway::listeners> listeners;
  caf::actor root;
  std::mutex starts_mutex;
  std::condition_variable starts;  // a child was put in the registry
  std::shared_ptr<ended_builds> ended = std::make_shared<ended_builds>();
  history_listener history;

  daemon_fixture() {
    spdlog::set_level(spdlog::level::off);
    auto opened = store::ref_store::open({dir.path() / "state", store::snapshotter_kind::automatic});
    REQUIRE(opened.ok());
    refs = *std::move(opened);
    system = std::make_unique<caf::actor_system>(config);
    auto tree = supervision::wire(*refs, nullptr, registry, pools);
    tree.worker.handler = [this](const pb::Op&) {
      return result<std::shared_ptr<workers::op_handler>>(std::shared_ptr<workers::op_handler>(source));
    };
    tree.worker.source = [this](std::string_view) {
      return result<std::shared_ptr<workers::source_handler>>(
          std::shared_ptr<workers::source_handler>(source));
    };
    to_proto(host_platform(), *tree.worker.record.add_platforms());
    gateway::server_options at_socket;
    at_socket.addresses = {address()};
    auto listening = gateway::listeners::open(at_socket);
    REQUIRE(listening.ok());
    listeners = *std::move(listening);
    gateway::services services;
    services.system = system.get();
    services.builds = [peers = peers] { return peers.builds(); };
    services.workers = [peers = peers] { return peers.workers(); };
    services.cache_manager = [peers = peers] { return peers.cache_manager(); };
    services.history = [peers = peers] { return peers.history(); };
    tree.gateway = [on = listeners, services](caf::actor_system& in) {
      return gateway::spawn_gateway(in, on, services);
    };
    tree.started = [this](const std::string&) {
      std::lock_guard lock(starts_mutex);
      starts.notify_all();
    };
    auto started = supervision::start_daemon_tree(*system, std::move(tree));
    REQUIRE(started.ok());
    root = *started;
    history = system->spawn(listener, ended);
    caf::anon_send(peers.history(), ctl::BuildHistoryRequest{}, history);
  }

  ~daemon_fixture() {
    at.open();
    caf::anon_send_exit(history, caf::exit_reason::user_shutdown);
    history = nullptr;
    caf::anon_send_exit(root, caf::exit_reason::user_shutdown);
    root = nullptr;
    system->await_all_actors_done();
    pools.close();
    system.reset();
  }

  std::string address() const { return "unix://" + (dir.path() / "kilnd.sock").string(); }
  /// A connection of its own.
  std::unique_ptr<ctl::Control::Stub> connect() const {
    grpc::ChannelArguments own;
    own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return ctl::Control::NewStub(
        grpc::CreateCustomChannel(address(), grpc::InsecureChannelCredentials(), own));
  }

  /// Waits for another actor than `old` under that name.
  bool comes(const std::string& name, const caf::actor& old) {
    std::unique_lock lock(starts_mutex);
    return starts.wait_for(lock, 20s, [&] {
      auto now = registry->get(name);
      return now && now != old;
    });
  }

  struct building {
    std::shared_ptr<std::promise<result<ctl::SolveResponse>>> promise =
        std::make_shared<std::promise<result<ctl::SolveResponse>>>();
    std::future<result<ctl::SolveResponse>> answer = promise->get_future();
    std::string ref = new_id();
  };

  static ctl::SolveRequest request_of(const std::string& identifier, const std::string& ref = new_id()) {
    ctl::SolveRequest request;
    request.set_ref(ref);
    pb::Op op, last;
    op.mutable_source()->set_identifier(identifier);
    auto bytes = op.SerializeAsString();
    last.add_inputs()->set_digest(sha256(bytes).str());
    request.mutable_definition()->add_def(bytes);
    request.mutable_definition()->add_def(last.SerializeAsString());
    return request;
  }

  building begin(const std::string& identifier) {
    building out;
    system->spawn(
        [request = request_of(identifier, out.ref), promise = out.promise, builds = peers.builds()](
            caf::event_based_actor* self, caf::unit_t) {
          self->request(builds, caf::infinite, solve_atom::value, request)
              .then([promise](ctl::SolveResponse& r) { promise->set_value(std::move(r)); },
                    [promise](caf::error& e) { promise->set_value(from_caf(e)); });
        },
        caf::unit);
    return out;
  }

  static result<ctl::SolveResponse> end_of(building& b) {
    REQUIRE(b.answer.wait_for(20s) == std::future_status::ready);
    return b.answer.get();
  }
};

}  // namespace

TEST_CASE_METHOD(daemon_fixture, "once the tree has started everybody is there to be asked") {
  using actors::peers;
  for (const auto* name :
       {peers::cache_manager_name, peers::garbage_collector_name, peers::history_name, peers::worker_name,
        peers::workers_name, actors::containers_name, peers::build_graph_name, peers::builds_name,
        supervision::sessions_name, supervision::gateway_name}) {
    INFO(name);
    CHECK(registry->get(name));
  }
}

TEST_CASE_METHOD(daemon_fixture,
                 "a child of the tree that dies comes back, and builds hear of it what it means for them") {
  struct expectation {
    const char* child;
    const char* message;  // of the running build; null: it goes on
  };
  using actors::peers;
  auto e = GENERATE(
      expectation{peers::worker_name, "the worker died: "},
      expectation{peers::build_graph_name, "the build graph died: "},
      expectation{peers::builds_name, "the actor of all builds died: "},
      expectation{peers::workers_name, nullptr}, expectation{actors::containers_name, nullptr},
      expectation{peers::cache_manager_name, nullptr}, expectation{peers::garbage_collector_name, nullptr},
      expectation{peers::history_name, nullptr}, expectation{supervision::gateway_name, nullptr});
  INFO(e.child);
  auto b = begin("slow://one");
  REQUIRE(at.wait_for(1));
  auto old = registry->get(e.child);
  REQUIRE(old);
  caf::anon_send_exit(old, caf::exit_reason::unhandled_exception);
  REQUIRE(comes(e.child, old));
  if (!e.message) {
    at.open();
    CHECK(end_of(b).ok());
  } else {
    auto answer = end_of(b);
    REQUIRE_FALSE(answer.ok());
    CHECK(answer.error().code == errc::internal);
    CHECK_THAT(answer.error().message, Catch::Contains(e.message));
    CHECK_THAT(answer.error().message, Catch::Contains("unhandled_exception"));
    CHECK(at.wait_for(0));  // the step is told to stop
    at.open();
    REQUIRE(comes(peers::builds_name, {}));
    auto record = ended->of(b.ref);
    CHECK(record.error().code() == static_cast<int>(errc::internal));
    CHECK_THAT(record.error().message(), Catch::Contains(e.message));
  }
  auto next = begin("quick://two");
  auto answer = end_of(next);
  INFO((answer.ok() ? "" : answer.error().message));
  CHECK(answer.ok());
}

TEST_CASE_METHOD(daemon_fixture,
                 "a running build outlives what it does not need, and asks the worker that there is now") {
  auto b = begin("stuck://one");
  REQUIRE(at.wait_for(1));
  auto old = registry->get(actors::peers::worker_name);
  caf::anon_send_exit(old, caf::exit_reason::unhandled_exception);
  REQUIRE(comes(actors::peers::worker_name, old));
  CHECK_FALSE(end_of(b).ok());
  at.open();
  // The same step again while its first vertex may still be held by the build that has just ended.
  auto again = begin("stuck://one");
  auto answer = end_of(again);
  INFO((answer.ok() ? "" : answer.error().message));
  CHECK(answer.ok());
}

TEST_CASE_METHOD(daemon_fixture, "servers that do not answer keep nobody from the disk") {
  std::vector<building> stuck;
  for (int i = 0; i < 4; ++i) stuck.push_back(begin("stuck://" + std::to_string(i)));
  REQUIRE(at.wait_for(4));
  // The one thread for short work is free: another build's keys are kept, and so is its record.
  auto usage = std::async(std::launch::async, [&] {
    bool ok = false;
    caf::scoped_actor me{*system};
    me->request(peers.cache_manager(), 20s, ctl::DiskUsageRequest{})
        .receive([&](ctl::DiskUsageResponse&) { ok = true; }, [](caf::error&) {});
    return ok;
  });
  CHECK(usage.get());
  at.open();
  for (auto& b : stuck) CHECK(end_of(b).ok());
}

TEST_CASE_METHOD(
    daemon_fixture,
    "when the gateway dies its calls end, nobody else does, and the next one has its listeners") {
  auto other = begin("slow://others");
  REQUIRE(at.wait_for(1));
  auto control = connect();
  auto request = request_of("slow://over the wire");
  auto call = std::async(std::launch::async, [&] {
    grpc::ClientContext context;
    ctl::SolveResponse response;
    return control->Solve(&context, request, &response);
  });
  REQUIRE(at.wait_for(2));
  std::map<std::string, caf::actor> before;
  for (const auto* name :
       {actors::peers::cache_manager_name, actors::peers::history_name, actors::peers::worker_name,
        actors::peers::build_graph_name, actors::peers::builds_name, supervision::sessions_name})
    before[name] = registry->get(name);
  auto old = registry->get(supervision::gateway_name);
  caf::anon_send_exit(old, caf::exit_reason::unhandled_exception);
  REQUIRE(comes(supervision::gateway_name, old));
  CHECK_FALSE(call.get().ok());
  CHECK(at.wait_for(1));  // nobody waits for that build any more
  grpc::ClientContext context;
  ctl::ListWorkersResponse workers;
  auto listed = connect()->ListWorkers(&context, {}, &workers);
  INFO(listed.error_message());
  CHECK(listed.ok());
  for (const auto& [name, actor] : before) {
    INFO(name);
    CHECK(registry->get(name) == actor);
  }
  at.open();
  CHECK(end_of(other).ok());
}
