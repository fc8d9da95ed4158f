// The whole way with real parts: store, op handlers, executor, every actor on the real scheduler. Needs root
// and an OCI runtime, as CI has.
#include <catch2/catch.hpp>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <caf/all.hpp>

#include "actors/solve/build_graph.hpp"
#include "actors/builds.hpp"
#include "actors/cache/cache_manager.hpp"
#include "actors/cache/garbage_collector.hpp"
#include "actors/solve/graph_spec.hpp"
#include "actors/handler_watch.hpp"
#include "actors/history/history.hpp"
#include "actors/worker/worker.hpp"
#include "actors/worker/worker_devices.hpp"
#include "actors/workers.hpp"
#include "base/json_text.hpp"
#include "base/unique_fd.hpp"
#include "messages/actor_containers.hpp"
#include "solver/error_details.hpp"
#include "store/hashing/content_hash.hpp"
#include "store/ref_store.hpp"
#include "supervisors/tree_parts.hpp"
#include "tests/support/http_server.hpp"
#include "workers/op_registry.hpp"
#include "workers/sources/http.hpp"
#include "workers/sources/resolutions.hpp"
#include "workers/worker_resources.hpp"

using namespace kiln;
namespace fs = std::filesystem;

namespace {

/// "test-rootfs://busybox": a root file system with a static busybox, made on the spot.
class busybox_source : public workers::source_handler {
 public:
  explicit busybox_source(store::ref_store& refs) : refs_(refs) {}
  std::vector<std::string> schemes() const override { return {"test-rootfs"}; }
  result<solver::cache_map> cache_map(const workers::op_request& r, int, const job_context&) override {
    return solver::source_cache_map(r.op.source().identifier());
  }
  result<std::vector<store::ref>> run(const workers::op_request&, std::span<const store::ref>,
                                      const job_context& job) override {
    KILN_TRY(auto m, refs_.create({}, {"busybox", store::record_type::regular, 0}, job));
    KILN_TRY(auto mounts, refs_.files().mounts(m));
    KILN_TRY(auto at, store::mounted::make(refs_, mounts));
    fs::create_directories(at.path() / "bin");
    fs::copy_file("/bin/busybox", at.path() / "bin/busybox");
    for (auto name : {"sh", "cat", "echo", "sleep"}) fs::create_symlink("busybox", at.path() / "bin" / name);
    for (auto dir : {"proc", "sys", "dev", "tmp", "etc"}) fs::create_directories(at.path() / dir);
    KILN_CHECK(at.unmount());
    KILN_TRY(auto r, refs_.commit(std::move(m)));
    return std::vector<store::ref>{r};
  }
  result<moby::buildkit::v1::frontend::ResolveSourceMetaResponse> resolve_meta(
      const moby::buildkit::v1::frontend::ResolveSourceMetaRequest&,
      const std::shared_ptr<workers::resolutions>&, const job_context&) override {
    return make_error(errc::unimplemented, "nothing to tell");
  }

 private:
  store::ref_store& refs_;
};

struct real_config : caf::actor_system_config {
  real_config() {
    add_message_types<caf::id_block::kiln>();
    add_message_types<caf::id_block::kiln_containers>();
    set("scheduler.policy", caf::atom("sharing"));
    actors::watch_handlers(*this);
  }
};

/// Waits for entries of a directory to go.
struct deletions {
  unique_fd events{::inotify_init1(IN_CLOEXEC)};
  explicit deletions(const fs::path& directory) {
    REQUIRE(::inotify_add_watch(events.get(), directory.c_str(), IN_DELETE | IN_MOVED_FROM) >= 0);
  }
  /// False when none has gone for a minute.
  bool next() {
    pollfd wait{events.get(), POLLIN, 0};
    std::array<char, 4096> buffer{};
    return ::poll(&wait, 1, 60'000) > 0 && ::read(events.get(), buffer.data(), buffer.size()) > 0;
  }
};

struct watched {
  std::vector<ctl::StatusResponse> all;
  std::string logs() const {
    std::string out;
    for (const auto& s : all)
      for (const auto& l : s.logs()) out += l.msg();
    return out;
  }
  int count(bool cached) const {
    int n = 0;
    for (const auto& s : all)
      for (const auto& v : s.vertexes()) n += v.has_completed() && v.cached() == cached && v.error().empty();
    return n;
  }
  std::vector<std::string> notes() const {
    std::vector<std::string> out;
    for (const auto& s : all)
      for (const auto& v : s.statuses()) out.push_back(v.id());
    return out;
  }
};

/// One node's actors over a fresh state directory.
struct node {
  fs::path root;
  std::unique_ptr<store::ref_store> refs;
  std::unique_ptr<workers::worker_resources> resources;
  std::unique_ptr<workers::op_registry> ops;
  kiln::distribution::hosts hosts;
  supervision::tree_pools pools;
  std::shared_ptr<actor_registry> registry = std::make_shared<actor_registry>();
  actors::peers peers{registry};
  real_config config;
  std::unique_ptr<caf::actor_system> system;
  caf::actor root_supervisor;

