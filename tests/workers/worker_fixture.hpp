// A worker on a store of its own with a busybox root, a log that remembers, and a client made of fakes.
#pragma once

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "store/database/cache_keys.hpp"
#include "tests/support/stream_pair.hpp"
#include "tests/support/temp_dir.hpp"
#include "workers/executor/cgroups.hpp"
#include "workers/op_registry.hpp"
#include "workers/worker_resources.hpp"

namespace kiln::test {

namespace fs = std::filesystem;

struct remembering_sink final : progress_sink {
  std::mutex mutex;
  std::string text[3];
  std::map<std::string, std::int64_t> statuses;
  std::function<void(std::string_view)> on_log;
  void log(int stream, std::string_view bytes) override {
    {
      std::lock_guard lock(mutex);
      text[stream] += bytes;
    }
    if (on_log) on_log(bytes);
  }
  void progress(std::string_view id, std::int64_t current, std::int64_t, bool) override {
    std::lock_guard lock(mutex);
    statuses[std::string(id)] = current;
  }
  void warn(std::string_view) override {}
  const std::string& out() { return text[1]; }
  const std::string& err() { return text[2]; }
};

/// A client whose services are functions.
struct fake_client final : session_caller, session_directory {
  std::string name = "s1";
  std::string key;
  std::map<std::string, std::function<result<std::string>(const std::string&)>> calls;
  /// Serves a stream on a thread of its own.
  std::map<std::string, std::function<void(message_stream&, const call_metadata&)>> streams;
  std::vector<std::thread> threads;
  std::mutex mutex;

  ~fake_client() override {
    for (auto& t : threads) t.join();
  }
  const std::string& id() const override { return name; }
  const std::string& shared_key() const override { return key; }
  bool supports(std::string_view method) const override {
    return calls.contains(std::string(method)) || streams.contains(std::string(method));
  }
  result<std::string> call(std::string_view method, std::string_view request, const call_metadata&,
                           std::chrono::milliseconds, std::stop_token) override {
    auto it = calls.find(std::string(method));
    if (it == calls.end()) return make_error(errc::unimplemented, "unknown method " + std::string(method));
    return it->second(std::string(request));
  }
  result<std::unique_ptr<message_stream>> open(std::string_view method, const call_metadata& metadata,
                                               std::stop_token) override {
    auto it = streams.find(std::string(method));
    if (it == streams.end()) return make_error(errc::unimplemented, "unknown method " + std::string(method));
    auto [ours, theirs] = make_stream_pair();
    std::lock_guard lock(mutex);
    threads.emplace_back([serve = it->second, metadata, end = std::move(theirs)] { serve(*end, metadata); });
    return std::unique_ptr<message_stream>(std::move(ours));
  }
  result<std::shared_ptr<session_caller>> find(std::string_view id, std::chrono::milliseconds,
                                               std::stop_token) override {
    if (id != name) return make_error(errc::not_found, "no active session for " + std::string(id));
    return std::shared_ptr<session_caller>(std::shared_ptr<void>(), this);
  }
};

struct worker_fixture {
  temp_dir dir;
  std::unique_ptr<store::ref_store> refs;
  std::unique_ptr<workers::worker_resources> resources;
  std::unique_ptr<workers::op_registry> registry;
  remembering_sink sink;
  fake_client client;
  std::stop_source stop;
  std::string cgroup_parent = "kiln-test-" + std::to_string(::getpid());

  ~worker_fixture() {
    resources.reset();
    for (const auto& hierarchy : workers::cgroup_hierarchies()) ::rmdir((hierarchy / cgroup_parent).c_str());
  }
  worker_fixture() {
    auto opened = store::ref_store::open({dir.path() / "state"});
    REQUIRE(opened.ok());
    refs = *std::move(opened);
    open();
  }
  void open() {
    workers::worker_options options;
    options.refs = refs.get();
    options.executor.root = dir.path() / "state/executor";
    options.executor.default_cgroup_parent = cgroup_parent;  // other daemons may be running here
    auto worker = workers::open_worker(std::move(options));
    if (!worker) FAIL(worker.error().message);
    resources = *std::move(worker);
    registry = std::make_unique<workers::op_registry>(*resources);
  }

