#include "store/snapshots.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "store/files/mount.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

result<snapshotter_kind> parse_snapshotter(std::string_view text) {
  if (text == "auto" || text.empty()) return snapshotter_kind::automatic;
  if (text == "overlayfs") return snapshotter_kind::overlayfs;
  if (text == "fuse-overlayfs") return snapshotter_kind::fuse_overlayfs;
  if (text == "native") return snapshotter_kind::native;
  return make_error(errc::invalid_argument, "unknown snapshotter name: \"" + std::string(text) +
                                                "\" (auto, overlayfs, fuse-overlayfs, native)");
}

std::string_view to_string(snapshotter_kind k) {
  switch (k) {
    case snapshotter_kind::automatic: return "auto";
    case snapshotter_kind::overlayfs: return "overlayfs";
    case snapshotter_kind::fuse_overlayfs: return "fuse-overlayfs";
    case snapshotter_kind::native: return "native";
  }
  return "native";
}

result<std::unique_ptr<snapshots>> snapshots::open(fs::path directory, snapshotter_kind wanted,
                                                   std::string_view known, fs::path window) {
  KILN_CHECK(make_directories(directory, 0700));
  std::error_code failed;
  directory = fs::canonical(directory, failed);
  if (failed) return errno_error(failed.value(), directory.string());
  std::unique_ptr<snapshots> s(new snapshots(directory));
  s->window_ = std::move(window);
  KILN_CHECK(make_directories(directory / "empty", 0755));
  // Containers have it as their root.
  if (::chmod((directory / "empty").c_str(), 0755) != 0)
    return errno_error(errno, "chmod " + (directory / "empty").string());
  KILN_TRY(s->user_namespace_, in_user_namespace());
  KILN_TRY(auto numbers, s->list());
  for (auto number : numbers) s->next_ = std::max<std::uint64_t>(s->next_, number + 1);
  auto chosen = s->choose(wanted);
  if (chosen.ok()) return s;
  if (!s->take_known(known, wanted)) return std::move(chosen).error();
  spdlog::warn("store: {}; the snapshotter stays what it was", chosen.error().message);
  return s;
}

/// Decides on a kind by trying. An error that is not is_unsupported() says that it could not be tried.
status snapshots::choose(snapshotter_kind wanted) {
  using enum snapshotter_kind;
  auto does_not = [&](std::string_view name, error e) {
    auto verb = is_unsupported(e) ? " snapshotter does not work on " : " snapshotter could not be tried on ";
    return std::move(e).with_context("the " + std::string(name) + verb + directory_.string());
  };
  std::string reasons;
  for (auto kind : {overlayfs, fuse_overlayfs}) {
    if (wanted != automatic && wanted != kind) continue;
    kind_ = kind;
    auto works = probe_overlay(kind == fuse_overlayfs);
    if (works.ok()) return works;
    if (wanted == kind || !is_unsupported(works.error()))
      return does_not(to_string(kind), std::move(works).error());
    reasons += (reasons.empty() ? "" : "; ") + std::string(to_string(kind)) + ": " + works.error().message;
  }
  if (wanted == automatic)
    spdlog::info("store: no overlay works on {} ({}); using the native snapshotter", directory_.string(),
                 reasons);
  kind_ = native;
  return {};
}

std::string snapshots::known() const {
  return std::string(to_string(kind_)) + (volatile_ ? " volatile" : "");
}

bool snapshots::take_known(std::string_view known, snapshotter_kind wanted) {
  auto kind = parse_snapshotter(known.substr(0, known.find(' ')));
  if (known.empty() || !kind.ok() || (wanted != snapshotter_kind::automatic && wanted != *kind)) return false;
  kind_ = *kind;
  volatile_ = known.ends_with(" volatile");
  return true;
}

// Mounts a small overlay, changes something through it and looks for the whiteout.
status snapshots::probe_overlay(bool fuse) {
  if (directory_.string().find_first_of(":,\\") != std::string::npos)
    return make_error(errc::unavailable, "the path holds a character that overlay options cannot");
  auto top = directory_ / "probe";
  KILN_CHECK(remove_tree(top));
  struct cleaner {
    const fs::path& top;
    ~cleaner() {
      if (auto gone = remove_tree(top); !gone) spdlog::warn("store: {}", gone.error().message);
    }
  } clean_up{top};
  for (auto name : {"", "lower", "upper", "work", "merged"}) KILN_CHECK(make_directories(top / name, 0700));
  KILN_CHECK(write_file(top / "lower" / "file", "x"));
  status outcome;
  for (bool with_volatile : {true, false}) {
    if (fuse && with_volatile) continue;
    mount_spec spec{fuse ? "fuse-overlayfs" : "overlay",
                    "overlay",
                    {"lowerdir=" + (top / "lower").string(), "upperdir=" + (top / "upper").string(),
                     "workdir=" + (top / "work").string()},
                    {}};
    volatile_ = with_volatile;
    add_overlay_options(spec.options, true);
    outcome = mount_all({&spec, 1}, top / "merged");
    if (outcome.ok() || !is_unsupported(outcome.error())) break;
  }
  if (!outcome.ok()) return outcome;
  struct stat info {};
  if (::unlink((top / "merged" / "file").c_str()) != 0) outcome = errno_error(errno, "unlink in the probe");
  else if (!fuse && ::lstat((top / "upper" / "file").c_str(), &info) != 0)
    outcome = errno_error(errno, "whiteout in the probe");
  else if (!fuse && !S_ISCHR(info.st_mode))
    outcome = make_error(errc::unavailable, "no whiteout appeared in the probe");
  if (auto undone = unmount(top / "merged"); !undone && outcome.ok()) outcome = undone;
  return outcome;
}

