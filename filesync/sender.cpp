#include "filesync/sender.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/thread.hpp"
#include "configs/filesync.hpp"
#include "wire.pb.h"

namespace kiln::filesync {

namespace {

using packet = fsutil::types::Packet;

class sender {
 public:
  sender(message_stream& stream, file_tree& tree, const send_options& options)
      : stream_(stream), tree_(tree), options_(options) {}

  status run() {
    std::stop_callback on_stop(options_.stop,
                               [this] { fail(make_error(errc::cancelled, "context canceled")); });
    KILN_TRY(auto walker, thread::start("sync-walk", [this] { walk(); }));
    std::vector<thread> senders;
    for (std::size_t i = 0; i < configs::filesync_senders; ++i) {
      auto one = thread::start("sync-send", [this] { send_files(); });
      if (one.ok()) {
        senders.push_back(*std::move(one));
      } else if (senders.empty()) {
        fail_and_tell(std::move(one).error());
        break;
      }
    }
    bool finished = read_requests();
    stopping_.request_stop();
    {
      std::lock_guard lock(mutex_);
      done_ = true;
    }
    wake_.notify_all();
    if (!finished && options_.cancel) options_.cancel();
    walker.join();
    for (auto& t : senders) t.join();
    if (options_.progress) options_.progress(sent_, true);
    std::lock_guard lock(mutex_);
    if (error_) return *error_;
    if (!finished) return make_error(errc::unavailable, "transfer ended before the receiver was done");
    return {};
  }

 private:
  struct request {
    std::uint32_t id;
    std::string path;
  };

  // Remembers the first failure, tells the peer, and unblocks whoever waits.
  void fail(error e) {
    {
      std::lock_guard lock(mutex_);
      if (error_ || done_) return;
      error_ = std::move(e);
      queue_.clear();
    }
    stopping_.request_stop();
    wake_.notify_all();
    if (options_.cancel) options_.cancel();
  }

  void fail_and_tell(error e) {
    packet p;
    p.set_type(packet::PACKET_ERR);
    p.set_data(e.message);
    write(p);
    fail(std::move(e));
  }

  bool write(const packet& p) {
    std::string bytes = p.SerializeAsString();
    std::lock_guard lock(write_mutex_);
    if (!stream_.write(bytes)) return false;
    sent_ += static_cast<std::int64_t>(bytes.size());
    if (options_.progress) options_.progress(sent_, false);
    return true;
  }

  void walk() {
    std::uint32_t next_id = 0;
    bool broken = false;
    auto visit = [&](file_stat&& entry) -> status {
      if (next_id == configs::filesync_max_entries) {
        return make_error(errc::resource_exhausted, "too many files in one transfer");
      }
      if (is_regular(entry) && entry.linkname().empty()) {
        std::lock_guard lock(mutex_);
        files_.emplace(next_id, entry.path());
      }
      ++next_id;
      packet p;
      p.set_type(packet::PACKET_STAT);
      *p.mutable_stat() = std::move(entry);
      if (!write(p)) {
        broken = true;
        return make_error(errc::unavailable, "failed to send stat " + p.stat().path());
      }
      return {};
    };
    status walked = tree_.walk(visit, stopping_.get_token());
    if (walked) {
      packet last;
      last.set_type(packet::PACKET_STAT);
      write(last);
    } else if (broken) {
      fail(std::move(walked).error());
    } else if (!stopping_.stop_requested()) {
      fail_and_tell(std::move(walked).error());
    }
  }

  void send_files() {
    std::string buffer(configs::filesync_chunk_size, '\0');
    while (true) {
      request r;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return done_ || error_ || !queue_.empty(); });
        if (done_ || error_) return;
        r = std::move(queue_.front());
        queue_.pop_front();
      }
      if (!send_file(r, buffer)) {
        fail(make_error(errc::unavailable, "failed to send " + r.path));
        return;
      }
    }
  }

  // False when the stream is broken. A file that cannot be opened or read ends where it ends: the
  // receiver gets what there was, as upstream does for files that change under the walk.
  bool send_file(const request& r, std::string& buffer) {
    packet p;
    p.set_type(packet::PACKET_DATA);
    p.set_id(r.id);
    if (auto file = tree_.open(r.path)) {
      while (!stopping_.stop_requested()) {
        auto n = (*file)->read(std::span<char>(buffer.data(), buffer.size()));
        if (!n) {
          fail_and_tell(std::move(n).error().with_context(r.path));
          return true;
        }
        if (*n == 0) break;
        p.set_data(buffer.data(), *n);
        if (!write(p)) return false;
      }
    }
    p.clear_data();
    return write(p);
  }

  // Until the receiver's FIN (true) or the end of the stream.
  bool read_requests() {
    std::string bytes;
    packet p;
    while (stream_.read(bytes)) {
      if (!p.ParseFromString(bytes)) {
        fail_and_tell(make_error(errc::invalid_argument, "invalid packet from receiver"));
        return false;
      }
      switch (p.type()) {
        case packet::PACKET_ERR:
          fail(make_error(errc::unknown,
                          "error from receiver: " + p.data().substr(0, configs::filesync_max_error)));
          return false;
        case packet::PACKET_REQ: {
          std::unique_lock lock(mutex_);
          auto it = files_.find(p.id());
          if (it == files_.end()) {
            lock.unlock();
            fail_and_tell(make_error(errc::invalid_argument, "invalid file id " + std::to_string(p.id())));
            return false;
          }
          queue_.push_back({p.id(), std::move(it->second)});
          files_.erase(it);
          lock.unlock();
          wake_.notify_one();
          break;
        }
        case packet::PACKET_FIN: {
          packet fin;
          fin.set_type(packet::PACKET_FIN);
          write(fin);
          return true;
        }
        default: break;
      }
    }
    return false;
  }

  message_stream& stream_;
  file_tree& tree_;
  const send_options& options_;

  std::mutex write_mutex_;  // one writer at a time on the stream
  std::int64_t sent_ = 0;   // under write_mutex_

  std::mutex mutex_;
  std::condition_variable wake_;
  std::unordered_map<std::uint32_t, std::string> files_;  // told, not yet asked for
  std::deque<request> queue_;
  std::optional<error> error_;
  bool done_ = false;
  std::stop_source stopping_;
};

}  // namespace

status send(message_stream& stream, file_tree& tree, const send_options& options) {
  return sender(stream, tree, options).run();
}

}  // namespace kiln::filesync
