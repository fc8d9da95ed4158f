#include "actors/solve/vertex_progress.hpp"

#include <algorithm>

#include "configs/solving.hpp"

namespace kiln::actors {

namespace {

template <class Entries, class Predicate>
void keep_if_not(Entries& entries, Predicate drop) {
  entries.erase(std::remove_if(entries.begin(), entries.end(), drop), entries.end());
}

}  // namespace

vertex_progress::vertex_progress(const vertex_spec& spec) {
  vertex_.set_digest(spec.op.vertex);
  vertex_.set_name(spec.name);
  for (const auto& input : spec.input_originals) vertex_.add_inputs(input);
  if (spec.op.metadata.has_progress_group())
    *vertex_.mutable_progressgroup() = spec.op.metadata.progress_group();
}

void vertex_progress::join(const progress_actor& holder, const std::string& session) {
  auto same = [&](const holder_entry& h) { return h.handle == holder; };
  if (std::any_of(holders_.begin(), holders_.end(), same)) return;
  holders_.push_back({holder, session});
  ctl::StatusResponse first;
  // The vertex as planned; what happened already follows.
  auto& planned = *first.add_vertexes();
  planned = vertex_;
  planned.clear_started();
  planned.clear_completed();
  planned.clear_cached();
  planned.clear_error();
  caf::anon_send(holder, std::move(first));
  for (const auto& status : history_) caf::anon_send(holder, status);
}

void vertex_progress::leave(const progress_actor& holder) {
  std::erase_if(holders_, [&](const holder_entry& h) { return h.handle == holder; });
}

session_group vertex_progress::sessions() const {
  session_group out;
  for (const auto& h : holders_)
    if (!h.session.empty() && std::find(out.ids.begin(), out.ids.end(), h.session) == out.ids.end())
      out.ids.push_back(h.session);
  return out;
}

void vertex_progress::started() {
  if (open_) return;
  open_ = true;
  set_time(*vertex_.mutable_started(), unix_now_ns());
  vertex_.clear_completed();
  vertex_.set_cached(false);
  vertex_.clear_error();
  ctl::StatusResponse out;
  *out.add_vertexes() = vertex_;
  publish(std::move(out));
}

void vertex_progress::completed(const std::string& error, bool cached) {
  if (!open_) started();
  open_ = false;
  set_time(*vertex_.mutable_completed(), unix_now_ns());
  vertex_.set_cached(cached);
  vertex_.set_error(error);
  ctl::StatusResponse out;
  *out.add_vertexes() = vertex_;
  publish(std::move(out));
}

void vertex_progress::cached() {
  if (told_cached_) return;
  told_cached_ = true;
  completed("", true);
}

void vertex_progress::note(const std::string& text) {
  ctl::StatusResponse out;
  auto& status = *out.add_statuses();
  status.set_vertex(vertex_.digest());
  status.set_id(text);
  status.set_name(text);
  auto now = unix_now_ns();
  set_time(*status.mutable_timestamp(), now);
  set_time(*status.mutable_started(), now);
  set_time(*status.mutable_completed(), now);
  publish(std::move(out));
}

void vertex_progress::forward(ctl::StatusResponse status) {
  auto is_own = [this](const auto& v) { return v.digest() == vertex_.digest(); };
  for (const auto& v : status.vertexes())
    if (is_own(v) && !v.has_completed()) started();
  keep_if_not(*status.mutable_vertexes(), is_own);  // its end is told by whoever asked for the work
  publish_any(std::move(status));
}

void vertex_progress::follow() {
  followed_.clear();
  started();
}

void vertex_progress::adopt(ctl::StatusResponse status, const result_owners& known) {
  // Who is joined tells of itself first.
  if (followed_.empty() && status.vertexes_size() > 0) followed_ = status.vertexes(0).digest();
  auto is_unknown = [&](const std::string& digest) {
    return std::none_of(known.begin(), known.end(), [&](const auto& k) { return k.second == digest; });
  };
  keep_if_not(*status.mutable_vertexes(), [&](const auto& v) { return is_unknown(v.digest()); });
  auto adopt_all = [&](auto& entries) {
    for (auto& e : entries)
      if (e.vertex() == followed_ || followed_.empty()) e.set_vertex(vertex_.digest());
    keep_if_not(entries,
                [&](const auto& e) { return e.vertex() != vertex_.digest() && is_unknown(e.vertex()); });
  };
  adopt_all(*status.mutable_statuses());
  adopt_all(*status.mutable_logs());
  adopt_all(*status.mutable_warnings());
  publish_any(std::move(status));
}

void vertex_progress::publish_any(ctl::StatusResponse status) {
  if (status.vertexes_size() + status.statuses_size() + status.logs_size() + status.warnings_size() > 0)
    publish(std::move(status));
}

void vertex_progress::publish(ctl::StatusResponse status) {
  for (const auto& h : holders_) caf::anon_send(h.handle, status);
  auto bytes = status.ByteSizeLong();
  // Late joiners miss logs beyond the bound, never starts and ends.
  if (history_bytes_ + bytes > configs::solving::vertex_log_bytes_max && status.vertexes_size() == 0) return;
  history_bytes_ += bytes;
  history_.push_back(std::move(status));
}

}  // namespace kiln::actors