  /// The step says something in a daemon that is killed then.
  void run_in_killed_daemon(const workers::container_spec& spec) {
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    pid_t daemon = ::fork();
    if (daemon == 0) {
      workers::process_io io;
      io.output = [&](int, std::string_view) { [[maybe_unused]] auto n = ::write(ready[1], "x", 1); };
      auto ignored = resources->executor->run(spec, io, {});
      ::_exit(0);
    }
    ::close(ready[1]);
    char c = 0;
    REQUIRE(::read(ready[0], &c, 1) == 1);
    ::kill(daemon, SIGKILL);
    ::waitpid(daemon, nullptr, 0);
    ::close(ready[0]);
  }

  job_context job() {
    job_context j;
    j.stop = stop.get_token();
    j.progress = &sink;
    j.sessions.ids = {client.name};
    j.directory = &client;
    return j;
  }

  /// A committed tree made by a function.
  store::ref make_ref(const std::function<void(const fs::path&)>& fill, const store::ref& base = {}) {
    auto m = refs->create(base, {}, {});
    REQUIRE(m.ok());
    auto specs = refs->files().mounts(*m);
    REQUIRE(specs.ok());
    {
      auto mounted = store::mounted::make(*refs, *specs);
      REQUIRE(mounted.ok());
      fill(mounted->path());
    }
    auto r = refs->commit(*std::move(m));
    REQUIRE(r.ok());
    return *r;
  }

  store::ref busybox() {
    return make_ref([](const fs::path& root) {
      fs::create_directories(root / "bin");
      fs::create_directories(root / "tmp");
      fs::permissions(root / "tmp", fs::perms(01777));
      fs::copy_file("/bin/busybox", root / "bin/busybox");
      for (const char* name :
           {"sh",    "cat",   "echo", "true",  "false", "sleep", "id",   "ls",       "env",    "pwd",
            "mkdir", "touch", "ip",   "stat",  "mount", "head",  "yes",  "hostname", "ulimit", "nc",
            "dd",    "rm",    "test", "chmod", "kill",  "tr",    "grep", "readlink", "ps",     "wc"}) {
        fs::create_symlink("busybox", root / "bin" / name);
      }
      write_file(root / "etc/passwd",
                 "root:x:0:0:root:/root:/bin/sh\nbuild:x:1000:1001:b:/home/build:/bin/sh\n");
      write_file(root / "etc/group", "root:x:0:\nbuild:x:1001:\nextra:x:2000:other,build\nwheel:x:10:root\n");
    });
  }

  /// `sh -c script` on a root mounted at /, its root the only output.
  static workers::op_request shell(const std::string& script) {
    workers::op_request r;
    r.vertex = "sha256:test";
    auto* exec = r.op.mutable_exec();
    exec->mutable_meta()->add_args("/bin/sh");
    exec->mutable_meta()->add_args("-c");
    exec->mutable_meta()->add_args(script);
    exec->mutable_meta()->set_cwd("/");
    auto* root = exec->add_mounts();
    root->set_dest("/");
    r.platform = host_platform();
    return r;
  }
  static pb::Mount* add_mount(workers::op_request& r, pb::MountType type, const std::string& dest) {
    auto* m = r.op.mutable_exec()->add_mounts();
    m->set_mounttype(type);
    m->set_dest(dest);
    m->set_input(-1);
    m->set_output(-1);
    return m;
  }

  result<std::vector<store::ref>> run(const workers::op_request& r, const std::vector<store::ref>& inputs) {
    auto handler = registry->handler(r.op);
    if (!handler) return handler.error();
    return (*handler)->run(r, inputs, job());
  }

  /// Looks into a ref.
  template <class Look>
  void in_ref(const store::ref& r, Look look) {
    auto specs = refs->files().mounts(r, {});
    REQUIRE(specs.ok());
    auto mounted = store::mounted::make(*refs, *specs);
    REQUIRE(mounted.ok());
    look(mounted->path());
  }

  /// Lines of /proc/self/mountinfo that lie in our directory.
  int mounts_left() const {
    std::ifstream in("/proc/self/mountinfo");
    std::string line;
    int n = 0;
    while (std::getline(in, line)) n += line.find(dir.path().string()) != std::string::npos;
    return n;
  }
  /// cgroup directories of our containers, in every hierarchy.
  int cgroups_left() const {
    int n = 0;
    for (const auto& hierarchy : workers::cgroup_hierarchies()) {
      std::error_code ec;
      for (const auto& g : fs::directory_iterator(hierarchy / cgroup_parent / "buildkit", ec))
        n += g.is_directory();
    }
    return n;
  }
};

}  // namespace kiln::test
