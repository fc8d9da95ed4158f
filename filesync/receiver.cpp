#include "filesync/receiver.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include <fcntl.h>

#include "base/thread.hpp"
#include "configs/filesync.hpp"
#include "filesync/dest_cursor.hpp"
#include "filesync/entry_maker.hpp"
#include "filesync/incoming_file.hpp"
#include "filesync/metadata_list.hpp"
#include "filesync/parent_cache.hpp"
#include "filesync/tree.hpp"
#include "filesync/validator.hpp"
#include "wire.pb.h"

namespace kiln::filesync {

namespace {

using packet = fsutil::types::Packet;

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

class receiver {
 public:
  receiver(message_stream& stream, int root, const receive_options& options)
      : stream_(stream), root_(root), options_(options), data_parent_(root), maker_(root, options.merge) {}

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
    if (error_)
      for (auto& [id, file] : pending_) file.drop(data_parent_);
    if (options_.progress) options_.progress(received_, true);
    if (cut_off) {
      if (status verdict = stream_.finish(); !verdict) return verdict;
    }
    if (error_) return *error_;
    return {};
  }

 private:
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
      KILN_CHECK(metadata_.add(stat));
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
    incoming_file* file = nullptr;
    {
      std::lock_guard lock(mutex_);
      auto it = pending_.find(p.id());
      if (it != pending_.end()) file = &it->second;  // stable: only this thread erases
    }
    if (file == nullptr) {
      return make_error(errc::invalid_argument, "invalid file request " + std::to_string(p.id()));
    }
    KILN_CHECK(open_file(p.id(), *file));
    if (!p.data().empty()) return file->write(p.data());
    KILN_CHECK(file->finish(data_parent_));
    std::lock_guard lock(mutex_);
    pending_.erase(p.id());
    if (pending_.empty()) drained_.notify_one();
    return {};
  }

  /// Opens it; of too many that are open, those opened first wait closed.
  status open_file(std::uint32_t id, incoming_file& file) {
    if (file.is_open()) return {};
    KILN_CHECK(file.open(data_parent_, options_.merge));
    open_ids_.push_back(id);
    if (open_ids_.size() <= configs::filesync_open_files) return {};
    std::vector<std::uint32_t> closed(open_ids_.begin(),
                                      open_ids_.begin() + static_cast<std::ptrdiff_t>(open_ids_.size() / 2));
    open_ids_.erase(open_ids_.begin(), open_ids_.begin() + static_cast<std::ptrdiff_t>(closed.size()));
    for (auto old : closed) {
      incoming_file* other = nullptr;
      {
        std::lock_guard lock(mutex_);
        if (auto it = pending_.find(old); it != pending_.end()) other = &it->second;
      }
      if (other != nullptr) KILN_CHECK(other->close(data_parent_));
    }
    return {};
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
        maker_.date(mapped);
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
    return maker_.remove(old.path());
  }

  // Makes or replaces one entry, or asks for its content. `old` is what the destination has, if known.
  status make(std::uint32_t id, const file_stat& stat, const file_stat* old) {
    KILN_TRY(auto made, maker_.make(stat, old));
    if (made == entry_maker::outcome::made) return {};
    std::lock_guard lock(mutex_);
    pending_.try_emplace(id, stat, made == entry_maker::outcome::replaces_file);
    requests_.push_back(id);
    if (requests_.size() == 1) wanted_.notify_one();
    return {};
  }

  // After the last entry: waits for content, makes the hard links, dates the directories, says FIN.
  status finish_up() {
    {
      std::unique_lock lock(mutex_);
      drained_.wait(lock, [this] { return error_ || pending_.empty(); });
      if (error_) return *error_;
    }
    KILN_CHECK(maker_.finish());
    if (options_.metadata_only_except) KILN_CHECK(metadata_.write(root_));
    std::lock_guard lock(mutex_);
    if (error_) return *error_;
    fin_wanted_ = true;
    wanted_.notify_one();
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

  message_stream& stream_;
  int root_;
  const receive_options& options_;

  // Reader only.
  std::int64_t received_ = 0;  // bytes
  std::uint32_t next_id_ = 0;
  entry_validator validator_;
  metadata_list metadata_;
  std::vector<std::pair<std::uint32_t, file_stat>> untold_;
  parent_cache data_parent_;
  std::vector<std::uint32_t> open_ids_;

  // Maker only.
  std::deque<std::pair<std::uint32_t, file_stat>> batch_;  // entries taken, not handled
  entry_maker maker_;

  std::mutex mutex_;                 // everything below
  std::condition_variable told_;     // the maker: entries, or their end
  std::condition_variable room_;     // the reader: room for entries
  std::condition_variable wanted_;   // the writer: requests, or FIN
  std::condition_variable drained_;  // the maker: no file is pending
  std::condition_variable ended_;    // whoever waits for another thread's end
  std::deque<std::pair<std::uint32_t, file_stat>> stats_;
  bool stats_closed_ = false;
  std::unordered_map<std::uint32_t, incoming_file> pending_;
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