void snapshots::add_overlay_options(std::vector<std::string>& options, bool writable) const {
  if (kind_ != snapshotter_kind::overlayfs) return;
  if (user_namespace_) options.emplace_back("userxattr");
  // A layer must mean the same on top of any other, so nothing in it may refer to those below.
  options.emplace_back("index=off");
  if (!user_namespace_) {
    options.emplace_back("redirect_dir=nofollow");  // off would follow what a layer brought along
    options.emplace_back("metacopy=off");
  }
  if (writable && volatile_) options.emplace_back("volatile");
}

result<std::uint64_t> snapshots::create() {
  while (true) {
    auto number = next_++;
    auto directory = directory_of(number);
    if (::mkdir(directory.c_str(), 0700) != 0) {
      if (errno == EEXIST) continue;
      return errno_error(errno, "mkdir " + directory.string());
    }
    if (::mkdir((directory / "fs").c_str(), 0755) == 0 && ::chmod((directory / "fs").c_str(), 0755) == 0)
      return number;
    auto failed = errno_error(errno, "mkdir " + (directory / "fs").string());
    (void)remove(number);
    return failed;
  }
}

status snapshots::remove(std::uint64_t number) { return remove_tree(directory_of(number)); }

result<std::vector<std::uint64_t>> snapshots::list() const {
  KILN_TRY(auto directory, open_file(directory_, O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto names, list_names(directory.get()));
  std::vector<std::uint64_t> numbers;
  for (const auto& name : names) {
    std::uint64_t number = 0;
    auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (failed == std::errc{} && end == name.data() + name.size()) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

mount_spec snapshots::bind(const fs::path& below, const char* access) const {
  mount_spec spec{"bind", (directory_ / below).string(), {"rbind", access}};
  if (!window_.empty()) spec.container_source = (window_ / below).string();
  return spec;
}

mount_spec snapshots::read_only(std::span<const std::uint64_t> layers, bool whiteouts) const {
  auto own = [](std::uint64_t number) { return fs::path(std::to_string(number)) / "fs"; };
  if (layers.empty()) return bind("empty", "ro");
  if (!layered()) return bind(own(layers.back()), "ro");
  if (layers.size() == 1 && !whiteouts) return bind(own(layers[0]), "ro");
  std::string lower = "lowerdir=";
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    if (layer != layers.rbegin()) lower += ':';
    lower += fs_of(*layer).string();
  }
  if (layers.size() == 1) lower += ":" + (directory_ / "empty").string();
  mount_spec spec{
      kind_ == snapshotter_kind::overlayfs ? "overlay" : "fuse-overlayfs", "overlay", {"ro", lower}, {}};
  add_overlay_options(spec.options, false);
  return spec;
}

result<mount_spec> snapshots::read_write(std::uint64_t number, std::span<const std::uint64_t> layers) {
  if (!layered() || layers.empty()) return bind(fs::path(std::to_string(number)) / "fs", "rw");
  auto lower = read_only(layers, true);
  std::string work;
  for (int i = 0;; ++i) {
    work = (directory_of(number) / ("work" + std::to_string(i))).string();
    if (::mkdir(work.c_str(), 0700) == 0) break;
    if (errno != EEXIST) return errno_error(errno, "mkdir " + work);
  }
  mount_spec spec{
      lower.type, "overlay", {lower.options[1], "upperdir=" + fs_of(number).string(), "workdir=" + work}, {}};
  add_overlay_options(spec.options, true);
  return spec;
}

status snapshots::seal(std::uint64_t number) {
  KILN_TRY(auto fd, open_file(directory_of(number), O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto names, list_names(fd.get()));
  for (const auto& name : names)
    if (name.rfind("work", 0) == 0) KILN_CHECK(remove_tree(directory_of(number) / name));
  return {};
}

}  // namespace kiln::store