  node() {
    std::string pattern = (fs::temp_directory_path() / "kiln-node-XXXXXX").string();
    root = mkdtemp(pattern.data());
    open();
  }
  ~node() {
    close();
    fs::remove_all(root);
  }

  void open() {
    auto opened = store::ref_store::open({root, store::snapshotter_kind::automatic});
    REQUIRE(opened.ok());
    refs = *std::move(opened);
    workers::worker_options wo;
    wo.refs = refs.get();
    wo.executor.root = root / "executor";
    wo.devices.emplace().spec_dirs = {(root / "cdi").string()};
    auto made = workers::open_worker(std::move(wo));
    REQUIRE(made.ok());
    resources = *std::move(made);
    ops = std::make_unique<workers::op_registry>(*resources);
    ops->add(std::make_shared<busybox_source>(*refs));
    ops->add(workers::make_http_source(*refs, hosts));
    pools = supervision::tree_pools::make();
    system = std::make_unique<caf::actor_system>(config);

    auto tree = supervision::wire(*refs, nullptr, registry, pools);
    auto& w = tree.worker;
    w.handler = [this](const pb::Op& op) { return ops->handler(op); };
    w.source = [this](std::string_view id) { return ops->source(id); };
    w.exporter = [this](const std::string& type, const std::map<std::string, std::string>& a, int id) {
      return exporters::make_exporter(type, a, id, {refs.get(), nullptr});
    };
    w.checksum = [this](const store::ref& r, const std::vector<content_selector>& s, const job_context& job) {
      return store::content_checksum(*refs, r, s, job);
    };
    w.record.set_id(*actors::worker_id(*refs));
    to_proto(host_platform(), *w.record.add_platforms());
    w.update = [this](types::WorkerRecord& r) { actors::set_devices(r, resources->devices->devices()); };
    tree.build.allowed_entitlements = {"device"};
    auto started = supervision::start_daemon_tree(*system, std::move(tree));
    REQUIRE(started.ok());
    root_supervisor = *started;
  }

  void close() {
    caf::anon_send_exit(root_supervisor, caf::exit_reason::user_shutdown);
    root_supervisor = nullptr;
    system->await_all_actors_done();
    pools.close();
    system.reset();
    ops.reset();
    resources.reset();
    refs.reset();
  }

  void restart() {
    close();
    open();
  }

  struct built {
    std::optional<result<ctl::SolveResponse>> outcome;
    watched progress;
    bool ok() const { return outcome && outcome->ok(); }
    std::string message() const {
      return !outcome ? "unanswered" : outcome->ok() ? "" : outcome->error().message;
    }
  };

  built solve(const pb::Definition& def, const std::vector<std::string>& entitlements = {}) {
    built out;
    ctl::SolveRequest request;
    request.mutable_entitlements()->Assign(entitlements.begin(), entitlements.end());
    request.set_ref(new_id());
    *request.mutable_definition() = def;
    caf::scoped_actor self{*system};
    self->request(peers.builds(), std::chrono::seconds(60), solve_atom::value, request)
        .receive([&](ctl::SolveResponse& r) { out.outcome.emplace(std::move(r)); },
                 [&](caf::error& e) { out.outcome.emplace(from_caf(e)); });
    // The listener's inbound_worker is wider than a scoped actor's: collect through a small one.
    auto w = std::make_shared<watched>();
    auto listener = system->spawn(
        [w, owner = caf::actor_cast<caf::actor>(self)](status_listener::pointer me,
                                                       caf::unit_t) -> status_listener::behavior_type {
          return {[w](ctl::StatusResponse& s) { w->all.push_back(std::move(s)); },
                  [me, owner](done_atom) {
                    caf::anon_send(owner, done_atom::value);
                    me->quit();
                  }};
        },
        caf::unit);
    self->send(peers.builds(), watch_atom::value, request.ref(), listener);
    self->receive([](done_atom) {},
                  caf::after(std::chrono::seconds(20)) >> [] { FAIL("no end of the progress"); });
    out.progress = *w;
    return out;
  }

