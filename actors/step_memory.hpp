// What steps counted by when they last ran, kept in the daemon's own values: the ground for reasons.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "messages/solve_types.hpp"
#include "solver/reason.hpp"
#include "store/ref_store.hpp"

namespace kiln::actors {

inline constexpr const char* step_bucket = "steps";

inline std::string step_key(const vertex_spec& spec) {
  return sha256(solver::step_position(spec.name, format_platform(spec.op.platform))).str();
}

inline std::optional<solver::step_record> recall_step(store::ref_store& store, const vertex_spec& spec) {
  auto text = store.value(step_bucket, step_key(spec));
  if (!text) return std::nullopt;
  auto record = solver::decode_step_record(*text);
  if (!record.ok()) return std::nullopt;
  return *std::move(record);
}

inline std::pair<std::string, std::string> encode_step(const vertex_spec& spec, const solver::step_record& now) {
  return {step_key(spec), solver::encode(now)};
}

/// Blocking (a commit). A failure only costs a reason later.
inline void remember_step(store::ref_store& store, const std::pair<std::string, std::string>& step) {
  if (store.value(step_bucket, step.first) == step.second) return;
  (void)store.set_value(step_bucket, step.first, step.second).ok();
}

}  // namespace kiln::actors
