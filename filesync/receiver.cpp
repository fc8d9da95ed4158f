#include "filesync/receiver.hpp"

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/thread.hpp"
#include "configs/filesync.hpp"
#include "store/files/file_data.hpp"
#include "filesync/dest_cursor.hpp"
#include "filesync/disk.hpp"
#include "filesync/tree.hpp"
#include "filesync/validator.hpp"
#include "store/files/regular_file.hpp"
#include "wire.pb.h"

namespace kiln::filesync {

namespace {

using packet = fsutil::types::Packet;

std::string parent_path(const std::string& path) {
  std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool same_entry(const file_stat& have, const file_stat& told, differ d) {
  if (d == differ::none) return false;
  if (!is_dir(have)) {
    bool link = !told.linkname().empty() && !is_symlink(told);
    if (!link && have.size() != told.size()) return false;
    if (have.modtime() != told.modtime()) return false;
  }
  return have.mode() == told.mode() && have.uid() == told.uid() && have.gid() == told.gid() &&
         have.devmajor() == told.devmajor() && have.devminor() == told.devminor() &&
         have.linkname() == told.linkname();
}

// The directory last used, so that files of one directory do not resolve its path each.
class parent_cache {
 public:
  explicit parent_cache(int root) : root_(root) {}
  result<int> get(const std::string& path) {
    if (path.empty()) return root_;
    if (!fd_ || path != path_) {
      int fd = open_beneath(root_, path, O_RDONLY | O_DIRECTORY);
      if (fd < 0) return errno_error(errno, "open " + path);
      fd_.reset(fd);
      path_ = path;
    }
    return fd_.get();
  }
  void forget() { fd_.reset(); }

 private:
  int root_;
  std::string path_;
  unique_fd fd_;
};

class receiver {
 public:
  receiver(message_stream& stream, int root, const receive_options& options)
      : stream_(stream), root_(root), options_(options), data_parent_(root), make_parent_(root) {}

  status run() {
    KILN_TRY(auto maker, thread::start("sync-make", [this] { make_all(); }));
    auto started = thread::start("sync-write", [this] { write_packets(); });
    if (!started.ok()) {
      fail(started.error());
      maker.join();
      if (options_.cancel) options_.cancel();
      return std::move(started).error();
    }
    auto writer = *std::move(started);
    bool finished = read_packets();
    bool cut_off = false;
    {
      std::unique_lock lock(mutex_);
      if (!finished && !error_) {
        cut_off = true;
        error_ = make_error(errc::unavailable, "transfer ended before everything was received");
      }
      reader_done_ = true;
      wake_all();
      if (!ended_.wait_for(lock, configs::filesync_error_grace, [this] { return writer_done_; }) &&
          options_.cancel) {
        lock.unlock();
        options_.cancel();
      }
    }
    writer.join();
    maker.join();
    if (error_) drop_unfinished();
    if (options_.progress) options_.progress(received_, true);
    if (cut_off) {
      if (status verdict = stream_.finish(); !verdict) return verdict;
    }
    if (error_) return *error_;
    return {};
  }

 private:
  struct pending_file {
    file_stat stat;
    bool replaces = false;  // something is there already
    std::string name;       // what it is written as, final or temporary; empty: as yet it has none
    unique_fd fd;
    store::sparse_writer writer;
    bool started = false;
  };

  void fail(error e) {
    std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(e);
    wake_all();
  }
  // Every waiter has a condition of its own: one transfer is many thousand small steps.
  void wake_all() {
    told_.notify_all();
    room_.notify_all();
    wanted_.notify_all();
    drained_.notify_all();
    ended_.notify_all();
  }
  bool failed() {
    std::lock_guard lock(mutex_);
    return error_.has_value();
  }

  // ---- the reader (the calling thread) ----

  // True when the sender said FIN and the stream ended.
  bool read_packets() {
    std::string bytes;
    packet p;
    while (stream_.read(bytes)) {
      received_ += static_cast<std::int64_t>(bytes.size());
      if (!p.ParseFromString(bytes)) {
        fail(make_error(errc::invalid_argument, "invalid packet from sender"));
        return false;
      }
      if (options_.progress) options_.progress(received_, false);
      if (p.type() == packet::PACKET_FIN) {
        {
          std::lock_guard lock(mutex_);
          if (error_) return false;
          if (!fin_sent_) {
            error_ = make_error(errc::invalid_argument, "sender ended the transfer too early");
            wake_all();
            return false;
          }
        }
        while (stream_.read(bytes)) {
        }
        return true;
      }
      status s = handle(p);
      if (!s) {
        fail(std::move(s).error());
        return false;
      }
    }
    return false;
  }

  status handle(packet& p) {
    switch (p.type()) {
      case packet::PACKET_ERR:
        return make_error(errc::unknown,
                          "error from sender: " + p.data().substr(0, configs::filesync_max_error));
      case packet::PACKET_STAT:
        if (!p.has_stat()) {
          std::lock_guard lock(mutex_);
          stats_closed_ = true;
          told_.notify_one();
          return {};
        }
        return handle_stat(*p.mutable_stat());
      case packet::PACKET_DATA: return handle_data(p);
      default:
        return make_error(errc::invalid_argument,
                          "unknown packet type " + std::to_string(p.type()) + " from sender");
    }
  }

  status handle_stat(file_stat& stat) {
    {
      std::lock_guard lock(mutex_);
      if (stats_closed_) return make_error(errc::invalid_argument, "entry after the end of entries");
    }
    bool wanted = true;
    if (options_.metadata_only_except) {
      if (stat.path() == metadata_file_name) return {};
      std::uint32_t size = static_cast<std::uint32_t>(stat.ByteSizeLong());
      if (metadata_.size() + size + 4 > configs::filesync_max_metadata) {
        return make_error(errc::resource_exhausted, "too much metadata in one transfer");
      }
      for (int i = 0; i < 4; ++i) metadata_ += static_cast<char>((size >> (8 * i)) & 0xFF);
      stat.AppendToString(&metadata_);
      wanted = options_.metadata_only_except(stat);
    }
    if (next_id_ == configs::filesync_max_entries) {
      return make_error(errc::resource_exhausted, "too many files in one transfer");
    }
    std::uint32_t id = next_id_++;
    KILN_CHECK(validator_.check(stat));
    if (options_.metadata_only_except) KILN_CHECK(tell_parents(stat, id, wanted));
    if (!wanted) return {};
    return push(id, std::move(stat));
  }

  // Metadata-only: directories are made only once something in them is.
  status tell_parents(const file_stat& stat, std::uint32_t id, bool wanted) {
    std::string parent = parent_path(stat.path());
    while (!untold_.empty() && untold_.back().second.path() != parent &&
           !parent.starts_with(untold_.back().second.path() + "/")) {
      untold_.pop_back();
    }
    if (wanted) {
      for (auto& [parent_id, dir] : untold_) KILN_CHECK(push(parent_id, std::move(dir)));
      untold_.clear();
    } else if (is_dir(stat)) {
      untold_.emplace_back(id, stat);
    }
    return {};
  }

  status push(std::uint32_t id, file_stat stat) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [this] { return error_ || stats_.size() < configs::filesync_stat_queue; });
    if (error_) return *error_;
    stats_.emplace_back(id, std::move(stat));
    if (stats_.size() == 1) told_.notify_one();
    return {};
  }

