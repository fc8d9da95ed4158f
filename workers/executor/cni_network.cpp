#include "workers/executor/cni_network.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/digest.hpp"
#include "base/json_text.hpp"
#include "base/text.hpp"
#include "base/thread.hpp"
#include "configs/executor.hpp"
#include "messages/told_code.hpp"
#include "store/files/private_directory.hpp"
#include "workers/executor/loopback.hpp"

namespace kiln::workers {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// A new network namespace, bound to a file. A thread of its own enters it: a thread that has cannot go back.
status make_namespace(const fs::path& file) {
  unique_fd made(::open(file.c_str(), O_CREAT | O_EXCL | O_CLOEXEC | O_RDONLY, 0600));
  if (!made) return errno_error(errno, "create " + file.string());
  status outcome;
  KILN_TRY(auto elsewhere, thread::start("netns", [&] {
             if (::unshare(CLONE_NEWNET) != 0) {
               outcome = errno_error(errno, "unshare network namespace");
               return;
             }
             if (::mount("/proc/thread-self/ns/net", file.c_str(), nullptr, MS_BIND, nullptr) != 0) {
               outcome = errno_error(errno, "bind network namespace to " + file.string());
               return;
             }
             outcome = bring_loopback_up();
           }));
  elsewhere.join();
  return outcome;
}

void drop_namespace(const fs::path& file) {
  ::umount2(file.c_str(), MNT_DETACH);
  ::unlink(file.c_str());
}

struct plugin_call {
  fs::path program;
  std::vector<std::string> environment;  // CNI_…
  std::string input;
};

struct plugin_outcome {
  int code = 0;
  std::string output;
};

/// Runs a plugin to its end.
result<plugin_outcome> run_plugin(const plugin_call& call) {
  int in[2], out[2];
  if (::pipe2(in, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  unique_fd in_read(in[0]), in_write(in[1]);
  if (::pipe2(out, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  unique_fd out_read(out[0]), out_write(out[1]);
  std::vector<std::string> texts = call.environment;
  const char* path = std::getenv("PATH");
  texts.push_back(std::string("PATH=") + (path != nullptr ? path : configs::default_path));
  std::vector<char*> environment;
  for (auto& t : texts) environment.push_back(t.data());
  environment.push_back(nullptr);
  std::string name = call.program.string();
  char* argv[] = {name.data(), nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in_read.get(), 0);
  ::posix_spawn_file_actions_adddup2(&actions, out_write.get(), 1);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t pid = -1;
  int failed = ::posix_spawn(&pid, name.c_str(), &actions, &attributes, argv, environment.data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (failed != 0) return errno_error(failed, "start " + name);
  in_read.reset();
  out_write.reset();
  plugin_outcome outcome;
  // A configuration fits into the pipe; a plugin that does not read it fails by itself.
  if (::write(in_write.get(), call.input.data(), call.input.size()) < 0 && errno != EPIPE)
    spdlog::debug("writing to CNI plugin {}: {}", name, std::strerror(errno));
  in_write.reset();
  char buffer[4096];
  for (;;) {
    auto count = ::read(out_read.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    if (outcome.output.size() < configs::cni_output_bytes_max)
      outcome.output.append(buffer, static_cast<std::size_t>(count));
  }
  int state = 0;
  while (::waitpid(pid, &state, 0) < 0 && errno == EINTR) {
  }
  outcome.code = WIFEXITED(state) ? WEXITSTATUS(state) : 128;
  return outcome;
}

/// A namespace with its network.
struct prepared {
  std::string id;
  fs::path file;
  std::string hostname;
  json result;
};

class provider final : public network_provider, public std::enable_shared_from_this<provider> {
 public:
  provider(cni_network network, cni_options options)
      : network_(std::move(network)), options_(std::move(options)) {}

  ~provider() override {
    closing_ = true;
    filler_.join();
    for (auto& p : pool_) take_down(p);
  }

  status start() {
    for (const auto& plugin : network_.plugins) {
      auto program = program_of(plugin);
      if (::access(program.c_str(), X_OK) != 0)
        return make_error(errc::not_found, "failed to find CNI plugin " + program.string());
    }
    KILN_TRY(directory_, store::private_directory::open(options_.root));
    KILN_CHECK(sweep());
    // Daemons on one machine would make the same bridge at the same time. Source: cniprovider initLock.
    unique_fd lock;
    if (const char* path = std::getenv("BUILDKIT_CNI_INIT_LOCK_PATH"); path != nullptr && *path != '\0') {
      lock = unique_fd(::open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
      if (lock) ::flock(lock.get(), LOCK_EX);
    }
    KILN_TRY(auto first, set_up(""));
    unnamed_ = 1;
    give_back(std::move(first));
    if (wanted() == 0) return {};
    KILN_TRY(filler_, thread::start("cni-pool", [this] { fill(); }));
    return {};
  }

  std::string name() const override { return "cni"; }
  result<std::unique_ptr<network_namespace>> make(const std::string& hostname) override;

  void give_back(prepared p) {
    {
      std::lock_guard lock{mutex_};
      if (p.hostname.empty() && unnamed_ <= wanted()) {
        pool_.push_back(std::move(p));
        return;
      }
      if (p.hostname.empty()) --unnamed_;
    }
    take_down(p);
  }

 private:
  std::size_t wanted() const { return static_cast<std::size_t>(std::max(options_.pool_size, 0)); }

  /// Makes what is missing to the size that was asked for, whether it is in use by then or not.
  void fill() {
    while (!closing_) {
      {
        std::lock_guard lock{mutex_};
        if (unnamed_ >= wanted()) return;
        ++unnamed_;
      }
      auto made = set_up("");
      if (!made.ok()) {
        spdlog::error("no network namespace can be made beforehand: {}", made.error().message);
        std::lock_guard lock{mutex_};
        --unnamed_;
        return;
      }
      give_back(*std::move(made));
    }
  }

  result<prepared> set_up(const std::string& hostname) {
    prepared p;
    p.id = new_id();
    p.file = options_.root / p.id;
    p.hostname = hostname;
    if (auto s = make_namespace(p.file); !s.ok()) {
      drop_namespace(p.file);
      return std::move(s).error().with_context("CNI setup error");
    }
    // What a plugin did must be undone even if it, or we, die half-way.
    if (auto s = note(p); !s.ok()) {
      forget(p);
      return std::move(s).error().with_context("CNI setup error");
    }
    for (std::size_t n = 0; n < network_.plugins.size(); ++n) {
      auto outcome = call(p, n, "ADD", p.result);
      std::string failure;
      if (!outcome.ok()) failure = outcome.error().message;
      else if (outcome->code != 0) failure = cni_error_text(outcome->output);
      if (failure.empty()) {
        auto answer = parse_json(outcome->output);
        if (answer.ok()) p.result = *std::move(answer);
        else failure = "no result: " + answer.error().message;
      }
      if (!failure.empty()) {
        take_down(p);
        return told_as(errc::unknown,
                       make_error(errc::unavailable, "CNI setup error: plugin type=\"" +
                                                         text_member(network_.plugins[n], "type") +
                                                         "\" failed (add): " + failure));
      }
    }
    if (auto s = note(p); !s.ok()) {
      take_down(p);
      return std::move(s).error().with_context("CNI setup error");
    }
    return p;
  }

  void take_down(prepared& p) {
    for (std::size_t n = network_.plugins.size(); n-- > 0;) {
      auto outcome = call(p, n, "DEL", p.result);
      if (!outcome.ok()) spdlog::warn("network {}: {}", p.id, outcome.error().message);
      else if (outcome->code != 0) spdlog::warn("network {}: {}", p.id, cni_error_text(outcome->output));
    }
    forget(p);
  }

  void forget(const prepared& p) {
    drop_namespace(p.file);
    if (auto gone = directory_.remove(p.id + ".json"); !gone)
      spdlog::warn("network: {}", gone.error().message);
  }

  result<plugin_outcome> call(const prepared& p, std::size_t n, const char* command, const json& former) {
    plugin_call c;
    c.program = program_of(network_.plugins[n]);
    std::string arguments = options_.arguments;
    if (!p.hostname.empty())
      arguments +=
          std::string(arguments.empty() ? "" : ";") + "K8S_POD_NAME=" + p.hostname + ";IgnoreUnknown=1";
    c.environment = {std::string("CNI_COMMAND=") + command,  "CNI_CONTAINERID=" + p.id,
                     "CNI_NETNS=" + p.file.string(),         "CNI_IFNAME=eth0",
                     "CNI_PATH=" + join(directories(), ":"), "CNI_ARGS=" + arguments};
    c.input = cni_plugin_input(network_, n, former);
    return run_plugin(c);
  }

  std::vector<std::string> directories() const { return {options_.plugins.begin(), options_.plugins.end()}; }

  /// In the first directory that has it; where it should be, if none has.
  fs::path program_of(const json& plugin) const {
    auto name = text_member(plugin, "type");
    for (const auto& directory : options_.plugins)
      if (::access((directory / name).c_str(), X_OK) == 0) return directory / name;
    return options_.plugins.empty() ? fs::path(name) : options_.plugins.front() / name;
  }

  /// Replaces the note in one step: a daemon killed meanwhile leaves the one or the other.
  status note(const prepared& p) {
    json j{{"hostname", p.hostname}, {"result", p.result}};
    return directory_.write(p.id + ".json", json_text(j), 0600);
  }

  /// What a former daemon left: its mounts are gone with it, addresses and rules are not. Plugins are asked
  /// to undo whatever has a namespace or a note; one that was cut off in the middle knows no result.
  status sweep() {
    KILN_CHECK(directory_.sweep_unfinished());
    KILN_TRY(auto names, directory_.names());
    std::set<std::string> ids;
    for (const auto& name : names) {
      fs::path entry(name);
      ids.insert((entry.extension() == ".json" ? entry.stem() : entry).string());
    }
    for (const auto& id : ids) {
      prepared p;
      p.id = id;
      p.file = options_.root / id;
      auto text = directory_.read(id + ".json", configs::cni_note_bytes_max);
      auto j = text.ok() ? json_or_null(*text) : json();
      if (j.is_object()) {
        p.hostname = text_member(j, "hostname");
        if (j.contains("result")) p.result = j["result"];
      }
      take_down(p);
    }
    return {};
  }

  cni_network network_;
  cni_options options_;
  store::private_directory directory_;  // options_.root
  std::atomic<bool> closing_{false};
  thread filler_;
  std::mutex mutex_;  // guards the rest
  std::vector<prepared> pool_;
  std::size_t unnamed_ = 0;  // namespaces without a host's name, in the pool or lent
};

class lent_namespace final : public network_namespace {
 public:
  lent_namespace(std::shared_ptr<provider> home, prepared p) : home_(std::move(home)), p_(std::move(p)) {}
  ~lent_namespace() override { home_->give_back(std::move(p_)); }
  bool host() const override { return false; }
  std::optional<std::string> path() const override { return p_.file.string(); }

 private:
  std::shared_ptr<provider> home_;
  prepared p_;
};

result<std::unique_ptr<network_namespace>> provider::make(const std::string& hostname) {
  std::optional<prepared> ready;
  // A name may be made known by a plugin: such namespaces are not shared out again.
  if (hostname.empty()) {
    std::lock_guard lock{mutex_};
    if (!pool_.empty()) {
      ready = std::move(pool_.back());
      pool_.pop_back();
    }
  }
  if (!ready) {
    KILN_TRY(ready, set_up(hostname));
    std::lock_guard lock{mutex_};
    if (hostname.empty()) ++unnamed_;
  }
  return std::unique_ptr<network_namespace>(
      std::make_unique<lent_namespace>(shared_from_this(), *std::move(ready)));
}

/// The provider as its owner holds it: containers that still run keep it alive.
class provider_handle final : public network_provider {
 public:
  explicit provider_handle(std::shared_ptr<provider> p) : p_(std::move(p)) {}
  std::string name() const override { return p_->name(); }
  result<std::unique_ptr<network_namespace>> make(const std::string& hostname) override {
    return p_->make(hostname);
  }

 private:
  std::shared_ptr<provider> p_;
};

}  // namespace

result<std::unique_ptr<network_provider>> cni_provider(cni_network network, cni_options options) {
  auto p = std::make_shared<provider>(std::move(network), std::move(options));
  KILN_CHECK(p->start());
  return std::unique_ptr<network_provider>(std::make_unique<provider_handle>(std::move(p)));
}

}  // namespace kiln::workers
