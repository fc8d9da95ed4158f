// The copy action: `cp -a` semantics with Docker's rules of where things land.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <map>

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "base/mode_text.hpp"
#include "base/pattern.hpp"
#include "base/slash_path.hpp"
#include "configs/store.hpp"
#include "store/files/file_data.hpp"
#include "store/files/regular_file.hpp"
#include "store/archive/unpack.hpp"
#include "store/files/xattr.hpp"
#include "workers/executor/rooted.hpp"
#include "workers/ops/file_actions.hpp"

namespace kiln::workers {

namespace {

constexpr mode_t default_directory_mode = 0755;

std::string parent_of(const std::string& path) {
  auto slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

std::string base_of(const std::string& path) {
  auto name = path.substr(path.rfind('/') + 1);
  return name.empty() ? "." : name;
}

/// Cleaned and absolute, but a trailing "/" or "/." stays: it says "a directory".
std::string clean_keeping_slash(const std::string& path) {
  auto clean = clean_absolute(path);
  if (path.ends_with("/.")) return clean == "/" ? "/." : clean + "/.";
  if (path.ends_with("/") && clean != "/") return clean + "/";
  return clean;
}

class copier {
 public:
  copier(int root, const pb::FileActionCopy& action, const std::optional<file_owner>& owner,
         const job_context& job)
      : root_(root), action_(action), owner_(owner), job_(job) {}

  status prepare() {
    // A mode is told as a number or as text; with text the number says nothing.
    if (!action_.modestr().empty()) {
      KILN_TRY(change_, mode_change::parse(action_.modestr()));
    } else if (action_.mode() != -1) {
      mode_ = static_cast<mode_t>(action_.mode()) & 07777;
    }
    auto compile = [](const auto& patterns, const char* name, pattern_list& into) -> status {
      auto compiled = pattern_list::compile({patterns.begin(), patterns.end()});
      if (!compiled.ok()) return std::move(compiled).error().with_context(std::string("invalid ") + name);
      into = *std::move(compiled);
      return {};
    };
    KILN_CHECK(compile(action_.include_patterns(), "includepatterns", include_));
    return compile(action_.exclude_patterns(), "excludepatterns", exclude_);
  }

  /// Copies one source path to its place; `destination` as the action has it.
  status copy(int source_root, const std::string& source, const std::string& destination) {
    // Of one source: what an earlier one made may be something else by now.
    links_.clear();
    made_.clear();
    auto wanted = destination;
    auto last = base_of(destination);
    if (!destination.ends_with("/") && last != ".") wanted = parent_of(destination);
    KILN_CHECK(make_directories(wanted));
    KILN_TRY(auto target, resolve_in_root(root_, destination));
    KILN_TRY(auto from, follow(source_root, source));

    unique_fd from_directory{open_in_root(source_root, parent_of(from), O_PATH | O_DIRECTORY)};
    struct stat info;
    if (!from_directory ||
        fstatat(from_directory.get(), base_of(from).c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
      return errno_error(errno, "lstat " + from);
    bool is_directory = S_ISDIR(info.st_mode);

    struct stat existing;
    bool exists = stat_in_root(target, existing);
    bool contents = action_.dircopycontents();
    if ((!contents && is_directory && exists) || (!is_directory && exists && S_ISDIR(existing.st_mode))) {
      auto base = base_of(clean_absolute(source));
      if (base != ".") target = target == "/" ? "/" + base : target + "/" + base;
    }
    KILN_CHECK(make_directories(contents && is_directory && !exists ? target : parent_of(target)));
    unique_fd to_directory{open_in_root(root_, parent_of(target), O_PATH | O_DIRECTORY)};
    if (!to_directory) return errno_error(errno, "open " + parent_of(target));

    frame top;
    top.source = std::move(from_directory);
    top.target = std::move(to_directory);
    top.path = parent_of(target) == "/" ? "" : parent_of(target);
    top.ready = true;
    KILN_CHECK(copy_entry(top, base_of(from), base_of(target), "", false, {}, {}, 0));
    for (auto it = made_.rbegin(); it != made_.rend(); ++it) {
      unique_fd parent{open_in_root(root_, parent_of(*it), O_PATH | O_DIRECTORY)};
      if (parent) KILN_CHECK(set_times(parent.get(), base_of(*it), action_.timestamp()));
    }
    return {};
  }

  /// Directories on the way to a destination get the action's mode and owner.
  status make_directories(const std::string& path) {
    auto mode = mode_.value_or(default_directory_mode) & 0777;  // set-id bits are for what is copied
    auto who = owner_.value_or(file_owner{});
    KILN_CHECK(make_directories_in_root(root_, path, mode, who.uid, who.gid, &made_));
    return {};
  }

 private:
  /// A directory under way. Its target may not exist yet: with include patterns it is made when the
  /// first thing inside it matches.
  struct frame {
    unique_fd source;
    unique_fd target;
    frame* parent = nullptr;
    struct stat info {};
    std::string source_name;
    std::string name;  // of the target in its parent
    std::string path;  // of the target below the root: "" or "/a/b"
    bool ready = false;
    bool made = false;
  };

  result<std::string> follow(int source_root, const std::string& source) const {
    auto clean = clean_absolute(source);
    if (clean == "/" || action_.followsymlink()) return resolve_in_root(source_root, clean);
    KILN_TRY(auto directory, resolve_in_root(source_root, parent_of(clean)));
    return directory == "/" ? "/" + base_of(clean) : directory + "/" + base_of(clean);
  }

  bool stat_in_root(const std::string& path, struct stat& info) const {
    unique_fd fd{open_in_root(root_, path, O_PATH)};
    return fd && fstat(fd.get(), &info) == 0;
  }

  status copy_entry(frame& parent, const std::string& name, const std::string& to_name,
                    const std::string& relative, bool overwrite,
                    const pattern_list::match_info& parent_included,
                    const pattern_list::match_info& parent_excluded, int depth) {
    KILN_CHECK(job_.check());
    if (depth > store::limits::tree_depth)
      return make_error(errc::out_of_range, "directories are nested too deeply");
    bool included = true;
    bool excluded = false;
    pattern_list::match_info include_info;
    pattern_list::match_info exclude_info;
    if (!relative.empty()) {
      if (!include_.empty()) included = include_.matches(relative, parent_included, include_info);
      if (!exclude_.empty()) excluded = exclude_.matches(relative, parent_excluded, exclude_info);
      if (excluded) included = false;
      if (!included && include_.empty() && !exclude_.has_exclusions()) return {};
    }
    struct stat info;
    if (fstatat(parent.source.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
      return errno_error(errno, "failed to stat " + relative);
    if (S_ISDIR(info.st_mode)) {
      return copy_directory(parent, name, to_name, relative, info, overwrite, included, excluded,
                            include_info, exclude_info, depth);
    }
    if (!included) return {};
    KILN_CHECK(ensure(parent));
    KILN_CHECK(clear_place(parent, to_name));
    KILN_CHECK(copy_file(parent, name, to_name, info));
    return copy_info(parent, name, to_name, info);
  }

  status copy_directory(frame& parent, const std::string& name, const std::string& to_name,
                        const std::string& relative, const struct stat& info, bool overwrite, bool included,
                        bool excluded, const pattern_list::match_info& include_info,
                        const pattern_list::match_info& exclude_info, int depth) {
    frame here;
    here.parent = &parent;
    here.info = info;
    here.source_name = name;
    here.name = to_name;
    here.path = to_name == "." ? parent.path : parent.path + "/" + to_name;
    here.source =
        unique_fd{openat(parent.source.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!here.source) return errno_error(errno, "failed to read " + relative);
    if (included) KILN_CHECK(ensure(here, overwrite));
    if (!excluded || exclude_.has_exclusions()) {
      KILN_TRY(auto names, list_names(here.source.get()));
      for (const auto& child : names)
        KILN_CHECK(copy_entry(here, child, child, relative.empty() ? child : relative + "/" + child, true,
                              include_info, exclude_info, depth + 1));
    }
    if (!here.ready) return {};
    if (here.made || (included && overwrite)) return copy_info(parent, name, to_name, info);
    if (included) return copy_times(parent, to_name, info);
    return {};
  }

  /// Makes the target directory of a frame, and those above it.
  status ensure(frame& f, bool overwrite = true) {
    if (f.ready) return {};
    KILN_CHECK(ensure(*f.parent));
    int to = f.parent->target.get();
    struct stat existing;
    if (fstatat(to, f.name.c_str(), &existing, AT_SYMLINK_NOFOLLOW) == 0) {
      if (!S_ISDIR(existing.st_mode)) {
        if (!action_.alwaysreplaceexistingdestpaths())
          return make_error(errc::failed_precondition, "cannot copy to non-directory: " + f.path);
        if (unlinkat(to, f.name.c_str(), 0) != 0) return errno_error(errno, "remove " + f.path);
        f.made = true;
      } else if (overwrite &&
                 fchmodat(to, f.name.c_str(), f.info.st_mode & 07777, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno_error(errno, "failed to chmod on " + f.path);
      }
    } else {
      f.made = true;
    }
    if (f.made && mkdirat(to, f.name.c_str(), f.info.st_mode & 07777) != 0)
      return errno_error(errno, "failed to mkdir " + f.path);
    f.target = unique_fd{openat(to, f.name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!f.target) return errno_error(errno, "failed to open " + f.path);
    f.ready = true;
    return {};
  }

  status clear_place(const frame& parent, const std::string& name) const {
    int to = parent.target.get();
    struct stat existing;
    if (fstatat(to, name.c_str(), &existing, AT_SYMLINK_NOFOLLOW) != 0) return {};
    if (!S_ISDIR(existing.st_mode)) {
      if (unlinkat(to, name.c_str(), 0) != 0) return errno_error(errno, "remove " + parent.path + "/" + name);
      return {};
    }
    if (!action_.alwaysreplaceexistingdestpaths())
      return make_error(errc::failed_precondition,
                        "cannot replace to directory " + parent.path + "/" + name + " with file");
    return remove_tree(fd_path(to) + "/" + name);
  }

  status copy_file(const frame& parent, const std::string& name, const std::string& to_name,
                   const struct stat& info) {
    int from = parent.source.get();
    int to = parent.target.get();
    auto shown = parent.path + "/" + to_name;
    if (S_ISREG(info.st_mode)) {
      if (info.st_nlink > 1) {
        auto [known, fresh] = links_.try_emplace({info.st_dev, info.st_ino}, shown);
        if (!fresh) {
          unique_fd directory{open_in_root(root_, parent_of(known->second), O_PATH | O_DIRECTORY)};
          if (!directory ||
              linkat(directory.get(), base_of(known->second).c_str(), to, to_name.c_str(), 0) != 0)
            return errno_error(errno, "failed to create hard link " + shown);
          return {};
        }
      }
      KILN_TRY(auto source, store::open_regular_at(from, name));
      KILN_TRY(auto target, open_at(to, to_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
      auto copied = store::copy_file_data(source.get(), target.get(), job_);
      if (!copied.ok()) return std::move(copied).error().with_context("failed to copy " + shown);
      return {};
    }
    if (S_ISLNK(info.st_mode)) {
      std::string link(4096, '\0');
      auto n = readlinkat(from, name.c_str(), link.data(), link.size() - 1);
      if (n < 0) return errno_error(errno, "failed to read link: " + shown);
      link.resize(static_cast<std::size_t>(n));
      if (symlinkat(link.c_str(), to, to_name.c_str()) != 0)
        return errno_error(errno, "failed to create symlink: " + shown);
      return {};
    }
    if (mknodat(to, to_name.c_str(), info.st_mode, info.st_rdev) != 0)
      return errno_error(errno, "failed to create device " + shown);
    return {};
  }

  status copy_info(const frame& parent, const std::string& name, const std::string& to_name,
                   const struct stat& info) const {
    int to = parent.target.get();
    auto shown = parent.path + "/" + to_name;
    auto who = owner_.value_or(file_owner{info.st_uid, info.st_gid});
    if (fchownat(to, to_name.c_str(), who.uid, who.gid, AT_SYMLINK_NOFOLLOW) != 0)
      return errno_error(errno, "failed to chown " + shown);
    if (!S_ISLNK(info.st_mode)) {
      auto mode = info.st_mode & 07777;
      if (change_) mode = change_->apply(info.st_mode);
      else if (mode_) mode = *mode_;
      if (fchmodat(to, to_name.c_str(), mode, AT_SYMLINK_NOFOLLOW) != 0)
        return errno_error(errno, "failed to chmod " + shown);
    }
    copy_xattrs(parent.source.get(), name, to, to_name);
    return copy_times(parent, to_name, info);
  }

  status copy_times(const frame& parent, const std::string& to_name, const struct stat& info) const {
    if (action_.timestamp() != -1) return set_times(parent.target.get(), to_name, action_.timestamp());
    timespec times[2] = {info.st_atim, info.st_mtim};
    if (utimensat(parent.target.get(), to_name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
      return errno_error(errno, "failed to utime " + parent.path + "/" + to_name);
    return {};
  }

  /// Best effort: a file system without them, or a label that may not be set, is no reason to fail.
  static void copy_xattrs(int from, const std::string& name, int to, const std::string& to_name) {
    auto attributes = store::get_xattrs(from, name);
    if (!attributes.ok()) return spdlog::debug("xattrs not copied: {}", attributes.error().message);
    for (const auto& [attribute, value] : *attributes) {
      if (store::is_overlay_xattr(attribute)) continue;
      if (auto set = store::set_xattr(to, to_name, attribute, value); !set)
        spdlog::debug("xattr not copied: {}", set.error().message);
    }
  }

  int root_;
  const pb::FileActionCopy& action_;
  const std::optional<file_owner>& owner_;
  const job_context& job_;
  std::optional<mode_t> mode_;
  std::optional<mode_change> change_;
  pattern_list include_;
  pattern_list exclude_;
  std::vector<std::string> made_;
  std::map<std::pair<dev_t, ino_t>, std::string> links_;
};

/// Unpacks the source if it is an archive; false when it is not.
result<bool> try_unpack(int source_root, const std::string& source, int root, const std::string& root_path,
                        const std::string& destination, const pb::FileActionCopy& action,
                        const std::optional<file_owner>& owner, const job_context& job) {
  auto file = store::open_regular_in_root(source_root, source);
  if (!file || !store::is_archive(file->get())) return false;
  KILN_TRY(auto target, resolve_in_root(root, destination));
  std::vector<std::string> made;
  auto who = owner.value_or(file_owner{});
  KILN_CHECK(make_directories_in_root(root, target, default_directory_mode, who.uid, who.gid, &made));
  for (const auto& directory : made) {
    unique_fd parent{open_in_root(root, parent_of(directory), O_PATH | O_DIRECTORY)};
    if (parent) KILN_CHECK(set_times(parent.get(), base_of(directory), action.timestamp()));
  }
  store::unpack_options options;
  options.detect_compression = true;
  options.xattrs_best_effort = true;
  if (owner) options.owner = std::pair{owner->uid, owner->gid};
  if (lseek(file->get(), 0, SEEK_SET) != 0) return errno_error(errno, "rewinding " + source);
  KILN_TRY(auto bytes, store::open_source(file->get()));
  // `target` has no symlinks left in it, and this snapshot is ours alone while it is written.
  auto unpacked = store::unpack_tar(*bytes, root_path + target, options, job);
  if (!unpacked.ok()) return std::move(unpacked).error().with_context("failed to unpack " + source);
  return true;
}

}  // namespace

status copy_path(int source_root, int root, const std::string& root_path, const pb::FileActionCopy& action,
                 const std::optional<file_owner>& owner, const job_context& job) {
  auto source = clean_keeping_slash(action.src());
  auto destination = clean_keeping_slash(action.dest());
  if (!action.createdestpath()) {
    KILN_TRY(auto path, resolve_in_root(root, action.dest()));
    unique_fd parent{open_in_root(root, parent_of(path), O_PATH)};
    if (!parent) return errno_error(errno, "failed to stat " + action.dest() + ": lstat " + parent_of(path));
  }
  std::vector<std::string> sources{source};
  if (action.allowwildcard()) {
    KILN_TRY(sources, resolve_wildcards(source_root, source, action.followsymlink()));
    if (sources.empty()) {
      if (action.allowemptywildcard()) return {};
      return make_error(errc::not_found, source + " not found");
    }
  }
  copier c{root, action, owner, job};
  KILN_CHECK(c.prepare());
  for (const auto& s : sources) {
    if (action.attemptunpackdockercompatibility()) {
      KILN_TRY(auto unpacked, try_unpack(source_root, s, root, root_path, destination, action, owner, job));
      if (unpacked) continue;
    }
    KILN_CHECK(c.copy(source_root, s, destination));
  }
  return {};
}

}  // namespace kiln::workers
