#include "store/files/mount.hpp"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <sstream>

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "base/text.hpp"
#include "base/thread.hpp"
#include "configs/store.hpp"
#include "store/files/confinement.hpp"

extern char** environ;

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

/// Where a bind mount for this use comes from.
const std::string& source_for(const mount_spec& spec, mount_use use) {
  return use == mount_use::daemon || spec.container_source.empty() ? spec.source : spec.container_source;
}

/// The options of a spec, sorted into mount(2) flags and file-system data.
struct parsed_options {
  unsigned long flags = 0;
  bool bind = false;
  std::vector<std::string> data;
};

constexpr std::pair<std::string_view, unsigned long> known_flags[] = {
    {"ro", MS_RDONLY},       {"nosuid", MS_NOSUID},     {"nodev", MS_NODEV},          {"noexec", MS_NOEXEC},
    {"noatime", MS_NOATIME}, {"relatime", MS_RELATIME}, {"nodiratime", MS_NODIRATIME}};

parsed_options parse(const mount_spec& spec) {
  parsed_options out;
  out.bind = spec.type == "bind";
  unsigned long recursive = 0;
  for (const auto& option : spec.options) {
    auto found = std::find_if(std::begin(known_flags), std::end(known_flags),
                              [&](const auto& k) { return k.first == option; });
    if (found != std::end(known_flags)) out.flags |= found->second;
    else if (option == "rbind") out.bind = true, recursive = MS_REC;
    else if (option == "bind") out.bind = true;
    else if (option != "rw") out.data.push_back(option);
  }
  out.flags |= recursive;
  return out;
}

status bind_mount(const std::string& source, const parsed_options& options, const fs::path& target) {
  auto type = MS_BIND | (options.flags & MS_REC);
  if (::mount(source.c_str(), target.c_str(), nullptr, type, nullptr) != 0)
    return errno_error(errno, "bind " + source + " to " + target.string());
  auto flags = options.flags & ~static_cast<unsigned long>(MS_REC);
  if (flags == 0) return {};
  auto done = restrict_mount(target, flags);
  if (!done.ok()) ::umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
  return done;
}

/// What the kernel logged into a mount context.
std::string context_log(int context) {
  std::string text;
  char line[1024];
  for (ssize_t count; (count = ::read(context, line, sizeof line)) > 0;) {
    if (!text.empty()) text += "; ";
    text.append(line, static_cast<std::size_t>(count));
  }
  return text;
}

