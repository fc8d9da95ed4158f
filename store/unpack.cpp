#include "store/unpack.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <functional>
#include <unordered_set>
#include <vector>

#include "base/files.hpp"
#include "base/slash_path.hpp"
#include "configs/store.hpp"
#include "store/codec.hpp"
#include "store/file_data.hpp"
#include "store/xattr.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

/// A name that this locale cannot show is only a warning.
bool usable(int code) { return code == ARCHIVE_OK || code == ARCHIVE_WARN; }

constexpr std::string_view whiteout_prefix = ".wh.";
constexpr std::string_view opaque_name = ".wh..wh..opq";

/// Feeds libarchive from a byte_source and keeps the source's own error.
struct reader_state {
  byte_source& in;
  std::vector<char> buffer = std::vector<char>(limits::copy_buffer);
  status failure = {};
  bool any = false;  // bytes came
};

la_ssize_t read_callback(archive* a, void* data, const void** block) {
  auto& state = *static_cast<reader_state*>(data);
  auto count = state.in.read(state.buffer);
  if (!count.ok()) {
    state.failure = std::move(count).error();
    archive_set_error(a, EIO, "%s", state.failure.error().message.c_str());
    return -1;
  }
  *block = state.buffer.data();
  state.any = state.any || *count > 0;
  return static_cast<la_ssize_t>(*count);
}

struct archive_closer {
  void operator()(archive* a) const { archive_read_free(a); }
};
using archive_ptr = std::unique_ptr<archive, archive_closer>;

/// Reads tar and nothing else: libarchive would undo any number of compressions, one within the other.
archive_ptr new_reader() {
  archive_ptr a(archive_read_new());
  archive_read_support_format_tar(a.get());
  return a;
}

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

std::string text_of(const char* narrow, const char* utf8) { return narrow ? narrow : utf8 ? utf8 : ""; }

struct timespec mtime_of(archive_entry* e) {
  struct timespec mtime {};
  if (archive_entry_mtime_is_set(e)) {
    mtime.tv_sec = archive_entry_mtime(e);
    mtime.tv_nsec = archive_entry_mtime_nsec(e);
    // libarchive takes the sign for the seconds only: "-1.75" is told as -1 s and 0.75 s.
    if (mtime.tv_sec < 0 && mtime.tv_nsec > 0) {
      --mtime.tv_sec;
      mtime.tv_nsec = 1'000'000'000 - mtime.tv_nsec;
    }
  }
  return mtime;
}

/// One archive being applied.
class unpacker {
 public:
  unpacker(unique_fd root, const unpack_options& options, const job_context& job)
      : root_(std::move(root)), options_(options), job_(job) {}

  status apply(archive* a, archive_entry* e);
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
  result<place> locate(const std::string& path, bool make_parents);
  status make_parents(const std::string& path, int depth = 0);
  status whiteout(const std::string& directory, std::string_view name, const struct timespec& mtime);
  status opaque(const std::string& directory);
  status clear_place(const place& at, bool directory_comes);
  status make_node(archive* a, archive_entry* e, const std::string& path, place& at);
  status make_file(archive* a, archive_entry* e, const place& at);
  status take_room(std::int64_t bytes);
  status make_link(archive_entry* e, const std::string& path, const place& at);
  status set_metadata(archive_entry* e, const std::string& path, const place& at);
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
  while (!raw.empty() && raw[0] == '/') raw.remove_prefix(1);
  auto path = clean_path(raw);
  if (path == "..") path = "../";
  if (path.rfind("../", 0) == 0)
    return make_error(errc::invalid_argument, "archive: " + std::string(what) + " \"" + std::string(raw) +
                                                  "\" leads out of the root directory");
  if (path == ".") path.clear();
  return path;
}