  status handle_data(const packet& p) {
    pending_file* file = nullptr;
    {
      std::lock_guard lock(mutex_);
      auto it = pending_.find(p.id());
      if (it != pending_.end()) file = &it->second;  // stable: only this thread erases
    }
    if (file == nullptr) {
      return make_error(errc::invalid_argument, "invalid file request " + std::to_string(p.id()));
    }
    KILN_CHECK(open_file(p.id(), *file));
    if (!p.data().empty()) {
      auto written = file->writer.write(file->fd.get(), p.data());
      if (!written) return std::move(written).error().with_context(file->stat.path());
      return {};
    }
    KILN_CHECK(finish_file(*file));
    std::lock_guard lock(mutex_);
    pending_.erase(p.id());
    if (pending_.empty()) drained_.notify_one();
    return {};
  }

  // Where others' files are (merge) one that is not complete is not seen, be it that we are killed: it has no
  // name. Elsewhere the whole tree counts for nothing until it is complete.
  status create_file(pending_file& file) {
    KILN_TRY(int dir, data_parent_.get(parent_path(file.stat.path())));
    if (options_.merge) {
      file.fd.reset(::openat(dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
      if (file.fd || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL))
        return {};
    }
    bool in_place = !file.replaces && !options_.merge;
    file.name = in_place ? base_name(file.stat.path()) : temporary_name();
    file.fd.reset(
        ::openat(dir, file.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    return {};
  }

  status give_name(pending_file& file) {
    KILN_TRY(int dir, data_parent_.get(parent_path(file.stat.path())));
    file.name = temporary_name();
    auto nameless = "/proc/self/fd/" + std::to_string(file.fd.get());
    if (::linkat(AT_FDCWD, nameless.c_str(), dir, file.name.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return errno_error(errno, "failed to create " + file.stat.path());
    return {};
  }

  status open_file(std::uint32_t id, pending_file& file) {
    if (file.fd) return {};
    if (file.started) {
      KILN_TRY(int dir, data_parent_.get(parent_path(file.stat.path())));
      KILN_TRY(file.fd, store::open_regular_at(dir, file.name, O_WRONLY));
    } else {
      KILN_CHECK(create_file(file));
      file.started = true;
    }
    if (!file.fd) return errno_error(errno, "failed to create " + file.stat.path());
    open_ids_.push_back(id);
    if (open_ids_.size() <= configs::filesync_open_files) return {};
    std::vector<std::uint32_t> closed(open_ids_.begin(),
                                      open_ids_.begin() + static_cast<std::ptrdiff_t>(open_ids_.size() / 2));
    open_ids_.erase(open_ids_.begin(), open_ids_.begin() + static_cast<std::ptrdiff_t>(closed.size()));
    for (auto old : closed) {
      pending_file* other = nullptr;
      {
        std::lock_guard lock(mutex_);
        if (auto it = pending_.find(old); it != pending_.end()) other = &it->second;
      }
      if (other == nullptr || !other->fd) continue;
      if (other->name.empty()) KILN_CHECK(give_name(*other));
      other->fd.reset();
    }
    return {};
  }

  status finish_file(pending_file& file) {
    if (auto whole = file.writer.finish(file.fd.get()); !whole)
      return std::move(whole).error().with_context(file.stat.path());
    KILN_CHECK(apply_metadata(file.fd.get(), file.stat));
    auto name = base_name(file.stat.path());
    if (file.name.empty()) KILN_CHECK(give_name(file));
    file.fd.reset();
    if (file.name != name) {
      KILN_TRY(int dir, data_parent_.get(parent_path(file.stat.path())));
      if (::renameat(dir, file.name.c_str(), dir, name.c_str()) != 0)
        return errno_error(errno, "failed to rename " + file.stat.path());
    }
    return {};
  }

  // Files under temporary names that were not completed.
  void drop_unfinished() {
    for (auto& [id, file] : pending_) {
      if (!file.started || file.name.empty() || file.name == base_name(file.stat.path())) continue;
      if (auto dir = data_parent_.get(parent_path(file.stat.path())); dir.ok())
        ::unlinkat(*dir, file.name.c_str(), 0);
    }
  }

  // ---- the maker: compares, removes, makes all but file content ----

  void make_all() {
    status s = compare();
    if (s) s = finish_up();
    if (!s) fail(std::move(s).error());
  }

  // The next entry told; nothing at the end of entries.
  result<std::optional<std::pair<std::uint32_t, file_stat>>> next_told() {
    std::optional<std::pair<std::uint32_t, file_stat>> out;
    if (batch_.empty()) {
      std::unique_lock lock(mutex_);
      told_.wait(lock, [this] { return error_ || !stats_.empty() || stats_closed_; });
      if (error_) return *error_;
      if (stats_.empty()) return out;
      batch_.swap(stats_);
      room_.notify_one();
    }
    out = std::move(batch_.front());
    batch_.pop_front();
    return out;
  }

  status compare() {
    dest_cursor have(root_);
    if (!options_.merge) KILN_CHECK(have.start());
    while (true) {
      KILN_TRY(auto told, next_told());
      file_stat mapped;
      bool wanted = true;
      if (told) {
        mapped = told->second;
        wanted = !options_.filter || options_.filter(mapped);
        mapped.set_path(told->second.path());
      }
      // Everything that sorts before it is gone at the sender.
      while (have.current() != nullptr &&
             (!told || compare_paths(have.current()->path(), mapped.path()) < 0)) {
        KILN_CHECK(remove(*have.current()));
        KILN_CHECK(have.advance(false));
      }
      if (!told) return {};
      bool exists = have.current() != nullptr && have.current()->path() == mapped.path();
      if (!exists) {
        if (wanted) KILN_CHECK(make(told->first, mapped, nullptr));
        continue;
      }
      file_stat old = *have.current();
      if (wanted && !same_entry(old, mapped, options_.differ)) {
        KILN_CHECK(make(told->first, mapped, &old));
      } else if (is_dir(mapped) && wanted) {
        directories_.push_back({mapped.path(), mapped.modtime(), std::nullopt});
      }
      KILN_CHECK(have.advance(is_dir(mapped) && is_dir(old)));
    }
  }

  status remove(const file_stat& old) {
    if (options_.filter) {
      file_stat empty;
      empty.set_path(old.path());
      if (!options_.filter(empty)) return {};
    }
    KILN_TRY(int dir, make_parent_.get(parent_path(old.path())));
    auto removed = remove_tree_at(dir, base_name(old.path()));
    if (!removed) return std::move(removed).error().with_context("failed to remove " + old.path());
    return {};
  }

  // Makes or replaces one entry. `old` is what the destination has, if known.
  status make(std::uint32_t id, const file_stat& stat, const file_stat* old) {
    KILN_TRY(int dir, make_parent_.get(parent_path(stat.path())));
    std::string name = base_name(stat.path());
    bool exists = old != nullptr;
    bool old_is_dir = old != nullptr && is_dir(*old);
    if (old == nullptr && options_.merge) {
      struct stat st {};
      if (::fstatat(dir, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
        exists = true;
        old_is_dir = S_ISDIR(st.st_mode);
      }
    }
    if (is_dir(stat)) return make_directory(dir, name, stat, exists, old_is_dir);
    if (old_is_dir) {
      KILN_CHECK(remove_tree_at(dir, name));
      exists = false;
    }
    if (is_regular(stat) && !stat.linkname().empty()) {
      links_.push_back(stat);
      return {};
    }
    if (is_regular(stat)) {
      std::lock_guard lock(mutex_);
      pending_file& file = pending_[id];
      file.stat = stat;
      file.replaces = exists;
      requests_.push_back(id);
      if (requests_.size() == 1) wanted_.notify_one();
      return {};
    }
    std::string made = exists ? temporary_name() : name;
    if (is_symlink(stat)) {
      if (::symlinkat(stat.linkname().c_str(), dir, made.c_str()) != 0) {
        return errno_error(errno, "failed to symlink " + stat.path());
      }
    } else if (::mknodat(dir, made.c_str(), file_type(stat.mode()) | permission_bits(stat.mode()),
                         makedev(stat.devmajor(), stat.devminor())) != 0) {
      return errno_error(errno, "failed to create device " + stat.path());
    }
    KILN_CHECK(apply_metadata_at(dir, made, stat));
    if (exists && ::renameat(dir, made.c_str(), dir, name.c_str()) != 0) {
      return errno_error(errno, "failed to rename " + stat.path());
    }
    return {};
  }

  status make_directory(int dir, const std::string& name, const file_stat& stat, bool exists,
                        bool old_is_dir) {
    if (exists && !old_is_dir) {
      if (::unlinkat(dir, name.c_str(), 0) != 0) return errno_error(errno, "failed to remove " + stat.path());
      exists = false;
    }
    if (!exists && ::mkdirat(dir, name.c_str(), 0700) != 0) {
      return errno_error(errno, "failed to create dir " + stat.path());
    }
    unique_fd fd(::openat(dir, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return errno_error(errno, "failed to open dir " + stat.path());
    KILN_CHECK(apply_metadata(fd.get(), stat, 0700));
    std::optional<mode_t> mode;
    if ((permission_bits(stat.mode()) & 0700) != 0700) mode = permission_bits(stat.mode());
    directories_.push_back({stat.path(), stat.modtime(), mode});
    return {};
  }

  // After the last entry: waits for content, makes the hard links, dates the directories, says FIN.
  status finish_up() {
    {
      std::unique_lock lock(mutex_);
      drained_.wait(lock, [this] { return error_ || pending_.empty(); });
      if (error_) return *error_;
    }
    for (const file_stat& link : links_) KILN_CHECK(make_link(link));
    for (auto it = directories_.rbegin(); it != directories_.rend(); ++it) {
      KILN_TRY(int dir, make_parent_.get(parent_path(it->path)));
      std::string name = base_name(it->path);
      if (it->mode && ::fchmodat(dir, name.c_str(), *it->mode, AT_SYMLINK_NOFOLLOW) != 0)
        return errno_error(errno, "chmod " + it->path);
      KILN_CHECK(set_mtime_at(dir, name, it->mtime));
    }
    if (options_.metadata_only_except) KILN_CHECK(write_metadata());
    std::lock_guard lock(mutex_);
    if (error_) return *error_;
    fin_wanted_ = true;
    wanted_.notify_one();
    return {};
  }

  status make_link(const file_stat& link) {
    KILN_TRY(int dir, make_parent_.get(parent_path(link.path())));
    unique_fd source_dir(::dup(dir));
    if (parent_path(link.path()) != parent_path(link.linkname())) {
      std::string parent = parent_path(link.linkname());
      source_dir.reset(parent.empty() ? ::dup(root_) : open_beneath(root_, parent, O_PATH | O_DIRECTORY));
    }
    if (!source_dir) return errno_error(errno, "failed to link " + link.path());
    std::string made = temporary_name();
    if (::linkat(source_dir.get(), base_name(link.linkname()).c_str(), dir, made.c_str(), 0) != 0) {
      return errno_error(errno, "failed to link " + link.path() + " to " + link.linkname());
    }
    std::string name = base_name(link.path());
    if (::renameat(dir, made.c_str(), dir, name.c_str()) != 0) {
      return errno_error(errno, "failed to rename " + link.path());
    }
    ::unlinkat(dir, made.c_str(), 0);  // renaming onto another name of the same file does nothing
    return {};
  }

  status write_metadata() {
    KILN_CHECK(remove_tree_at(root_, metadata_file_name));
    unique_fd fd(
        ::openat(root_, metadata_file_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (!fd || ::fchmod(fd.get(), 0644) != 0)
      return errno_error(errno, "create " + std::string(metadata_file_name));
    std::string_view rest = metadata_;
    while (!rest.empty()) {
      ssize_t n = ::write(fd.get(), rest.data(), rest.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno_error(errno, "write " + std::string(metadata_file_name));
      rest.remove_prefix(static_cast<std::size_t>(n));
    }
    return {};
  }

  // ---- the writer: requests, then FIN or ERR ----

  void write_packets() {
    std::unique_lock lock(mutex_);
    bool broken = false;
    while (!broken && !fin_sent_) {
      wanted_.wait(lock, [this] { return error_ || fin_wanted_ || !requests_.empty(); });
      if (error_) break;
      std::deque<std::uint32_t> requests = std::move(requests_);
      requests_.clear();
      fin_sent_ = requests.empty();
      bool fin = fin_sent_;
      lock.unlock();
      packet p;
      p.set_type(packet::PACKET_REQ);
      for (std::size_t i = 0; i < requests.size() && !broken; ++i) {
        p.set_id(requests[i]);
        broken = !stream_.write(p.SerializeAsString());  // the reader learns why
      }
      if (fin) {
        p.Clear();
        p.set_type(packet::PACKET_FIN);
        stream_.write(p.SerializeAsString());
      }
      lock.lock();
    }
    if (error_) {
      packet p;
      p.set_type(packet::PACKET_ERR);
      p.set_data(error_->message);
      lock.unlock();
      stream_.write(p.SerializeAsString());
      lock.lock();
    }
    writer_done_ = true;
    ended_.notify_all();
    // The peer ends the stream when it is told of an error; one that does not is cut off.
    if (error_ && !ended_.wait_for(lock, configs::filesync_error_grace, [this] { return reader_done_; }) &&
        options_.cancel) {
      lock.unlock();
      options_.cancel();
    }
  }

  struct directory_date {
    std::string path;
    std::int64_t mtime;
    std::optional<mode_t> mode;
  };

  message_stream& stream_;
  int root_;
  const receive_options& options_;

  // Reader only.
  std::int64_t received_ = 0;  // bytes
  std::uint32_t next_id_ = 0;
  entry_validator validator_;
  std::string metadata_;
  std::vector<std::pair<std::uint32_t, file_stat>> untold_;
  parent_cache data_parent_;
  std::vector<std::uint32_t> open_ids_;

  // Maker only.
  std::deque<std::pair<std::uint32_t, file_stat>> batch_;  // entries taken, not handled
  parent_cache make_parent_;
  std::vector<file_stat> links_;
  std::vector<directory_date> directories_;

  std::mutex mutex_;                 // everything below
  std::condition_variable told_;     // the maker: entries, or their end
  std::condition_variable room_;     // the reader: room for entries
  std::condition_variable wanted_;   // the writer: requests, or FIN
  std::condition_variable drained_;  // the maker: no file is pending
  std::condition_variable ended_;    // whoever waits for another thread's end
  std::deque<std::pair<std::uint32_t, file_stat>> stats_;
  bool stats_closed_ = false;
  std::unordered_map<std::uint32_t, pending_file> pending_;
  std::deque<std::uint32_t> requests_;
  bool fin_wanted_ = false;
  bool fin_sent_ = false;
  bool reader_done_ = false;
  bool writer_done_ = false;
  std::optional<error> error_;
};

}  // namespace

status receive(message_stream& stream, int destination, const receive_options& options) {
  return receiver(stream, destination, options).run();
}

status receive(message_stream& stream, const std::string& destination, const receive_options& options) {
  unique_fd fd(::open(destination.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return errno_error(errno, "open " + destination);
  return receive(stream, fd.get(), options);
}

}  // namespace kiln::filesync
