#include "workers/ops/exec_mounts.hpp"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "base/slash_path.hpp"
#include "workers/executor/rooted.hpp"
#include "workers/ops/command_text.hpp"

namespace kiln::workers {

namespace {

constexpr std::int64_t no_input = -1;
constexpr std::int64_t no_output = -1;

bool whole(const std::string& selector) { return clean_absolute(selector) == "/"; }

}  // namespace

std::vector<store::ref> inputs_of_mounts(const pb::ExecOp& op, std::span<const store::ref> inputs) {
  std::vector<store::ref> out;
  for (const auto& m : op.mounts()) {
    bool known = m.input() >= 0 && static_cast<std::size_t>(m.input()) < inputs.size();
    out.push_back(known ? inputs[static_cast<std::size_t>(m.input())] : store::ref{});
  }
  return out;
}

result<std::filesystem::path> exec_mounts::fresh_directory() {
  return resources_.refs->scratch().make("exec");
}

result<store::mutable_ref> exec_mounts::make_mutable(const store::ref& base, const std::string& description) {
  return resources_.refs->create(base, {.description = description}, job_);
}

result<exec_mounts::source> exec_mounts::mount_ref(const store::ref& ref) {
  KILN_TRY(auto specs, resources_.refs->files().mounts(ref, job_));
  // A lone directory of an immutable record is bound by the runtime itself, read-only.
  if (specs.size() == 1 && specs[0].type == "bind") {
    const auto& spec = specs[0];
    return source{spec.container_source.empty() ? spec.source : spec.container_source, true, false};
  }
  KILN_TRY(auto mounted, store::mounted::make(*resources_.refs, specs, store::mount_use::container));
  std::string path = mounted.path().string();
  mounted_.push_back(std::move(mounted));
  return source{path, true, true};
}

result<exec_mounts::source> exec_mounts::mount_mutable(const store::mutable_ref& snapshot) {
  KILN_TRY(auto specs, resources_.refs->files().mounts(snapshot));
  KILN_TRY(auto mounted, store::mounted::make(*resources_.refs, specs, store::mount_use::container));
  std::string path = mounted.path().string();
  mounted_.push_back(std::move(mounted));
  return source{path, false, false};
}

status exec_mounts::prepare(const pb::ExecOp& op, std::span<const store::ref> inputs) {
  command_ = command_text(op.meta());
  for (int i = 0; i < op.mounts_size(); ++i) {
    KILN_CHECK(job_.check());
    KILN_CHECK(prepare_one(op, i, inputs));
  }
  if (root_.path().empty()) return make_error(errc::invalid_argument, "exec has no root mount");
  // Parents before what lies in them.
  std::stable_sort(mounts_.begin(), mounts_.end(), [](const container_mount& a, const container_mount& b) {
    return a.destination < b.destination;
  });
  return {};
}

void exec_mounts::keep(int mount, std::int64_t output, store::mutable_ref snapshot) {
  if (output != no_output) {
    outputs_.push_back({mount, output, {}, std::move(snapshot)});
  } else {
    thrown_away_.emplace_back(mount, std::move(snapshot));
  }
}

status exec_mounts::prepare_one(const pb::ExecOp& op, int index, std::span<const store::ref> inputs) {
  const pb::Mount& m = op.mounts(index);
  bool is_root = m.dest() == "/";
  std::string destination =
      m.dest().starts_with('/') ? clean_absolute(m.dest()) : clean_absolute(op.meta().cwd() + "/" + m.dest());
  store::ref base;
  if (m.input() != no_input) {
    if (m.input() < 0 || m.input() >= static_cast<std::int64_t>(inputs.size())) {
      return make_error(errc::invalid_argument,
                        "missing input " + std::to_string(m.input()) + " of mount " + m.dest());
    }
    base = inputs[static_cast<std::size_t>(m.input())];
  }
  std::string description = "mount " + m.dest() + " from exec " + command_;
  if (is_root && m.mounttype() != pb::BIND) {
    return make_error(errc::invalid_argument, "invalid root mount type " + pb::MountType_Name(m.mounttype()));
  }

  switch (m.mounttype()) {
    case pb::BIND: break;
    case pb::CACHE: {
      if (!m.has_cacheopt()) return make_error(errc::invalid_argument, "missing cache mount options");
      std::string key = m.cacheopt().id() + (base ? ":" + base.id() : "");
      auto& held = caches_[key];
      if (!held) {
        KILN_TRY(held, resources_.cache_mounts->acquire(
                           key, m.cacheopt().sharing(), base,
                           "cached " + description + " with id \"" + m.cacheopt().id() + "\"", job_));
      }
      if (m.output() != no_output && base) outputs_.push_back({index, m.output(), base, {}});
      return add_bind(m, destination, {held->path().string(), false, false});
    }
    case pb::TMPFS: {
      container_mount t{destination, "tmpfs", "tmpfs", {"nosuid"}};
      if (m.readonly()) t.options.emplace_back("ro");
      if (m.tmpfsopt().size() > 0) t.options.push_back("size=" + std::to_string(m.tmpfsopt().size()));
      mounts_.push_back(std::move(t));
      return {};
    }
    case pb::SECRET: return add_secret(m, destination);
    case pb::SSH: return add_ssh(m, destination);
    default:
      return make_error(errc::invalid_argument,
                        "mount type " + std::to_string(m.mounttype()) + " not implemented");
  }

  if (is_root) {
    KILN_TRY(auto snapshot, make_mutable(base, description));
    KILN_TRY(auto specs, resources_.refs->files().mounts(snapshot));
    KILN_TRY(root_, store::mounted::make(*resources_.refs, specs, store::mount_use::container));
    readonly_root_ = m.readonly();
    keep(index, m.output(), std::move(snapshot));
    return {};
  }
  if (m.readonly() && base) {
    if (m.output() != no_output) outputs_.push_back({index, m.output(), base, {}});
    KILN_TRY(source s, mount_ref(base));
    return add_bind(m, destination, s);
  }
  KILN_TRY(auto snapshot, make_mutable(base, description));
  KILN_TRY(source s, mount_mutable(snapshot));
  keep(index, m.output(), std::move(snapshot));
  return add_bind(m, destination, s);
}

status exec_mounts::add_bind(const pb::Mount& m, const std::string& destination, const source& s) {
  container_mount bind{destination, "bind", s.path, {"rbind"}};
  if (!whole(m.selector())) {
    unique_fd root(::open(s.path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) return errno_error(errno, "open " + s.path);
    unique_fd target(open_in_root(root.get(), m.selector(), O_PATH));
    if (!target) return errno_error(errno, "failed to mount " + m.dest() + ": lstat " + m.selector());
    if (s.immutable) {
      KILN_TRY(std::string inside, resolve_in_root(root.get(), m.selector()));
      bind.source = s.path + inside;
    } else {
      // Somebody may be changing links there right now: what was opened is what is mounted.
      KILN_TRY(auto directory, fresh_directory());
      KILN_TRY(auto mount, private_mount::bind(target.get(), directory));
      bind.source = mount.path().string();
      private_mounts_.push_back(std::move(mount));
    }
  }
  if (m.readonly() || s.immutable || s.readonly) bind.options.emplace_back("ro");
  mounts_.push_back(std::move(bind));
  return {};
}

status exec_mounts::add_secret(const pb::Mount& m, const std::string& destination) {
  if (!m.has_secretopt()) return make_error(errc::invalid_argument, "invalid secret mount options");
  const pb::SecretOpt& options = m.secretopt();
  if (options.id().empty()) return make_error(errc::invalid_argument, "secret ID missing from mount options");
  auto secret = find_secret(options.id(), job_);
  if (!secret && job_.stop.stop_requested()) return std::move(secret).error();
  if (!secret && secret.error().code != errc::failed_precondition) return std::move(secret).error();
  if (!secret || !*secret) {
    if (options.optional()) return {};
    if (!secret) return std::move(secret).error();
    return make_error(errc::not_found, "secret " + options.id() + ": not found");
  }
  bool program = (options.mode() & 0111) != 0;
  unsigned long flags = MS_NODEV | MS_NOSUID | (program ? 0 : MS_NOEXEC);
  KILN_TRY(auto directory, fresh_directory());
  KILN_TRY(auto mount, private_mount::tmpfs(directory, flags, "mode=0700"));
  std::string file = (mount.path() / "secret").string();
  unique_fd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd) return errno_error(errno, "unable to setup secret mount");
  const std::string& bytes = **secret;
  if (::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()) ||
      ::fchown(fd.get(), options.uid(), options.gid()) != 0 ||
      ::fchmod(fd.get(), options.mode() & 0777) != 0) {
    return errno_error(errno, "unable to setup secret mount");
  }
  container_mount secret_file{destination, "bind", file, {"ro", "rbind", "nodev", "nosuid"}};
  if (!program) secret_file.options.emplace_back("noexec");
  mounts_.push_back(std::move(secret_file));
  private_mounts_.push_back(std::move(mount));
  return {};
}