  /// A build that a gateway client drives, while `use` runs.
  void with_build(const std::function<void(caf::scoped_actor&, const build_actor&)>& use) {
    caf::scoped_actor self{*system};
    ctl::SolveRequest request;
    request.set_ref(new_id());
    auto whole = self->request(peers.builds(), std::chrono::seconds(60), solve_atom::value, request);
    build_actor build;
    self->request(peers.builds(), std::chrono::seconds(10), find_atom::value, request.ref())
        .receive([&](build_actor& b) { build = b; }, [&](caf::error& e) { FAIL(from_caf(e).message); });
    use(self, build);
    gw::ReturnRequest end;
    end.mutable_result()->mutable_ref();
    self->request(build, std::chrono::seconds(10), end)
        .receive([](gw::ReturnResponse&) {}, [&](caf::error& e) { FAIL(from_caf(e).message); });
    whole.receive([](ctl::SolveResponse&) {}, [&](caf::error& e) { FAIL(from_caf(e).message); });
  }

  /// What the build makes of a definition: a file of it.
  static std::string read(caf::scoped_actor& self, const build_actor& build, const pb::Definition& def,
                          const std::string& path) {
    std::string out;
    gw::SolveRequest s;
    *s.mutable_definition() = def;
    std::string ref;
    self->request(build, std::chrono::seconds(10), s)
        .receive([&](gw::SolveResponse& r) { ref = r.ref(); },
                 [&](caf::error& e) { FAIL(from_caf(e).message); });
    gw::ReadFileRequest r;
    r.set_ref(ref);
    r.set_filepath(path);
    self->request(build, std::chrono::seconds(60), r)
        .receive([&](gw::ReadFileResponse& f) { out = f.data(); },
                 [&](caf::error& e) { out = "error: " + from_caf(e).message; });
    return out;
  }

  /// The checksum of what the build sees at a URL.
  static std::string look(caf::scoped_actor& self, const build_actor& build, const std::string& url) {
    std::string out;
    gw::ResolveSourceMetaRequest question;
    question.mutable_source()->set_identifier(url);
    self->request(build, std::chrono::seconds(20), question)
        .receive([&](gw::ResolveSourceMetaResponse& r) { out = r.http().checksum(); },
                 [&](caf::error& e) { FAIL(from_caf(e).message); });
    return out;
  }

