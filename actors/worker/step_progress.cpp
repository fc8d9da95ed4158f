#include "actors/worker/step_progress.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "store/layers/layer_ids.hpp"
#include "store/ref_store.hpp"

namespace kiln::actors {

step_progress::resumed_vertex::resumed_vertex(progress_actor to, std::string vertex, bool told)
    : progress_sender(to, vertex), to_(std::move(to)), vertex_(std::move(vertex)), told_(told) {}

void step_progress::resumed_vertex::progress(std::string_view id, std::int64_t current, std::int64_t total,
                                             bool done) {
  begin();
  progress_sender::progress(id, current, total, done);
}

void step_progress::resumed_vertex::begin() {
  std::lock_guard lock{mutex_};
  if (std::exchange(told_, true)) return;
  began_ns_ = unix_now_ns();
  tell(false);
}

void step_progress::resumed_vertex::end() {
  std::lock_guard lock{mutex_};
  if (began_ns_ != 0) tell(true);
  began_ns_ = 0;
}

// Whoever keeps a build's log knows the rest of the vertex.
void step_progress::resumed_vertex::tell(bool ended) const {
  ctl::StatusResponse out;
  auto& vertex = *out.add_vertexes();
  vertex.set_digest(vertex_);
  set_time(*vertex.mutable_started(), began_ns_);
  if (ended) set_time(*vertex.mutable_completed(), unix_now_ns());
  caf::anon_send(to_, std::move(out));
}

step_progress::step_progress(store::ref_store& store, progress_actor to, std::string vertex,
                             const result_owners& owners, own state)
    : to_(to), own_(std::move(to), std::move(vertex), state == own::told) {
  // A layer is of the smallest of the results that have it.
  std::vector<std::pair<std::vector<std::string>, std::string>> results;
  for (const auto& [record, owner] : owners)
    if (auto ref = store.get(record); ref.ok()) results.emplace_back(store::layer_ids(*ref), owner);
  std::sort(results.begin(), results.end(),
            [](const auto& a, const auto& b) { return a.first.size() < b.first.size(); });
  for (const auto& [layers, owner] : results)
    for (const auto& layer : layers) owners_.try_emplace(layer, owner);
}

step_progress::~step_progress() {
  for (auto& [vertex, sink] : others_) sink->end();
  own_.end();
}

void step_progress::begin() {
  for (auto& [vertex, sink] : others_) sink->end();
  own_.begin();
}

void step_progress::log(int stream, std::string_view bytes) { own_.log(stream, bytes); }

void step_progress::progress(std::string_view id, std::int64_t current, std::int64_t total, bool done) {
  own_.progress(id, current, total, done);
}

void step_progress::warn(std::string_view text) { own_.warn(text); }

progress_sink& step_progress::of_layer(std::string_view record) {
  auto owner = owners_.find(record);
  if (owner == owners_.end()) return own_;
  std::lock_guard lock{mutex_};
  auto& sink = others_[owner->second];
  if (!sink) sink = std::make_unique<resumed_vertex>(to_, owner->second, false);
  return *sink;
}

}  // namespace kiln::actors
