// Standing where a worker is expected: a behaviour for every message of worker_actor, made from one
// function that is told what the reply must be. Remote workers relay with it, workers delegate.
#pragma once

#include <utility>

#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

/// `ask.template operator()<Reply>(message parts…)` answers a question; `tell(message parts…)` passes on
/// what has no answer. Both get the parts as they came. `more` handles what `Face` adds to worker_actor, in
/// its order.
template <class Face = worker_actor, class Ask, class Tell, class... More>
typename Face::behavior_type forward_worker_messages(Ask ask, Tell tell, More... more) {
  return {
      [=](describe_atom a) { return ask.template operator()<types::WorkerRecord>(a); },
      [=](key_request& r, const progress_actor& p) {
        return ask.template operator()<key_reply>(std::move(r), p);
      },
      [=](run_request& r, const progress_actor& p) {
        return ask.template operator()<run_reply>(std::move(r), p);
      },
      [=](checksum_request& r, const progress_actor& p) {
        return ask.template operator()<digest>(std::move(r), p);
      },
      [=](pin_atom a, const std::string& id) { return ask.template operator()<bool>(a, id); },
      [=](release_atom a, const std::string& id) { tell(a, id); },
      [=](ref_scope& s, gw::ReadFileRequest& r) {
        return ask.template operator()<gw::ReadFileResponse>(std::move(s), std::move(r));
      },
      [=](ref_scope& s, gw::ReadDirRequest& r) {
        return ask.template operator()<gw::ReadDirResponse>(std::move(s), std::move(r));
      },
      [=](ref_scope& s, gw::StatFileRequest& r) {
        return ask.template operator()<gw::StatFileResponse>(std::move(s), std::move(r));
      },
      [=](session_group& s, gw::ResolveSourceMetaRequest& r, const progress_actor& p) {
        return ask.template operator()<gw::ResolveSourceMetaResponse>(std::move(s), std::move(r), p);
      },
      [=](check_atom a, export_spec& s) { return ask.template operator()<std::string>(a, std::move(s)); },
      [=](export_request& r, const progress_actor& p) {
        return ask.template operator()<export_reply>(std::move(r), p);
      },
      [=](finalize_atom a, std::uint64_t id, export_request& r, const progress_actor& p) {
        return ask.template operator()<export_reply>(a, id, std::move(r), p);
      },
      [=](prune_caches& r) { return ask.template operator()<bool>(std::move(r)); },
      [=](check_atom a, cache_entry& e) {
        return ask.template operator()<cache_export_kind>(a, std::move(e));
      },
      [=](cache_import& r, const progress_actor& p) {
        return ask.template operator()<bool>(std::move(r), p);
      },
      [=](import_load& r, const progress_actor& p) {
        return ask.template operator()<run_reply>(std::move(r), p);
      },
      [=](cache_export& r, const progress_actor& p) {
        return ask.template operator()<export_reply>(std::move(r), p);
      },
      [=](load_count_atom a) { return ask.template operator()<worker_load>(a); },
      [=](remember_atom a, const cache_records& f) { tell(a, f); },
      [=](leave_atom a, const caf::strong_actor_ptr& who) { tell(a, who); },
      std::move(more)...,
  };
}

}  // namespace kiln::actors