  /// Builds a definition as a gateway client and reads a file of it.
  std::string read(const pb::Definition& def, const std::string& path) {
    std::string out;
    with_build(
        [&](caf::scoped_actor& self, const build_actor& build) { out = read(self, build, def, path); });
    return out;
  }
};

/// Definitions as clients make them.
struct llb {
  pb::Definition def;
  std::string add(const pb::Op& op) {
    auto bytes = op.SerializeAsString();
    def.add_def(bytes);
    auto digest = sha256(bytes).str();
    (*def.mutable_metadata())[digest];
    return digest;
  }
  std::string source(const std::string& identifier,
                     const std::map<std::string, std::string>& attributes = {}) {
    pb::Op op;
    op.mutable_source()->set_identifier(identifier);
    op.mutable_source()->mutable_attrs()->insert(attributes.begin(), attributes.end());
    return add(op);
  }
  std::string busybox() { return source("test-rootfs://busybox"); }
  std::string file(const std::string& base, const std::string& path, const std::string& data) {
    pb::Op op;
    if (!base.empty()) op.add_inputs()->set_digest(base);
    auto& a = *op.mutable_file()->add_actions();
    a.set_input(base.empty() ? -1 : 0);
    a.set_secondaryinput(-1);
    a.mutable_mkfile()->set_path(path);
    a.mutable_mkfile()->set_data(data);
    a.mutable_mkfile()->set_mode(0644);
    a.mutable_mkfile()->set_timestamp(-1);
    return add(op);
  }
  std::string copy(const std::string& base, const std::string& from, const std::string& src,
                   const std::string& dest) {
    pb::Op op;
    op.add_inputs()->set_digest(base);
    op.add_inputs()->set_digest(from);
    auto& a = *op.mutable_file()->add_actions();
    a.set_input(0);
    a.set_secondaryinput(1);
    a.mutable_copy()->set_src(src);
    a.mutable_copy()->set_dest(dest);
    a.mutable_copy()->set_mode(-1);
    a.mutable_copy()->set_timestamp(-1);
    return add(op);
  }
  std::string run(const std::string& base, const std::string& script, const std::string& device = "") {
    pb::Op op;
    if (!device.empty()) op.mutable_exec()->add_cdidevices()->set_name(device);
    op.add_inputs()->set_digest(base);
    auto& meta = *op.mutable_exec()->mutable_meta();
    for (auto arg : {"/bin/sh", "-c", script.c_str()}) meta.add_args(arg);
    meta.set_cwd("/");
    op.mutable_exec()->set_network(pb::NONE);
    auto& m = *op.mutable_exec()->add_mounts();
    m.set_dest("/");
    return add(op);
  }
  /// What the definition in a file of `input` makes.
  std::string nested(const std::string& input, const std::string& file) {
    pb::Op op;
    op.add_inputs()->set_digest(input);
    op.mutable_build()->set_builder(-1);
    (*op.mutable_build()->mutable_attrs())["llbbuild.filename"] = file;
    (*op.mutable_build()->mutable_inputs())["buildkit.llb.definition"].set_input(0);
    return add(op);
  }
  const pb::Definition& finish(const std::string& root) {
    pb::Op op;
    op.add_inputs()->set_digest(root);
    def.add_def(op.SerializeAsString());
    return def;
  }
};

}  // namespace

TEST_CASE_METHOD(node, "files are made, copied and read with real parts, and cached over a restart") {
  llb d;
  auto made = d.file("", "/a.txt", "hello");
  d.finish(d.copy(d.file("", "/base", "b"), made, "/a.txt", "/copied.txt"));
  auto first = solve(d.def);
  REQUIRE(first.message() == "");
  CHECK(first.progress.count(true) == 0);
  CHECK(first.progress.count(false) == 3);
  CHECK(read(d.def, "/copied.txt") == "hello");
  CHECK(read(d.def, "/none") == "error: open /none: no such file or directory");
  restart();
  auto again = solve(d.def);
  REQUIRE(again.message() == "");
  CHECK(again.progress.count(false) == 0);
  CHECK(read(d.def, "/base") == "b");
}

TEST_CASE_METHOD(
    node, "what a build has seen of a URL is what it gets, whatever other builds of the same steps see") {
  std::string content = "one";
  test::http_server server([&](const test::http_request&) { return test::http_answer{200, {}, content}; });
  auto url = server.url() + "/f";
  auto copied = [&](const std::map<std::string, std::string>& attributes) {
    llb d;
    d.finish(d.copy(d.file("", "/base", "b"), d.source(url, attributes), "/f", "/copied"));
    return d.def;
  };
  with_build([&](caf::scoped_actor& first, const build_actor& a) {
    CHECK(look(first, a, url) == sha256("one").str());
    content = "two";
    with_build([&](caf::scoped_actor& second, const build_actor& b) {
      CHECK(look(second, b, url) == sha256("two").str());
      CHECK(read(first, a, copied({}), "/copied") == "one");
      CHECK(read(second, b, copied({}), "/copied") == "two");
      content = "three";
      CHECK(read(first, a, copied({{"http.perm", "0700"}}), "/copied") == "one");
      CHECK(look(second, b, url) == sha256("two").str());
    });
    // A build that only built it has seen it, too.
    with_build([&](caf::scoped_actor& third, const build_actor& c) {
      CHECK(read(third, c, copied({}), "/copied") == "three");
      content = "four";
      CHECK(look(third, c, url) == sha256("three").str());
      CHECK(look(first, a, url) == sha256("one").str());
    });
  });
}

TEST_CASE("steps whose sources may lead elsewhere are their build's own, with all that is built on them") {
  llb d;
  auto fixed = d.file("", "/base", "b");
  auto free = d.source("http://h/f", {{"kiln.build", "no"}});
  (*(*d.def.mutable_metadata())[free].mutable_description())["kiln.build"] = "another's";
  d.finish(d.copy(fixed, free, "/f", "/g"));
  auto loaded = solver::load(d.def, {});
  REQUIRE(loaded.ok());
  auto spec = actors::to_spec(*std::move(loaded), "");
  actors::keep_to_build(spec, "me");
  REQUIRE(spec.vertices.size() == 3);
  for (const auto& v : spec.vertices) {
    bool is_fixed = v.digest == fixed;
    CHECK(v.digest.ends_with("@me") != is_fixed);
    CHECK(actors::build_of(v.op) == (v.op.op.has_source() ? "me" : ""));
    for (const auto& input : v.inputs) CHECK(input.vertex.ends_with("@me") == (input.vertex != fixed));
  }
  CHECK(spec.root.vertex.ends_with("@me"));
}

TEST_CASE_METHOD(node, "commands run in containers; only what changed runs again, and says why") {
  auto script = [](const std::string& content) {
    llb d;
    auto base = d.busybox();
    auto input = d.file("", "/in.txt", content);
    d.finish(d.run(d.copy(base, input, "/in.txt", "/in.txt"), "cat /in.txt && cat /in.txt > /out.txt"));
    return d.def;
  };
  auto first = solve(script("one"));
  REQUIRE(first.message() == "");
  CHECK(first.progress.logs().find("one") != std::string::npos);
  CHECK(read(script("one"), "/out.txt") == "one");
  auto cached = solve(script("one"));
  CHECK(cached.progress.count(false) == 1);  // the source was resolved, nothing was run
  CHECK(cached.progress.logs().empty());
  auto changed = solve(script("two"));
  REQUIRE(changed.message() == "");
  CHECK(changed.progress.logs().find("two") != std::string::npos);
  auto notes = changed.progress.notes();
  CHECK(std::any_of(notes.begin(), notes.end(),
                    [](const std::string& n) { return n.find("changed") != std::string::npos; }));
  CHECK(read(script("two"), "/out.txt") == "two");
  // Back to what was built before: nothing runs.
  CHECK(solve(script("one")).progress.logs().empty());
}

TEST_CASE_METHOD(node, "steps get the CDI devices their worker has and their build may have") {
  fs::create_directories(root / "cdi");
  std::ofstream(root / "cdi/d.yaml") << R"(
cdiVersion: 0.6.0
kind: test.dev/thing
devices:
- name: open
  annotations: {org.mobyproject.buildkit.device.autoallow: true}
  containerEdits: {env: [OPEN=yes]}
- name: closed
  containerEdits: {env: [CLOSED=yes]}
)";
  auto with = [](const std::string& device) {
    llb d;
    d.finish(d.run(d.busybox(), "echo ${OPEN}${CLOSED} > /out.txt; echo made; cat /out.txt", device));
    return d.def;
  };
  caf::scoped_actor self{*system};
  self->request(peers.worker(), std::chrono::seconds(10), describe_atom::value)
      .receive(
          [](const types::WorkerRecord& record) {
            REQUIRE(record.cdidevices_size() == 2);
            CHECK(record.cdidevices(0).name() == "test.dev/thing=closed");
            CHECK_FALSE(record.cdidevices(0).autoallow());
            CHECK(record.cdidevices(1).autoallow());
          },
          [](caf::error& e) { FAIL(from_caf(e).message); });
  CHECK(read(with("test.dev/thing=open"), "/out.txt") == "yes\n");
  CHECK(solve(with("test.dev/thing=closed")).message() ==
        "failed to load LLB: device test.dev/thing=closed is requested by the build but not allowed");
  CHECK(solve(with("test.dev/other")).message() ==
        "failed to load LLB: required device \"test.dev/other\" is not registered");
  auto granted = solve(with("test.dev/thing=closed"), {"device=test.dev/thing=closed"});
  REQUIRE(granted.message() == "");
  CHECK(granted.progress.logs() == "made\nyes\n");
  CHECK(solve(with("test.dev/thing=closed"), {"device"}).progress.logs().empty());  // the same step, from the
                                                                                    // cache
  auto all = solve(with("test.dev/thing=*"), {"device"});
  REQUIRE(all.message() == "");
  CHECK(all.progress.logs() == "made\nyesyes\n");

