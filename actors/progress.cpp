#include "actors/progress.hpp"

#include <algorithm>

#include "configs/solving.hpp"

namespace kiln::actors {

void progress_sender::log(int stream, std::string_view bytes) {
  while (!bytes.empty()) {
    auto size = std::min(bytes.size(), configs::solving::status_log_bytes_max);
    ctl::StatusResponse out;
    auto& entry = *out.add_logs();
    entry.set_vertex(vertex_);
    entry.set_stream(stream);
    set_time(*entry.mutable_timestamp(), unix_now_ns());
    entry.set_msg(std::string(bytes.substr(0, size)));
    bytes.remove_prefix(size);
    caf::anon_send(to_, std::move(out));
  }
}

void progress_sender::progress(std::string_view id, std::int64_t current, std::int64_t total, bool done) {
  constexpr std::int64_t interval_ns = 100'000'000;  // between two updates of one status
  auto now = unix_now_ns();
  ctl::StatusResponse out;
  {
    std::lock_guard lock{mutex_};
    auto found = statuses_.find(id);
    if (found == statuses_.end()) {
      found = statuses_.emplace(std::string(id), shown{now, 0}).first;
    } else if (!done && now - found->second.sent_ns < interval_ns) {
      return;
    }
    found->second.sent_ns = now;
    auto& entry = *out.add_statuses();
    entry.set_id(std::string(id));
    // The name says what is done, the id to what as well.
    constexpr std::string_view transfer = "transferring";
    bool is_transfer = id.starts_with(transfer) && id.substr(transfer.size()).starts_with(' ');
    entry.set_name(std::string(is_transfer ? transfer : id));
    entry.set_vertex(vertex_);
    entry.set_current(current);
    entry.set_total(total);
    set_time(*entry.mutable_timestamp(), now);
    set_time(*entry.mutable_started(), found->second.started_ns);
    if (done) {
      set_time(*entry.mutable_completed(), now);
      statuses_.erase(found);
    }
  }
  caf::anon_send(to_, std::move(out));
}

void progress_sender::warn(std::string_view text) {
  ctl::StatusResponse out;
  auto& entry = *out.add_warnings();
  entry.set_vertex(vertex_);
  entry.set_level(1);
  entry.set_short_(std::string(text));
  caf::anon_send(to_, std::move(out));
}

}  // namespace kiln::actors
