#include "gateway/control/control_requests.hpp"

#include <algorithm>

#include "base/time_text.hpp"
#include "base/utf8.hpp"
#include "store/files/file_facts.hpp"

namespace kiln::gateway {

namespace ctl = moby::buildkit::v1;

namespace {

void fix_text(std::string* text) {
  if (!is_valid_utf8(*text)) *text = valid_utf8(*text);
}

}  // namespace

void drop_passing(ctl::StatusResponse& delta) {
  delta.clear_logs();
  auto& statuses = *delta.mutable_statuses();
  auto last =
      std::remove_if(statuses.begin(), statuses.end(), [](const auto& s) { return !s.has_completed(); });
  statuses.erase(last, statuses.end());
}

std::vector<ctl::StatusResponse> split_status(ctl::StatusResponse&& whole, std::size_t bytes_max) {
  for (auto& v : *whole.mutable_vertexes()) {
    fix_text(v.mutable_name());
    fix_text(v.mutable_error());
  }
  for (auto& s : *whole.mutable_statuses()) {
    fix_text(s.mutable_id());
    fix_text(s.mutable_name());
  }
  for (auto& w : *whole.mutable_warnings()) fix_text(w.mutable_url());
  std::vector<ctl::StatusResponse> parts;
  if (whole.ByteSizeLong() <= bytes_max) {
    parts.push_back(std::move(whole));
    return parts;
  }
  std::size_t used = 0;
  parts.emplace_back();
  auto room_for = [&](std::size_t bytes) -> ctl::StatusResponse& {
    if (used > 0 && used + bytes > bytes_max) {
      parts.emplace_back();
      used = 0;
    }
    used += bytes;
    return parts.back();
  };
  for (auto& v : *whole.mutable_vertexes()) room_for(v.ByteSizeLong()).add_vertexes()->Swap(&v);
  for (auto& s : *whole.mutable_statuses()) room_for(s.ByteSizeLong()).add_statuses()->Swap(&s);
  for (auto& log : *whole.mutable_logs()) {
    if (log.ByteSizeLong() <= bytes_max) {
      room_for(log.ByteSizeLong()).add_logs()->Swap(&log);
      continue;
    }
    std::string bytes;
    bytes.swap(*log.mutable_msg());
    for (std::size_t at = 0; at < bytes.size(); at += bytes_max) {
      auto n = std::min(bytes_max, bytes.size() - at);
      auto* piece = room_for(n).add_logs();
      *piece = log;
      piece->set_msg(bytes.substr(at, n));
    }
  }
  for (auto& w : *whole.mutable_warnings()) room_for(w.ByteSizeLong()).add_warnings()->Swap(&w);
  return parts;
}

prune_rule rule_of(const ctl::PruneRequest& request) {
  return {.filters = {request.filter().begin(), request.filter().end()},
          .all = request.all(),
          .keep_duration_ns = request.keepduration(),
          .reserved_space = request.reservedspace(),
          .max_used_space = request.maxusedspace(),
          .min_free_space = request.minfreespace()};
}

std::string rfc3339_nano_now() { return format_rfc3339_nine(store::now_ns()); }

}  // namespace kiln::gateway
