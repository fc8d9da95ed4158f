#include "store/archive/unpack.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <functional>
#include <limits>
#include <unordered_set>
#include <vector>

#include "base/files.hpp"
#include "base/slash_path.hpp"
#include "configs/store.hpp"
#include "store/archive/codec.hpp"
#include "store/files/copy_tree.hpp"
#include "store/files/file_data.hpp"
#include "store/archive/tar_reader.hpp"
#include "store/files/xattr.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view whiteout_prefix = ".wh.";
constexpr std::string_view opaque_name = ".wh..wh..opq";

/// A source that somebody else owns.
class borrowed_source final : public byte_source {
 public:
  explicit borrowed_source(byte_source& in) : in_(in) {}
  result<std::size_t> read(std::span<char> buffer) override { return in_.read(buffer); }

 private:
  byte_source& in_;
};

std::unique_ptr<byte_source> plain_archive(byte_source& in) {
  decompress_options options;
  options.archives = true;
  return make_decompressor(std::make_unique<borrowed_source>(in), options);
}

/// Go's os.Chtimes knows no others. Source: containerd and moby, boundTime.
struct timespec bound_time(struct timespec time) {
  constexpr std::int64_t second = 1'000'000'000, latest = std::numeric_limits<std::int64_t>::max();
  bool counts = time.tv_sec >= 0 && (time.tv_sec < latest / second ||
                                     (time.tv_sec == latest / second && time.tv_nsec <= latest % second));
  return counts ? time : timespec{};
}

std::string parent_of(std::string_view path) {
  auto slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? "" : path.substr(0, slash));
}

