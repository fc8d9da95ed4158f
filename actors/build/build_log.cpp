#include "actors/build/build_log.hpp"

#include <algorithm>
#include <iterator>

#include "configs/solving.hpp"

namespace kiln::actors {

void build_log::add(ctl::StatusResponse status) {
  if (closed_) return;
  if (status.vertexes_size() > 0) complete(status);
  warnings_ += status.warnings_size();
  for (const auto& w : watchers_) caf::anon_send(w, status);
  auto bytes = status.ByteSizeLong();
  // Beyond the bounds they are for those who watch only; starts and ends are kept longest.
  auto bound = status.vertexes_size() == 0 ? configs::solving::build_log_bytes_max
                                           : configs::solving::build_states_bytes_max;
  if (bytes_ + bytes > bound) return;
  bytes_ += bytes;
  all_->push_back(std::move(status));
}

void build_log::complete(ctl::StatusResponse& status) {
  std::vector<ctl::Vertex> all;
  for (auto& v : *status.mutable_vertexes()) {
    auto known = steps_.find(v.digest());
    // Resumed, or ended again: told by one who knows the digest only.
    if (v.name().empty() && known != steps_.end() && !known->second.name().empty()) {
      auto whole = known->second;
      *whole.mutable_started() = v.started();
      if (v.has_completed()) *whole.mutable_completed() = v.completed();
      else whole.clear_completed();
      whole.set_cached(false);
      v = std::move(whole);
    }
    if (v.has_started()) add_cached_inputs(v, all);
    steps_[v.digest()] = v;
    all.push_back(std::move(v));
  }
  status.mutable_vertexes()->Assign(std::make_move_iterator(all.begin()), std::make_move_iterator(all.end()));
}

void build_log::add_cached_inputs(const ctl::Vertex& vertex, std::vector<ctl::Vertex>& out) {
  std::vector<std::string> open(vertex.inputs().begin(), vertex.inputs().end());
  std::vector<ctl::Vertex> found;
  while (!open.empty()) {
    auto known = steps_.find(open.back());
    open.pop_back();
    if (known == steps_.end() || known->second.has_started()) continue;
    auto& input = known->second;
    *input.mutable_started() = *input.mutable_completed() = vertex.started();
    input.set_cached(true);
    open.insert(open.end(), input.inputs().begin(), input.inputs().end());
    found.push_back(input);
  }
  out.insert(out.end(), found.rbegin(), found.rend());
}

void build_log::watch(const status_listener& who) {
  for (const auto& status : *all_) caf::anon_send(who, status);
  if (closed_) {
    caf::anon_send(who, done_atom::value);
  } else {
    watchers_.push_back(who);
  }
}

void build_log::close() {
  if (closed_) return;
  closed_ = true;
  for (const auto& w : std::exchange(watchers_, {})) caf::anon_send(w, done_atom::value);
}

int build_log::completed_steps() const {
  return static_cast<int>(
      std::count_if(steps_.begin(), steps_.end(), [](const auto& s) { return s.second.has_completed(); }));
}

int build_log::cached_steps() const {
  return static_cast<int>(
      std::count_if(steps_.begin(), steps_.end(), [](const auto& s) { return s.second.cached(); }));
}

std::string build_log::encode(const statuses& all) {
  std::string out;
  for (const auto& status : all) {
    auto bytes = status.SerializeAsString();
    auto size = static_cast<std::uint32_t>(bytes.size());
    for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>((size >> shift) & 0xff);
    out += bytes;
  }
  return out;
}

build_log::statuses build_log::decode(std::string_view bytes) {
  statuses out;
  while (bytes.size() >= 4) {
    std::uint32_t size = 0;
    for (int i = 0; i < 4; ++i)
      size |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]))
              << (8 * i);
    bytes.remove_prefix(4);
    if (size > bytes.size()) break;
    ctl::StatusResponse status;
    if (!status.ParseFromArray(bytes.data(), static_cast<int>(size))) break;
    bytes.remove_prefix(size);
    out.push_back(std::move(status));
  }
  return out;
}

}  // namespace kiln::actors