status exec_mounts::add_ssh(const pb::Mount& m, const std::string& destination) {
  if (!m.has_sshopt()) return make_error(errc::invalid_argument, "invalid ssh mount options");
  KILN_TRY(auto directory, fresh_directory());
  auto socket = ssh_socket::open(m.sshopt(), directory.string(), job_);
  if (!socket) {
    if (m.sshopt().optional() && !job_.stop.stop_requested()) return {};
    return std::move(socket).error();
  }
  mounts_.push_back({destination, "bind", (*socket)->path(), {"rbind", "nodev", "nosuid", "noexec"}});
  sockets_.push_back(*std::move(socket));
  return {};
}

status exec_mounts::add_document(const std::string& directory, const std::string& name,
                                 std::string_view bytes) {
  KILN_TRY(auto place, fresh_directory());
  KILN_TRY(auto mount, private_mount::tmpfs(place, MS_NODEV | MS_NOSUID | MS_NOEXEC, "mode=0755"));
  auto file = (mount.path() / name).string();
  unique_fd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400));
  if (!fd) return errno_error(errno, "unable to make " + directory + "/" + name);
  KILN_CHECK(write_all(fd.get(), bytes));
  mounts_.push_back({directory, "bind", mount.path().string(), {"ro", "rbind", "nodev", "nosuid", "noexec"}});
  private_mounts_.push_back(std::move(mount));
  return {};
}