  llb outer;
  auto inner = outer.file("", "/llb", with("test.dev/thing=open").SerializeAsString());
  outer.finish(outer.nested(inner, "/llb"));
  CHECK(read(outer.def, "/out.txt") == "yes\n");
  llb refused;
  inner = refused.file("", "/llb", with("test.dev/thing=closed").SerializeAsString());
  refused.finish(refused.nested(inner, "/llb"));
  CHECK(solve(refused.def).message().find("is requested by the build but not allowed") != std::string::npos);
}

TEST_CASE_METHOD(node, "a failing command fails its build with BuildKit's words and details") {
  llb d;
  d.finish(d.run(d.busybox(), "echo before; exit 3"));
  auto s = solve(d.def);
  CHECK(s.message() ==
        "process \"/bin/sh -c echo before; exit 3\" did not complete successfully: exit code: 3");
  CHECK(solver::has_detail(s.outcome->error(), solver::vertex_detail_type));
  CHECK(solver::has_detail(s.outcome->error(), solver::solve_detail_type));
  CHECK(s.progress.logs().find("before") != std::string::npos);
}

TEST_CASE_METHOD(node, "a gateway client gets hold of what a failed step left, as long as its build lives") {
  llb d;
  d.finish(d.run(d.busybox(), "echo half > /done; exit 3"));
  caf::scoped_actor self{*system};
  ctl::SolveRequest request;
  request.set_ref(new_id());
  auto whole = self->request(peers.builds(), std::chrono::seconds(60), solve_atom::value, request);
  build_actor build;
  self->request(peers.builds(), std::chrono::seconds(10), find_atom::value, request.ref())
      .receive([&](build_actor& b) { build = b; }, [&](caf::error& e) { FAIL(from_caf(e).message); });
  gw::SolveRequest s;
  *s.mutable_definition() = d.def;
  s.set_evaluate(true);
  std::vector<std::string> left;
  self->request(build, std::chrono::seconds(60), s)
      .receive([&](gw::SolveResponse&) { FAIL("it succeeded"); },
               [&](caf::error& e) { left = solver::refs_of(from_caf(e)); });
  REQUIRE(left.size() == 2);  // the root as it was given, and as it was left
  CHECK(left[0] != left[1]);
  container_inputs lent;
  self->request(caf::actor_cast<container_lender>(build), std::chrono::seconds(10),
                container_inputs{{left[1], ""}, {}})
      .receive([&](container_inputs& i) { lent = std::move(i); },
               [&](caf::error& e) { FAIL(from_caf(e).message); });
  CHECK(lent.refs == std::vector<std::string>{left[1], ""});
  gw::ReadFileRequest r;
  r.set_ref(left[1]);
  r.set_filepath("/done");
  self->request(build, std::chrono::seconds(60), r)
      .receive([&](gw::ReadFileResponse& f) { CHECK(f.data() == "half\n"); },
               [&](caf::error& e) { FAIL(from_caf(e).message); });
  deletions snapshots(root / "snapshots");
  gw::ReturnRequest end;
  end.mutable_result()->mutable_ref();
  self->request(build, std::chrono::seconds(10), end)
      .receive([](gw::ReturnResponse&) {}, [&](caf::error& e) { FAIL(from_caf(e).message); });
  whole.receive([](ctl::SolveResponse&) {}, [&](caf::error& e) { FAIL(from_caf(e).message); });
  // A record is gone before its snapshot is, and before the build's actor.
  bool gone = false;
  do gone = !refs->get(left[1]).ok();
  while (!gone && snapshots.next());
  CHECK(gone);
}

