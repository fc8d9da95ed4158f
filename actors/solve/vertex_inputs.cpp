// What a vertex asks to know itself: its cache map, and the keys, results and contents of its inputs.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "actors/solve/vertex_state.hpp"
#include "configs/placing.hpp"
#include "configs/solving.hpp"
#include "solver/error_details.hpp"

namespace kiln::actors {

void vertex_state::ask_cache_map(int index) {
  maps_ = fact::asked;
  if (phase_ == phase::idle) phase_.move_to(phase::keying);
  if (options_.spec.op.op.has_source()) progress_->started();
  self_
      ->request(worker(), caf::infinite, key_request{options_.spec.op, index, progress_->sessions()},
                progress_handle())
      .then(
          [this, index](key_reply& reply) {
            if (options_.spec.op.op.has_source()) progress_->completed("", false);
            take_cache_map(index, reply);
          },
          [this](caf::error& e) { fail_while("failed to load cache key", wrap(from_caf(e))); });
}

void vertex_state::take_cache_map(int index, key_reply& reply) {
  if (reply.dependencies.size() != inputs_.size())
    return fail(wrap(make_error(errc::internal, "op of " + options_.spec.name + " keys " +
                                                    std::to_string(reply.dependencies.size()) +
                                                    " inputs, it has " + std::to_string(inputs_.size()))));
  if (index == 0) {
    map_.op_digest = reply.op_digest;
    origin_ = std::move(reply.origin);
    pin_ = std::move(reply.pin);
    for (auto& d : reply.dependencies)
      map_.dependencies.push_back({std::move(d.selector), d.content_based, std::move(d.content)});
  } else {
    further_roots_.push_back(reply.op_digest);
    ++facts_;
  }
  map_.more = reply.more && map_index_ + 1 < configs::solving::cache_maps_max;
  maps_ = fact::known;
  advance();
}

void vertex_state::ask_input_keys(std::size_t i, bool by_content) {
  auto& input = inputs_[i];
  (by_content ? input.content_keys : input.definition_keys) = fact::asked;
  self_
      ->request(options_.inputs[i], caf::infinite, keys_atom::value, options_.spec.inputs[i].index,
                by_content)
      .then(
          [this, i, by_content](key_set& reply) {
            (by_content ? inputs_[i].content_keys : inputs_[i].definition_keys) = fact::known;
            take_input_keys(i, reply.keys);
            advance();
          },
          [this](caf::error& e) { input_failed(e); });
}

void vertex_state::take_input_keys(std::size_t i, const std::vector<std::string>& keys) {
  auto& known = inputs_[i].keys;
  for (const auto& key : keys)
    if (std::find(known.begin(), known.end(), key) == known.end()) known.push_back(key);
  ++facts_;  // also when all were known: a concurrent build may have saved links since
}

void vertex_state::need_result(std::size_t i) {
  auto& input = inputs_[i];
  if (input.result != fact::unknown) return;
  input.result = fact::asked;
  self_->request(options_.inputs[i], caf::infinite, result_atom::value, options_.spec.inputs[i].index)
      .then(
          [this, i](vertex_result& reply) {
            inputs_[i].result = fact::known;
            inputs_[i].value = reply;
            take_input_keys(i, reply.keys);
            if (inputs_[i].content == fact::asked) ask_content(i);
            advance();
          },
          [this](caf::error& e) { input_failed(e); });
}

void vertex_state::need_content(std::size_t i) {
  auto& input = inputs_[i];
  if (input.content != fact::unknown) return;
  input.content = fact::asked;
  need_result(i);
  if (input.result == fact::known) ask_content(i);
}

void vertex_state::ask_content(std::size_t i) {
  const auto& ref = inputs_[i].value.ref;
  checksum_request request{options_.spec.input_originals[i], ref, map_.dependencies[i].content,
                           progress_->sessions(), inputs_[i].value.owners};
  self_->request(worker(), caf::infinite, std::move(request), progress_handle())
      .then(
          [this, i](const digest& content) {
            inputs_[i].content = fact::known;
            inputs_[i].content_digest = content;
            ++facts_;
            advance();
          },
          [this, i](caf::error& e) {
            // The work is under way, or done, without it.
            if (phase_ >= phase::following) return void(inputs_[i].content = fact::unknown);
            auto failure = from_caf(e);
            if (failure.code == errc::cancelled) return fail(std::move(failure));
            if (remake_input(failure)) return;
            // What the build's own files lack is nothing that clients could look for elsewhere.
            if (failure.code == errc::not_found) failure.code = errc::unknown;
            fail_while("failed to compute cache key", wrap(std::move(failure), static_cast<int>(i)));
          });
}

bool vertex_state::remake_input(const error& e) {
  auto ref = solver::lost_ref_of(e);
  if (ref.empty() || remade_ >= configs::placing::rederived_max) return false;
  bool mine = false;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    auto& input = inputs_[i];
    if (input.result != fact::known || input.value.ref != ref) continue;
    mine = true;
    self_->send(options_.inputs[i], lost_atom::value, options_.spec.inputs[i].index, ref);
    input.result = fact::unknown;
    // Made again it may come out differently.
    input.content = fact::unknown;
  }
  if (!mine) return false;
  ++remade_;
  spdlog::info("{}: {}", options_.spec.name, e.message);
  ++facts_;
  for (auto& [index, out] : outputs_)
    if (!out.result) out.search.reset();
  if (phase_ == phase::claiming || phase_ == phase::running) phase_.move_to(phase::collecting);
  if (phase_ == phase::collecting) {
    collect();
  } else {
    advance();
  }
  return true;
}

}  // namespace kiln::actors