std::string name_of(std::string_view path) {
  auto slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

/// Files, links, devices, directories, fifos and sparse files; the rest would be guessed at.
status check_type(char type) {
  if ((type >= '0' && type <= '6') || type == 'S') return {};
  bool shown = type > ' ' && type < 0x7f;
  return make_error(errc::invalid_argument, "unhandled tar header type " +
                                                std::to_string(static_cast<unsigned char>(type)) +
                                                (shown ? std::string(" ('") + type + "')" : ""));
}

/// One archive being applied.
class unpacker {
 public:
  unpacker(unique_fd root, const unpack_options& options, const job_context& job)
      : root_(std::move(root)), options_(options), job_(job) {}

  status apply(const tar_header& e, tar_reader& content);
  /// Gives directories their times, once nothing more is put into them.
  status finish();
  unpack_outcome outcome;

 private:
  struct place {
    unique_fd parent;
    std::string name;
  };
  struct directory_times {
    std::string path;
    struct timespec times[2];
  };

  result<std::string> clean_name(std::string_view raw, std::string_view what) const;
  result<place> locate(const std::string& path);
  status make_parents(const std::string& path, int depth = 0);
  status make_implied(int parent, const std::string& name, const std::string& path);
  status follow_link_to_nowhere(int parent, const std::string& name, const std::string& path, int depth);
  status whiteout(const std::string& directory, std::string_view name, const struct timespec& mtime);
  status opaque(const std::string& directory);
  status clear_place(const place& at, bool directory_comes);
  status make_node(const tar_header& e, tar_reader& content, const std::string& path, const place& at);
  status make_file(const tar_header& e, tar_reader& content, const place& at);
  status take_room(std::int64_t bytes);
  status make_link(const tar_header& e, const std::string& path, const place& at);
  status set_metadata(const tar_header& e, const std::string& path, const place& at);
  status set_xattrs(const tar_header& e, const place& at);
  struct timespec mtime_of(const tar_header& e) const {
    return options_.exact ? e.mtime : bound_time(e.mtime);
  }
  /// Whether the entry came from this archive.
  bool is_ours(const std::string& path) const { return seen_.contains(path); }

  unique_fd root_;
  const unpack_options& options_;
  const job_context& job_;
  std::unordered_set<std::string> seen_;  // paths made by this archive (only kept where it matters)
  std::vector<directory_times> directories_;
};

/// The entry's path relative to the root: "a/b", empty for the root itself.
result<std::string> unpacker::clean_name(std::string_view raw, std::string_view what) const {
  if (raw.size() > limits::archive_name)
    return make_error(errc::invalid_argument, "archive: " + std::string(what) + " is longer than " +
                                                  std::to_string(limits::archive_name) + " bytes");
  if (raw.find('\0') != std::string_view::npos)
    return make_error(errc::invalid_argument, "archive: " + std::string(what) + " contains NUL");
  return clean_absolute(raw).substr(1);
}

/// The parent directory, opened beneath the root, and the last component.
result<unpacker::place> unpacker::locate(const std::string& path) {
  auto parent = parent_of(path);
  auto opened = open_in_root(root_.get(), parent, O_PATH | O_DIRECTORY);
  if (!opened.ok() && opened.error().code == errc::not_found) {
    KILN_CHECK(make_parents(parent));
    opened = open_in_root(root_.get(), parent, O_PATH | O_DIRECTORY);
  }
  if (!opened.ok()) return std::move(opened).error();
  return place{*std::move(opened), name_of(path)};
}

/// mkdir -p beneath the root; a part that is something else than a directory stays in the way.
status unpacker::make_parents(const std::string& path, int depth) {
  for (std::size_t at = 0; at <= path.size();) {
    auto slash = std::min(path.find('/', at), path.size());
    auto part = path.substr(0, slash);
    at = slash + 1;
    auto there = open_in_root(root_.get(), part, O_PATH | O_DIRECTORY);
    if (there.ok()) continue;
    if (there.error().code != errc::not_found) return std::move(there).error();
    KILN_TRY(auto parent, open_in_root(root_.get(), parent_of(part), O_PATH | O_DIRECTORY));
    auto name = name_of(part);
    struct stat info {};
    if (::fstatat(parent.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
      KILN_CHECK(make_implied(parent.get(), name, part));
    else if (S_ISLNK(info.st_mode) && options_.on_whiteout != unpack_options::whiteouts::plain)
      KILN_CHECK(follow_link_to_nowhere(parent.get(), name, part, depth));
    else return errno_error(S_ISLNK(info.st_mode) ? ENOENT : ENOTDIR, "open directory " + part);
  }
  return {};
}

/// A directory that the archive does not tell of looks as the layers below have it. Source: containerd,
/// mkparent.
status unpacker::make_implied(int parent, const std::string& name, const std::string& path) {
  if (options_.stop_if_parents_needed) {
    outcome.needs_parents = true;
    return make_error(errc::not_found, "needs the layers below");
  }
  if (::mkdirat(parent, name.c_str(), 0755) != 0) return errno_error(errno, "mkdir " + path);
  if (::fchmodat(parent, name.c_str(), 0755, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "chmod " + path);
  if (options_.parents.empty()) return {};
  // Where it really is: the parent's name may lead there by links of this archive.
  std::error_code no_root, no_parent;
  auto root = fs::read_symlink(fd_path(root_.get()), no_root).string();
  auto inside = (fs::read_symlink(fd_path(parent), no_parent) / name).string();
  if (no_root || no_parent || !inside.starts_with(root))
    return make_error(errc::internal, "cannot tell where " + path + " is");
  inside.erase(0, root.size());
  for (const auto& layer : options_.parents) {
    KILN_TRY(auto below, open_file(layer, O_PATH | O_DIRECTORY));
    auto same = open_in_root(below.get(), inside, O_PATH);
    if (!same.ok() && same.error().code == errc::not_found) continue;
    struct stat info {};
    if (!same.ok() || ::fstat(same->get(), &info) != 0 || !S_ISDIR(info.st_mode)) return {};  // hidden there
    KILN_TRY(auto readable, open_in_root(below.get(), inside, O_RDONLY | O_DIRECTORY));
    return copy_metadata(readable.get(), ".", info, parent, name);
  }
  return {};
}

/// A symlink to nowhere, in a layer: makes the directory that it means.
status unpacker::follow_link_to_nowhere(int parent, const std::string& name, const std::string& path,
                                        int depth) {
  if (depth >= limits::links_in_archive_name) return errno_error(ELOOP, "mkdir " + path);
  std::string link(limits::archive_name, '\0');
  auto size = ::readlinkat(parent, name.c_str(), link.data(), link.size());
  if (size < 0) return errno_error(errno, "read link " + path);
  link.resize(static_cast<std::size_t>(size));
  auto directory = link.starts_with('/') ? std::string() : parent_of(path) + "/";
  return make_parents(clean_absolute(directory + link).substr(1), depth + 1);
}

status unpacker::opaque(const std::string& directory) {
  KILN_TRY(auto opened, open_in_root(root_.get(), directory, O_RDONLY | O_DIRECTORY));
  if (options_.on_whiteout == unpack_options::whiteouts::overlay) {
    auto attribute = overlay_xattr(options_.user_namespace, "opaque");
    return set_xattr(opened.get(), ".", attribute, "y");
  }
  // Hides what was below, but nothing that this layer itself has brought.
  KILN_TRY(auto names, list_names(opened.get()));
  auto prefix = directory.empty() ? std::string() : directory + "/";
  struct walker {
    unpacker& self;
    status clear(int at, const std::string& inside, const std::vector<std::string>& children) {
      for (const auto& name : children) {
        auto path = inside + name;
        if (!self.is_ours(path)) {
          KILN_CHECK(remove_tree(fd_path(at) + "/" + name));
          continue;
        }
        auto child = open_at(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (!child.ok()) continue;
        KILN_TRY(auto deeper, list_names(child->get()));
        KILN_CHECK(clear(child->get(), path + "/", deeper));
      }
      return {};
    }
  };
  return walker{*this}.clear(opened.get(), prefix, names);
}

status unpacker::whiteout(const std::string& directory, std::string_view name, const struct timespec& mtime) {
  if (name == opaque_name) return opaque(directory);
  auto hidden = std::string(name.substr(whiteout_prefix.size()));
  if (hidden.rfind(".wh.", 0) == 0) return {};  // aufs' own bookkeeping
  if (hidden.empty() || hidden == "." || hidden == "..")
    return make_error(errc::invalid_argument, "archive: invalid whiteout name \"" + std::string(name) + "\"");
  auto path = directory.empty() ? hidden : directory + "/" + hidden;
  KILN_TRY(auto at, locate(path));
  if (options_.on_whiteout == unpack_options::whiteouts::remove) {
    // The base name is removed itself, never what a link points to.
    return remove_tree(fd_path(at.parent.get()) + "/" + at.name);
  }
  KILN_CHECK(remove_tree(fd_path(at.parent.get()) + "/" + at.name));
  if (::mknodat(at.parent.get(), at.name.c_str(), S_IFCHR, ::makedev(0, 0)) != 0)
    return errno_error(errno, "mknod whiteout " + path);
  KILN_CHECK(mark_whiteouts(at.parent.get(), options_.user_namespace));
  // So that the layer, written again, is the same.
  struct timespec times[2] = {mtime, mtime};
  if (::utimensat(at.parent.get(), at.name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "set times of whiteout " + path);
  return {};
}

/// Makes room for the entry: a directory may stay if a directory comes.
status unpacker::clear_place(const place& at, bool directory_comes) {
  struct stat info {};
  if (::fstatat(at.parent.get(), at.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return {};
    return errno_error(errno, "stat " + at.name);
  }
  if (S_ISDIR(info.st_mode) && directory_comes) return {};
  return remove_tree(fd_path(at.parent.get()) + "/" + at.name);
}

status unpacker::make_file(const tar_header& e, tar_reader& content, const place& at) {
  KILN_CHECK(take_room(e.size));
  KILN_TRY(auto file, open_at(at.parent.get(), at.name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  sparse_writer writer;
  while (true) {
    KILN_TRY(auto piece, content.data());
    if (!piece) break;
    if (piece->at != writer.offset()) writer.move_to(piece->at);
    KILN_CHECK(writer.write(file.get(), piece->bytes));
    KILN_CHECK(job_.check());
  }
  return writer.finish(file.get(), e.size);
}

/// Accounts for so many more bytes of file content, holes included: whoever reads them has to go through
/// them.
status unpacker::take_room(std::int64_t bytes) {
  if (bytes > limits::archive_entry_size)
    return make_error(errc::resource_exhausted, "file of " + std::to_string(bytes) + " bytes, more than " +
                                                    std::to_string(limits::archive_entry_size));
  outcome.bytes += std::max<std::int64_t>(0, bytes);
  if (outcome.bytes > limits::archive_bytes)
    return make_error(errc::resource_exhausted,
                      "archive holds more than " + std::to_string(limits::archive_bytes) + " bytes of files");
  return {};
}

status unpacker::make_link(const tar_header& e, const std::string& path, const place& at) {
  KILN_TRY(auto target, clean_name(e.link, "hard link target"));
  auto shown = "hard link to \"" + e.link + "\"";
  if (target.empty()) return make_error(errc::invalid_argument, shown + ", the root directory");
  if (target == path) return make_error(errc::invalid_argument, shown + ", itself");
  auto from = open_in_root(root_.get(), parent_of(target), O_PATH | O_DIRECTORY);
  struct stat info {};
  if (!from.ok() || ::fstatat(from->get(), name_of(target).c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
    return make_error(errc::not_found,
                      shown + ", which is not there: it has to come earlier in the same archive");
  if (S_ISDIR(info.st_mode)) return make_error(errc::permission_denied, shown + ", a directory");
  if (::linkat(from->get(), name_of(target).c_str(), at.parent.get(), at.name.c_str(), 0) != 0)
    return errno_error(errno, shown);
  return {};
}

status unpacker::make_node(const tar_header& e, tar_reader& content, const std::string& path,
                           const place& at) {
  KILN_CHECK(clear_place(at, e.type == '5'));
  int dir = at.parent.get();
  const char* name = at.name.c_str();
  switch (e.type) {
    case '1': return make_link(e, path, at);
    case '2':
      if (e.link.empty() || e.link.size() > limits::archive_name)
        return make_error(errc::invalid_argument, "invalid symlink target");
      if (::symlinkat(e.link.c_str(), dir, name) != 0) return errno_error(errno, "symlink");
      return {};
    case '3':
    case '4': {
      auto device = ::makedev(static_cast<unsigned>(e.device_major), static_cast<unsigned>(e.device_minor));
      if (::mknodat(dir, name, (e.type == '3' ? S_IFCHR : S_IFBLK) | 0600, device) != 0)
        return errno_error(errno, "mknod");
      return {};
    }
    case '5':
      if (::mkdirat(dir, name, 0700) != 0 && errno != EEXIST) return errno_error(errno, "mkdir");
      return {};
    case '6':
      if (::mknodat(dir, name, S_IFIFO | 0600, 0) != 0) return errno_error(errno, "mkfifo");
      return {};
    default: return make_file(e, content, at);
  }
}

status unpacker::set_metadata(const tar_header& e, const std::string& path, const place& at) {
  int dir = at.parent.get();
  const char* name = at.name.c_str();
  struct stat info {};
  if (::fstatat(dir, name, &info, AT_SYMLINK_NOFOLLOW) != 0) return errno_error(errno, "stat");
  auto uid = options_.owner ? options_.owner->first : static_cast<uid_t>(e.uid);
  auto gid = options_.owner ? options_.owner->second : static_cast<gid_t>(e.gid);
  // A link tells once more of what the first name told; a change of owner, even to the same, would take
  // capabilities.
  bool known = e.type == '1' && info.st_uid == uid && info.st_gid == gid;
  if (!known && ::fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "chown to " + std::to_string(uid) + ":" + std::to_string(gid));
  // After chown, which takes setuid bits away.
  if (!S_ISLNK(info.st_mode) &&
      ::fchmodat(dir, name, static_cast<mode_t>(e.mode) & 07777, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "chmod");
  KILN_CHECK(set_xattrs(e, at));
  auto mtime = mtime_of(e);
  directory_times times{path, {mtime, mtime}};
  if (e.type == '5') {
    directories_.push_back(std::move(times));
    return {};
  }
  if (::utimensat(dir, name, times.times, AT_SYMLINK_NOFOLLOW) != 0) return errno_error(errno, "set times");
  return {};
}

status unpacker::set_xattrs(const tar_header& e, const place& at) {
  for (const auto& [key, value] : e.xattrs) {
    if (value.size() > limits::archive_xattr)
      return make_error(errc::resource_exhausted, "attribute " + key + " of " + std::to_string(value.size()) +
                                                      " bytes, more than " +
                                                      std::to_string(limits::archive_xattr));
    if (is_overlay_xattr(key)) continue;  // would be taken for our own
    auto set = set_xattr(at.parent.get(), at.name, key, value);
    if (set.ok() || set.error().code == errc::unimplemented) continue;
    if (options_.xattrs_best_effort && set.error().code == errc::permission_denied) continue;
    return set;
  }
  return {};
}

status unpacker::apply(const tar_header& e, tar_reader& content) {
  if (e.type == 'g') return {};
  auto in_context = [&e](status s) -> status {
    if (s.ok()) return s;
    return std::move(s).error().with_context("archive entry \"" + e.name + "\"");
  };
  KILN_CHECK(in_context(check_type(e.type)));
  KILN_TRY(auto path, clean_name(e.name, "entry name"));
  if (path.empty()) {  // the root itself: metadata only, and that rarely
    if (e.type != '5' || !options_.exact) return {};
    outcome.applied_root = true;
    unique_fd root_copy(::openat(root_.get(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    return in_context(set_metadata(e, path, {std::move(root_copy), "."}));
  }
  auto unless_stopped = [&](status s) { return outcome.needs_parents ? status{} : in_context(std::move(s)); };
  auto name = name_of(path);
  if (options_.on_whiteout != unpack_options::whiteouts::plain && name.starts_with(whiteout_prefix)) {
    auto directory = parent_of(path);
    if (name == opaque_name)
      if (auto made = make_parents(directory); !made.ok()) return unless_stopped(std::move(made));
    return unless_stopped(whiteout(directory, name, mtime_of(e)));
  }
  auto at = locate(path);
  if (!at.ok()) return unless_stopped(std::move(at).error());
  KILN_CHECK(in_context(make_node(e, content, path, *at)));
  if (options_.on_whiteout != unpack_options::whiteouts::plain) seen_.insert(path);
  return in_context(set_metadata(e, path, *at));
}

status unpacker::finish() {
  for (auto d = directories_.rbegin(); d != directories_.rend(); ++d) {
    auto opened = open_in_root(root_.get(), d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!opened.ok()) continue;  // replaced by a later entry
    if (::futimens(opened->get(), d->times) != 0) return errno_error(errno, "set times of " + d->path);
  }
  return {};
}

/// Calls `use` with each header until it says that it is enough.
status for_each_entry(byte_source& in, const job_context& job,
                      const std::function<result<bool>(const tar_header&, tar_reader&)>& use) {
  tar_reader reader(in);
  for (std::int64_t count = 0;;) {
    KILN_TRY(auto entry, reader.next());
    if (!entry) return {};
    if (++count > limits::archive_entries)
      return make_error(errc::resource_exhausted,
                        "archive has more than " + std::to_string(limits::archive_entries) + " entries");
    KILN_CHECK(job.check());
    KILN_TRY(bool more, use(*entry, reader));
    if (!more) return {};
  }
}

}  // namespace

result<unpack_outcome> unpack_tar(byte_source& in, const fs::path& root, const unpack_options& options,
                                  const job_context& job) {
  KILN_TRY(auto root_fd, open_file(root, O_RDONLY | O_DIRECTORY));
  unpacker work(std::move(root_fd), options, job);
  auto plain = options.detect_compression ? plain_archive(in) : nullptr;
  auto apply = [&](const tar_header& entry, tar_reader& content) -> result<bool> {
    ++work.outcome.entries;
    KILN_CHECK(work.apply(entry, content));
    return !work.outcome.needs_parents;
  };
  KILN_CHECK(for_each_entry(plain ? *plain : in, job, apply));
  if (!work.outcome.needs_parents) KILN_CHECK(work.finish());
  return work.outcome;
}

status list_tar(byte_source& in, const std::function<void(const std::string&)>& visit,
                const job_context& job) {
  return for_each_entry(in, job, [&](const tar_header& e, tar_reader&) -> result<bool> {
    if (e.type != 'g') visit(e.name);
    return true;
  });
}

result<std::unique_ptr<byte_source>> open_source(int fd) {
  int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return errno_error(errno, "dup");
  return read_file_data(unique_fd(copy));
}

bool is_archive(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) return false;
  auto source = open_source(fd);
  if (!source.ok()) return false;
  auto plain = plain_archive(**source);
  auto first = tar_reader(*plain).next();
  return first.ok() && first->has_value();
}

result<std::size_t> hashing_source::read(std::span<char> buffer) {
  KILN_TRY(auto count, in_.read(buffer));
  hash_.update({buffer.data(), count});
  return count;
}

result<kiln::digest> hashing_source::finish() {
  std::vector<char> rest(limits::copy_buffer);
  while (true) {
    KILN_TRY(auto count, read(rest));
    if (count == 0) return hash_.finish();
  }
}

}  // namespace kiln::store