TEST_CASE_METHOD(node, "a cancelled build leaves no process behind and its work can be done again") {
  llb d;
  d.finish(d.run(d.busybox(), "sleep 600"));
  ctl::SolveRequest request;
  request.set_ref(new_id());
  *request.mutable_definition() = d.def;
  caf::scoped_actor self{*system};
  auto solving = self->request(peers.builds(), std::chrono::seconds(60), solve_atom::value, request);
  // Wait for the step to start, then cancel.
  caf::actor owner = caf::actor_cast<caf::actor>(self);
  auto listener = system->spawn(
      [owner](status_listener::pointer me, caf::unit_t) -> status_listener::behavior_type {
        return {[owner](ctl::StatusResponse& s) {
                  for (const auto& v : s.vertexes())
                    if (v.name().find("sleep") != std::string::npos && v.has_started())
                      caf::anon_send(owner, done_atom::value);
                },
                [me](done_atom) { me->quit(); }};
      },
      caf::unit);
  self->send(peers.builds(), watch_atom::value, request.ref(), listener);
  self->receive([](done_atom) {},
                caf::after(std::chrono::seconds(30)) >> [] { FAIL("the step never started"); });
  self->send(peers.builds(), cancel_atom::value, request.ref());
  solving.receive([](ctl::SolveResponse&) { FAIL("not cancelled"); },
                  [](caf::error& e) { CHECK(from_caf(e).code == errc::cancelled); });
}