/// errc::unimplemented when the kernel cannot take layers one by one, and only then.
status mount_by_context(const mount_spec& spec, const parsed_options& options, const fs::path& target) {
  unique_fd context(::fsopen("overlay", FSOPEN_CLOEXEC));
  if (!context && (errno == ENOSYS || errno == EPERM)) return make_error(errc::unimplemented, "no fsopen");
  if (!context) return errno_error(errno, "overlay on " + target.string() + ": fsopen");
  auto failed = [&](const std::string& what) {
    int err = errno;
    return errno_error(
        err, "overlay on " + target.string() + ": " + what + " (" + context_log(context.get()) + ")");
  };
  ::fsconfig(context.get(), FSCONFIG_SET_STRING, "source", spec.source.c_str(), 0);
  for (const auto& option : options.data) {
    auto equals = option.find('=');
    auto key = option.substr(0, equals);
    if (equals == std::string::npos) {
      if (::fsconfig(context.get(), FSCONFIG_SET_FLAG, key.c_str(), nullptr, 0) != 0) return failed(option);
      continue;
    }
    auto value = option.substr(equals + 1);
    if (key != "lowerdir") {
      if (::fsconfig(context.get(), FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0) != 0)
        return failed(option);
      continue;
    }
    bool first = true;
    for (const auto& layer : split(value, ':')) {
      if (::fsconfig(context.get(), FSCONFIG_SET_STRING, "lowerdir+", layer.c_str(), 0) != 0) {
        // Of a parameter it does not know the kernel says so at once.
        if (first && (errno == EINVAL || errno == EOPNOTSUPP))
          return make_error(errc::unimplemented, "no lowerdir+");
        return failed(layer);
      }
      first = false;
    }
  }
  if (options.flags & MS_RDONLY) ::fsconfig(context.get(), FSCONFIG_SET_FLAG, "ro", nullptr, 0);
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return failed("create");
  unsigned attributes = (options.flags & MS_RDONLY ? MOUNT_ATTR_RDONLY : 0) |
                        (options.flags & MS_NOSUID ? MOUNT_ATTR_NOSUID : 0) |
                        (options.flags & MS_NODEV ? MOUNT_ATTR_NODEV : 0) |
                        (options.flags & MS_NOEXEC ? MOUNT_ATTR_NOEXEC : 0);
  unique_fd made(::fsmount(context.get(), FSMOUNT_CLOEXEC, attributes));
  if (!made) return failed("fsmount");
  if (::move_mount(made.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return failed("move");
  return {};
}

/// Mounts with paths relative to the directory that all layers share, from a thread with a working
/// directory of its own.
status mount_relative(const mount_spec& spec, const parsed_options& options, const fs::path& target) {
  std::string base;
  auto shorten = [&](const std::string& path) { return path.substr(base.size()); };
  bool first = true;
  std::vector<std::string> paths;
  for (const auto& option : options.data)
    for (std::string_view key : {"lowerdir=", "upperdir=", "workdir="})
      if (option.compare(0, key.size(), key) == 0)
        for (auto& path : split(std::string_view(option).substr(key.size()), ':')) paths.push_back(path);
  for (const auto& path : paths) {
    if (first) base = path;
    first = false;
    auto common = std::mismatch(base.begin(), base.end(), path.begin(), path.end()).first - base.begin();
    base.resize(static_cast<std::size_t>(common));
  }
  base.resize(base.rfind('/') == std::string::npos ? 0 : base.rfind('/') + 1);
  if (base.size() < 2) return make_error(errc::resource_exhausted, "too many layers for one overlay mount");
  std::vector<std::string> data;
  for (const auto& option : options.data) {
    auto equals = option.find('=');
    auto key = option.substr(0, equals);
    if (key != "lowerdir" && key != "upperdir" && key != "workdir") {
      data.push_back(option);
      continue;
    }
    std::vector<std::string> parts;
    for (const auto& path : split(std::string_view(option).substr(equals + 1), ':'))
      parts.push_back(shorten(path));
    data.push_back(key + "=" + join(parts, ":"));
  }
  auto text = join(data, ",");
  status outcome;
  KILN_TRY(auto elsewhere, thread::start("mount", [&] {
             if (::unshare(CLONE_FS) != 0 || ::chdir(base.c_str()) != 0) {
               outcome = errno_error(errno, "enter " + base);
               return;
             }
             if (::mount(spec.source.c_str(), target.c_str(), "overlay", options.flags, text.c_str()) != 0)
               outcome = errno_error(errno, "overlay on " + target.string());
           }));
  elsewhere.join();
  return outcome;
}

status overlay_mount(const mount_spec& spec, const parsed_options& options, const fs::path& target) {
  auto data = join(options.data, ",");
  if (data.size() < static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) - 1) {
    if (::mount(spec.source.c_str(), target.c_str(), "overlay", options.flags, data.c_str()) != 0)
      return errno_error(errno, "overlay on " + target.string());
    return {};
  }
  auto done = mount_by_context(spec, options, target);
  if (done.ok() || done.error().code != errc::unimplemented) return done;
  return mount_relative(spec, options, target);
}

status fuse_mount(const parsed_options& options, const fs::path& target) {
  std::vector<std::string> words{"fuse-overlayfs"};
  auto data = options.data;
  for (const auto& [word, flag] : known_flags)
    if (options.flags & flag) data.emplace_back(word);
  if (!data.empty()) words.insert(words.end(), {"-o", join(data, ",")});
  words.push_back(target.string());
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t pid = -1;
  if (int err = ::posix_spawnp(&pid, "fuse-overlayfs", nullptr, nullptr, arguments.data(), environ); err != 0)
    return errno_error(err, "start fuse-overlayfs");
  int exit_status = 0;
  while (::waitpid(pid, &exit_status, 0) < 0)
    if (errno != EINTR) return errno_error(errno, "wait for fuse-overlayfs");
  if (exit_status != 0)
    return make_error(errc::unavailable, "fuse-overlayfs on " + target.string() + " ended with status " +
                                             std::to_string(exit_status));
  return {};
}

status mount_one(const mount_spec& spec, const fs::path& target, mount_use use) {
  auto options = parse(spec);
  if (use == mount_use::daemon) options.flags |= confining_flags;
  if (options.bind) return bind_mount(source_for(spec, use), options, target);
  if (spec.type == "overlay") return overlay_mount(spec, options, target);
  if (spec.type == "fuse-overlayfs") return fuse_mount(options, target);
  auto data = join(options.data, ",");
  if (::mount(spec.source.c_str(), target.c_str(), spec.type.c_str(), options.flags, data.c_str()) != 0)
    return errno_error(errno, "mount " + spec.type + " on " + target.string());
  return {};
}

/// Undoes the octal escapes of mountinfo.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

status mount_all(std::span<const mount_spec> specs, const fs::path& target, mount_use use) {
  for (std::size_t i = 0; i < specs.size(); ++i) {
    auto done = mount_one(specs[i], target, use);
    if (done.ok()) continue;
    while (i-- > 0) ::umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
    return done;
  }
  return {};
}

status unmount(const fs::path& target) {
  if (::umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0)
    return errno_error(errno, "unmount " + target.string());
  return {};
}

result<std::vector<fs::path>> mounts_below(const fs::path& directory) {
  std::error_code failed;
  auto top = fs::canonical(directory, failed).string();
  if (failed) return errno_error(failed.value(), directory.string());
  KILN_TRY(auto text, read_file("/proc/self/mountinfo", limits::proc_file_bytes));
  std::istringstream table(text);
  std::vector<fs::path> found;
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string id, parent, device, root, point;
    if (!(words >> id >> parent >> device >> root >> point)) continue;
    point = unescape(point);
    if (point.size() > top.size() + 1 && point.compare(0, top.size() + 1, top + "/") == 0)
      found.push_back(point);
  }
  return found;
}