void exec_mounts::unmount_all() {
  private_mounts_.clear();
  sockets_.clear();
  mounted_.clear();
  root_ = {};
  caches_.clear();
}

std::vector<store::ref> exec_mounts::abandon(const pb::ExecOp& op, std::span<const store::ref> inputs) {
  unmount_all();
  auto refs = inputs_of_mounts(op, inputs);
  auto freeze = [&](int mount, store::mutable_ref snapshot) {
    auto frozen = resources_.refs->freeze(std::move(snapshot));
    if (frozen) refs[static_cast<std::size_t>(mount)] = *std::move(frozen);
    else spdlog::warn("state of failed exec {}: {}", command_, frozen.error().message);
  };
  for (auto& o : outputs_)
    if (o.snapshot) freeze(o.mount, std::move(o.snapshot));
  for (auto& [mount, snapshot] : thrown_away_) freeze(mount, std::move(snapshot));
  outputs_.clear();
  thrown_away_.clear();
  return refs;
}

result<std::vector<store::ref>> exec_mounts::commit() {
  unmount_all();
  std::stable_sort(outputs_.begin(), outputs_.end(),
                   [](const output& a, const output& b) { return a.index < b.index; });
  std::vector<store::ref> refs;
  for (auto& o : outputs_) {
    if (!o.snapshot) {
      refs.push_back(std::move(o.same));
      continue;
    }
    std::string id = o.snapshot.id();
    auto committed = resources_.refs->commit(std::move(o.snapshot));
    if (!committed) return std::move(committed).error().with_context("error committing " + id);
    refs.push_back(*std::move(committed));
  }
  outputs_.clear();
  return refs;
}

}  // namespace kiln::workers