TEST_CASE_METHOD(node, "the history keeps finished builds and replays them after a restart") {
  llb d;
  d.finish(d.run(d.busybox(), "echo kept"));
  REQUIRE(solve(d.def).message() == "");
  restart();
  caf::scoped_actor self{*system};
  auto owner = caf::actor_cast<caf::actor>(self);
  auto records = std::make_shared<std::vector<ctl::BuildHistoryRecord>>();
  auto listener = system->spawn(
      [records, owner](history_listener::pointer me, caf::unit_t) -> history_listener::behavior_type {
        return {[records](ctl::BuildHistoryEvent& e) { records->push_back(e.record()); },
                [me, owner](done_atom) {
                  caf::anon_send(owner, done_atom::value);
                  me->quit();
                }};
      },
      caf::unit);
  ctl::BuildHistoryRequest request;
  request.set_earlyexit(true);
  self->send(peers.history(), request, listener);
  self->receive([](done_atom) {}, caf::after(std::chrono::seconds(20)) >> [] { FAIL("no list"); });
  REQUIRE(records->size() == 1);
  const auto& record = records->front();
  CHECK(record.has_completedat());
  CHECK_FALSE(record.has_error());
  CHECK(record.numtotalsteps() == 2);
  CHECK(record.logs().size() > 0);

  auto w = std::make_shared<watched>();
  auto watcher = system->spawn(
      [w, owner](status_listener::pointer me, caf::unit_t) -> status_listener::behavior_type {
        return {[w](ctl::StatusResponse& s) { w->all.push_back(std::move(s)); },
                [me, owner](done_atom) {
                  caf::anon_send(owner, done_atom::value);
                  me->quit();
                }};
      },
      caf::unit);
  self->send(peers.builds(), watch_atom::value, record.ref(), watcher);
  self->receive([](done_atom) {}, caf::after(std::chrono::seconds(20)) >> [] { FAIL("no replay"); });
  CHECK(w->logs().find("kept") != std::string::npos);

  // What it was made from, though nobody asked for an attestation; it goes with the record.
  REQUIRE(record.result().attestations_size() == 1);
  const auto& provenance = record.result().attestations(0);
  CHECK(provenance.annotations().at("in-toto.io/predicate-type") == "https://slsa.dev/provenance/v1");
  auto blob = digest::trusted(provenance.digest());
  auto text = refs->blobs().read_all(blob, 1 << 20);
  REQUIRE(text.ok());
  auto predicate = nlohmann::json::parse(*text);
  CHECK(predicate["buildDefinition"]["internalParameters"].contains("buildConfig"));
  CHECK(predicate["runDetails"]["metadata"]["invocationId"].is_string());
  ctl::UpdateBuildHistoryRequest forget;
  forget.set_ref(record.ref());
  forget.set_delete_(true);
  self->request(peers.history(), std::chrono::seconds(20), forget)
      .receive([](ctl::UpdateBuildHistoryResponse&) {}, [](caf::error& e) { FAIL(from_caf(e).message); });
  CHECK(!refs->blobs().has(blob));
}

TEST_CASE_METHOD(node, "pruned results are built again") {
  llb d;
  d.finish(d.file(d.file("", "/a", "1"), "/b", "2"));
  REQUIRE(solve(d.def).message() == "");
  caf::scoped_actor self{*system};
  auto owner = caf::actor_cast<caf::actor>(self);
  auto listener = system->spawn(
      [](prune_listener::pointer me, caf::unit_t) -> prune_listener::behavior_type {
        return {[](ctl::UsageRecord&) {}, [me](done_atom) { me->quit(); }};
      },
      caf::unit);
  self->request(peers.cache_manager(), std::chrono::seconds(30), prune_rule{.all = true}, listener)
      .receive([](bool) {}, [](caf::error& e) { FAIL(from_caf(e).message); });
  ctl::DiskUsageRequest usage;
  self->request(peers.cache_manager(), std::chrono::seconds(30), usage)
      .receive([](ctl::DiskUsageResponse& r) { CHECK(r.record_size() == 0); },
               [](caf::error& e) { FAIL(from_caf(e).message); });
  auto again = solve(d.def);
  REQUIRE(again.message() == "");
  CHECK(again.progress.count(false) == 2);
}