/// The parent directory, opened beneath the root, and the last component.
result<unpacker::place> unpacker::locate(const std::string& path, bool make_missing) {
  auto slash = path.rfind('/');
  auto parent = slash == std::string::npos ? std::string() : path.substr(0, slash);
  auto name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (options_.stop_if_parents_needed && !parent.empty() && !is_ours(parent)) {
    outcome.needs_parents = true;
    return make_error(errc::not_found, "needs the layers below");
  }
  auto opened = open_in_root(root_.get(), parent, O_PATH | O_DIRECTORY);
  if (!opened.ok() && options_.stop_if_parents_needed) {  // behind a link that leads to a lower layer
    outcome.needs_parents = true;
    return std::move(opened).error();
  }
  if (!opened.ok() && make_missing && opened.error().code == errc::not_found) {
    KILN_CHECK(make_parents(parent));
    opened = open_in_root(root_.get(), parent, O_PATH | O_DIRECTORY);
  }
  if (!opened.ok()) return std::move(opened).error();
  return place{*std::move(opened), std::move(name)};
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
    auto up = part.rfind('/');
    KILN_TRY(auto parent, open_in_root(root_.get(), up == std::string::npos ? "" : part.substr(0, up),
                                       O_PATH | O_DIRECTORY));
    auto name = up == std::string::npos ? part : part.substr(up + 1);
    if (::mkdirat(parent.get(), name.c_str(), 0755) != 0) {
      if (errno != EEXIST || depth >= 40) return errno_error(errno, "mkdir " + part);
      // A symlink to nowhere: make the directory that it means.
      std::string link(limits::archive_name, '\0');
      auto size = ::readlinkat(parent.get(), name.c_str(), link.data(), link.size());
      if (size < 0) return errno_error(errno, "mkdir " + part);
      link.resize(static_cast<std::size_t>(size));
      auto directory = link[0] == '/' || up == std::string::npos ? std::string() : part.substr(0, up + 1);
      KILN_CHECK(make_parents(clean_absolute(directory + link).substr(1), depth + 1));
      continue;
    }
    if (::fchmodat(parent.get(), name.c_str(), 0755, AT_SYMLINK_NOFOLLOW) != 0)
      return errno_error(errno, "chmod " + part);
    if (options_.owner && ::fchownat(parent.get(), name.c_str(), options_.owner->first,
                                     options_.owner->second, AT_SYMLINK_NOFOLLOW) != 0)
      return errno_error(errno, "chown " + part);
  }
  return {};
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
  KILN_TRY(auto at, locate(path, true));
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

