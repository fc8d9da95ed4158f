// What steps counted by when they last ran, kept in the daemon's own values: the ground for reasons.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "configs/solving.hpp"
#include "messages/solve_types.hpp"
#include "solver/reason.hpp"
#include "store/ref_store.hpp"

namespace kiln::actors {

/// Steps share a bounded number of places: of two in one place the later is remembered.
inline constexpr const char* step_bucket = "step-places";

inline std::string step_identity(const vertex_spec& spec) {
  return sha256(solver::step_position(spec.name, format_platform(spec.op.platform))).str();
}

inline std::string step_place(std::string_view identity) {
  auto number = std::strtoull(std::string(identity.substr(identity.find(':') + 1, 15)).c_str(), nullptr, 16);
  return std::to_string(number % configs::solving::step_records_max);
}

/// Blocking.
inline std::optional<solver::step_record> recall_step(store::ref_store& store, const std::string& identity) {
  auto text = store.values().get(step_bucket, step_place(identity));
  if (!text || !text->starts_with(identity + "\n")) return std::nullopt;
  auto record = solver::decode_step_record(std::string_view(*text).substr(identity.size() + 1));
  if (!record.ok()) return std::nullopt;
  return *std::move(record);
}

/// What remember_step() takes.
inline std::pair<std::string, std::string> encode_step(const vertex_spec& spec,
                                                       const solver::step_record& now) {
  auto identity = step_identity(spec);
  return {step_place(identity), identity + "\n" + solver::encode(now)};
}

/// Blocking (a commit). A failure only costs a reason later.
inline void remember_step(store::ref_store& store, const std::pair<std::string, std::string>& step) {
  if (step.second.size() > configs::solving::step_record_bytes_max) return;
  if (store.values().get(step_bucket, step.first) == step.second) return;
  (void)store.values().set(step_bucket, step.first, step.second).ok();
}

}  // namespace kiln::actors