result<int> unmount_below(const fs::path& directory) {
  KILN_TRY(auto found, mounts_below(directory));
  int undone = 0;
  for (auto point = found.rbegin(); point != found.rend(); ++point) {  // the table is in order of mounting
    if (auto done = unmount(*point); done.ok()) ++undone;
    else spdlog::warn("store: leaked mount: {}", done.error().message);
  }
  return undone;
}

result<bool> in_user_namespace() {
  KILN_TRY(auto text, read_file("/proc/self/uid_map", limits::proc_file_bytes));
  std::istringstream map(text);
  std::uint64_t inside = 1, outside = 1, count = 0;
  map >> inside >> outside >> count;
  return !(inside == 0 && outside == 0 && count == 4'294'967'295u);
}

bool is_unsupported(const error& e) {
  return e.code == errc::unimplemented || e.code == errc::invalid_argument ||
         e.code == errc::permission_denied || e.code == errc::not_found || e.code == errc::unavailable;
}

result<mounted> mounted::make(const scratch_directory& scratch, const std::vector<mount_spec>& specs,
                              mount_use use) {
  mounted out;
  if (specs.empty()) return make_error(errc::invalid_argument, "nothing to mount");
  if (specs.size() == 1 && specs[0].type == "bind" &&
      std::find(specs[0].options.begin(), specs[0].options.end(), "ro") == specs[0].options.end()) {
    out.path_ = source_for(specs[0], use);
    return out;
  }
  KILN_TRY(out.path_, scratch.make("mount"));
  if (auto done = mount_all(specs, out.path_, use); !done) {
    ::rmdir(out.path_.c_str());
    out.path_.clear();
    return std::move(done).error();
  }
  out.is_mount_ = true;
  return out;
}

mounted::mounted(mounted&& other) noexcept
    : path_(std::exchange(other.path_, {})), is_mount_(std::exchange(other.is_mount_, false)) {}

mounted& mounted::operator=(mounted&& other) noexcept {
  if (this == &other) return *this;
  if (auto done = unmount(); !done) spdlog::warn("store: {}", done.error().message);
  path_ = std::exchange(other.path_, {});
  is_mount_ = std::exchange(other.is_mount_, false);
  return *this;
}

mounted::~mounted() {
  if (auto done = unmount(); !done) spdlog::warn("store: {}", done.error().message);
}

status mounted::unmount() {
  if (!std::exchange(is_mount_, false)) return {};
  KILN_CHECK(store::unmount(path_));
  if (::rmdir(path_.c_str()) != 0) return errno_error(errno, "rmdir " + path_.string());
  path_.clear();
  return {};
}

}  // namespace kiln::store