status unpacker::make_file(archive* a, archive_entry* e, const place& at) {
  auto told = archive_entry_size_is_set(e) ? archive_entry_size(e) : 0;
  KILN_CHECK(take_room(told));
  KILN_TRY(auto file, open_at(at.parent.get(), at.name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  sparse_writer writer;
  const void* block = nullptr;
  std::size_t size = 0;
  la_int64_t offset = 0;
  while (true) {
    int code = archive_read_data_block(a, &block, &size, &offset);
    if (code == ARCHIVE_EOF) break;
    if (!usable(code))
      return make_error(errc::data_loss,
                        archive_error_string(a) ? archive_error_string(a) : "truncated data");
    if (offset != writer.offset()) writer.move_to(offset);  // a sparse file tells of its data only
    KILN_CHECK(writer.write(file.get(), {static_cast<const char*>(block), size}));
    if (writer.offset() > told) {
      KILN_CHECK(take_room(writer.offset() - told));
      told = writer.offset();
    }
    KILN_CHECK(job_.check());
  }
  return writer.finish(file.get(), told);
}

/// Accounts for so many more bytes of file content, holes included: whoever reads them has to go through them.
status unpacker::take_room(std::int64_t bytes) {
  if (bytes > limits::archive_entry_size)
    return make_error(errc::resource_exhausted, "file of " + std::to_string(bytes) + " bytes, more than " +
                                                    std::to_string(limits::archive_entry_size));
  outcome.bytes += std::max<std::int64_t>(0, bytes);
  if (outcome.bytes > limits::archive_bytes)
    return make_error(errc::resource_exhausted, "archive holds more than " + std::to_string(limits::archive_bytes) +
                                                    " bytes of files");
  return {};
}

status unpacker::make_link(archive_entry* e, const std::string& path, const place& at) {
  auto raw = text_of(archive_entry_hardlink(e), archive_entry_hardlink_utf8(e));
  KILN_TRY(auto target, clean_name(raw, "hard link target"));
  if (target.empty()) return make_error(errc::invalid_argument, "archive: a hard link to the root directory");
  if (target == path) return {};
  if (options_.stop_if_parents_needed && !is_ours(target)) {
    outcome.needs_parents = true;
    return make_error(errc::not_found, "needs the layers below");
  }
  auto slash = target.rfind('/');
  KILN_TRY(auto from, open_in_root(root_.get(), slash == std::string::npos ? "" : target.substr(0, slash),
                                   O_PATH | O_DIRECTORY));
  auto name = slash == std::string::npos ? target : target.substr(slash + 1);
  if (::linkat(from.get(), name.c_str(), at.parent.get(), at.name.c_str(), 0) != 0)
    return errno_error(errno, "link to \"" + target + "\"");
  return {};
}

status unpacker::make_node(archive* a, archive_entry* e, const std::string& path, place& at) {
  auto type = archive_entry_filetype(e);
  if (archive_entry_hardlink(e) || archive_entry_hardlink_utf8(e)) {
    KILN_CHECK(clear_place(at, false));
    return make_link(e, path, at);
  }
  KILN_CHECK(clear_place(at, type == AE_IFDIR));
  switch (type) {
    case AE_IFREG: return make_file(a, e, at);
    case AE_IFDIR:
      if (::mkdirat(at.parent.get(), at.name.c_str(), 0700) != 0 && errno != EEXIST)
        return errno_error(errno, "mkdir");
      return {};
    case AE_IFLNK: {
      auto target = text_of(archive_entry_symlink(e), archive_entry_symlink_utf8(e));
      if (target.empty() || target.size() > limits::archive_name)
        return make_error(errc::invalid_argument, "archive: invalid symlink target");
      if (::symlinkat(target.c_str(), at.parent.get(), at.name.c_str()) != 0)
        return errno_error(errno, "symlink");
      return {};
    }
    case AE_IFCHR:
    case AE_IFBLK: {
      auto device = ::makedev(archive_entry_rdevmajor(e), archive_entry_rdevminor(e));
      if (::mknodat(at.parent.get(), at.name.c_str(), type == AE_IFCHR ? S_IFCHR | 0600 : S_IFBLK | 0600,
                    device) != 0)
        return errno_error(errno, "mknod");
      return {};
    }
    case AE_IFIFO:
      if (::mknodat(at.parent.get(), at.name.c_str(), S_IFIFO | 0600, 0) != 0)
        return errno_error(errno, "mkfifo");
      return {};
    default: return make_error(errc::invalid_argument, "archive: entry of unknown type");
  }
}

status unpacker::set_metadata(archive_entry* e, const std::string& path, const place& at) {
  int dir = at.parent.get();
  const char* name = at.name.c_str();
  auto type = archive_entry_filetype(e);
  auto uid = options_.owner ? options_.owner->first : static_cast<uid_t>(archive_entry_uid(e));
  auto gid = options_.owner ? options_.owner->second : static_cast<gid_t>(archive_entry_gid(e));
  if (::fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "chown to " + std::to_string(uid) + ":" + std::to_string(gid));
  // After chown, which takes setuid bits away.
  if (type != AE_IFLNK && ::fchmodat(dir, name, archive_entry_perm(e) & 07777, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "chmod");
  archive_entry_xattr_reset(e);
  const char* key = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  while (archive_entry_xattr_next(e, &key, &value, &size) == ARCHIVE_OK) {
    if (size > limits::archive_xattr)
      return make_error(errc::resource_exhausted, "archive: xattr is too large");
    if (is_overlay_xattr(key)) continue;  // would be taken for our own
    auto set = set_xattr(dir, at.name, key, std::string(static_cast<const char*>(value), size));
    if (!set && !options_.xattrs_best_effort && set.error().code != errc::unimplemented) return set;
  }
  auto mtime = mtime_of(e);
  directory_times times{path, {mtime, mtime}};
  if (type == AE_IFDIR) {
    directories_.push_back(std::move(times));
    return {};
  }
  if (::utimensat(dir, name, times.times, AT_SYMLINK_NOFOLLOW) != 0) return errno_error(errno, "set times");
  return {};
}

status unpacker::apply(archive* a, archive_entry* e) {
  auto raw = text_of(archive_entry_pathname(e), archive_entry_pathname_utf8(e));
  auto in_context = [&raw](status s) -> status {
    if (s.ok()) return s;
    return std::move(s).error().with_context("archive entry \"" + raw + "\"");
  };
  KILN_TRY(auto path, clean_name(raw, "entry name"));
  if (path.empty()) {  // the root itself: metadata only, and that rarely
    if (archive_entry_filetype(e) != AE_IFDIR || !options_.applies_root) return {};
    outcome.applied_root = true;
    unique_fd root_copy(::openat(root_.get(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    return in_context(set_metadata(e, path, {std::move(root_copy), "."}));
  }
  auto slash = path.rfind('/');
  auto name = std::string_view(path).substr(slash == std::string::npos ? 0 : slash + 1);
  if (options_.on_whiteout != unpack_options::whiteouts::plain && name.substr(0, 4) == whiteout_prefix) {
    auto directory = slash == std::string::npos ? std::string() : path.substr(0, slash);
    if (options_.stop_if_parents_needed && !directory.empty() && !is_ours(directory)) {
      outcome.needs_parents = true;
      return {};
    }
    if (name == opaque_name) KILN_CHECK(in_context(make_parents(directory)));
    return in_context(whiteout(directory, name, mtime_of(e)));
  }
  auto at = locate(path, true);
  if (!at.ok()) return outcome.needs_parents ? status{} : in_context(std::move(at).error());
  bool is_link = archive_entry_hardlink(e) || archive_entry_hardlink_utf8(e);
  auto made = make_node(a, e, path, *at);
  if (outcome.needs_parents) return {};
  KILN_CHECK(in_context(std::move(made)));
  if (options_.on_whiteout != unpack_options::whiteouts::plain) seen_.insert(path);
  if (is_link) return {};  // the first name had the metadata
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
                      const std::function<result<bool>(archive*, archive_entry*)>& use) {
  reader_state state{in};
  auto a = new_reader();
  auto archive_failure = [&]() -> error {
    if (!state.failure.ok()) return state.failure.error();
    auto* text = archive_error_string(a.get());
    return make_error(errc::data_loss, std::string("archive: ") + (text ? text : "unreadable"));
  };
  if (archive_read_open(a.get(), &state, nullptr, read_callback, nullptr) != ARCHIVE_OK) {
    // An empty stream is an empty archive.
    if (state.failure.ok() && !state.any) return {};
    return archive_failure();
  }
  archive_entry* entry = nullptr;
  for (std::int64_t count = 0;;) {
    int code = archive_read_next_header(a.get(), &entry);
    if (code == ARCHIVE_EOF) return {};
    if (code == ARCHIVE_RETRY) continue;
    if (!usable(code)) {
      if (state.failure.ok() && !state.any) return {};
      return archive_failure();
    }
    if (++count > limits::archive_entries)
      return make_error(errc::resource_exhausted,
                        "archive has more than " + std::to_string(limits::archive_entries) + " entries");
    KILN_CHECK(job.check());
    KILN_TRY(bool more, use(a.get(), entry));
    if (!more) return {};
  }
}

}  // namespace

result<unpack_outcome> unpack_tar(byte_source& in, const fs::path& root, const unpack_options& options,
                                  const job_context& job) {
  KILN_TRY(auto root_fd, open_file(root, O_RDONLY | O_DIRECTORY));
  unpacker work(std::move(root_fd), options, job);
  auto plain = options.detect_compression ? plain_archive(in) : nullptr;
  KILN_CHECK(for_each_entry(plain ? *plain : in, job, [&](archive* a, archive_entry* entry) -> result<bool> {
    ++work.outcome.entries;
    KILN_CHECK(work.apply(a, entry));
    return !work.outcome.needs_parents;
  }));
  if (!work.outcome.needs_parents) KILN_CHECK(work.finish());
  return work.outcome;
}

status list_tar(byte_source& in, const std::function<void(const std::string&)>& visit,
                const job_context& job) {
  return for_each_entry(in, job, [&](archive*, archive_entry* e) -> result<bool> {
    visit(text_of(archive_entry_pathname(e), archive_entry_pathname_utf8(e)));
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
  bool found = false;
  if (source.ok()) {
    auto plain = plain_archive(**source);
    reader_state state{*plain};
    auto a = new_reader();
    archive_entry* entry = nullptr;
    found = archive_read_open(a.get(), &state, nullptr, read_callback, nullptr) == ARCHIVE_OK &&
            usable(archive_read_next_header(a.get(), &entry));
  }
  return found;
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
