#include "solver/validate.hpp"

#include <algorithm>
#include <string>

#include "configs/definition.hpp"
#include "messages/outside_fields.hpp"

namespace kiln::solver {

namespace {

namespace limits = configs::definition;

constexpr std::int64_t none = -1;

error invalid(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

bool names_input(std::int64_t index, int inputs) { return index >= 0 && index < inputs; }

status check_exec(const pb::ExecOp& exec, int inputs) {
  if (!exec.has_meta()) return invalid("invalid exec op with no meta");
  if (exec.meta().args_size() == 0) return invalid("invalid exec op with no args");
  if (exec.mounts_size() == 0) return invalid("invalid exec op with no mounts");
  KILN_CHECK(
      check_count("exec op", static_cast<std::size_t>(exec.mounts_size()), "mounts", limits::mounts_max));
  bool root = false;
  for (const auto& m : exec.mounts()) {
    if (m.dest() == "/") {
      root = true;
      if (m.mounttype() != pb::BIND)
        return invalid("invalid exec op with a root mount that is no bind mount");
    }
    bool uses_input = m.mounttype() == pb::BIND || m.mounttype() == pb::CACHE;
    if (uses_input && m.input() != none && !names_input(m.input(), inputs))
      return invalid("invalid mountinput " + std::to_string(m.input()) + " of mount " + m.dest() +
                     " in exec op with " + std::to_string(inputs) + " inputs");
  }
  if (!root) return invalid("invalid exec op with no rootfs");
  return {};
}

status check_file(const pb::FileOp& file, int inputs) {
  if (file.actions_size() == 0) return invalid("invalid file op with no actions");
  KILN_CHECK(
      check_count("file op", static_cast<std::size_t>(file.actions_size()), "actions", limits::actions_max));
  for (int i = 0; i < file.actions_size(); ++i) {
    const auto& a = file.actions(i);
    auto refuse = [i](std::string what) {
      return invalid(std::move(what) + " of action " + std::to_string(i) + " in file op");
    };
    if (a.action_case() == pb::FileAction::ACTION_NOT_SET) return refuse("invalid empty type");
    // Real inputs first, then the results of earlier actions.
    if (a.input() != none && !names_input(a.input(), inputs + i))
      return refuse("invalid input index " + std::to_string(a.input()));
    if (a.secondaryinput() != none && !names_input(a.secondaryinput(), inputs + i))
      return refuse("invalid secondary input index " + std::to_string(a.secondaryinput()));
    if (a.output() < none || a.output() > file.actions_size())
      return refuse("invalid output index " + std::to_string(a.output()));
  }
  return {};
}

}  // namespace

status validate_op(const pb::Op& op) {
  if (auto s = check_fields(op); !s.ok()) return std::move(s).error().with_context("invalid op");
  auto inputs = op.inputs_size();
  switch (op.op_case()) {
    case pb::Op::kSource:
      if (op.source().identifier().empty()) return invalid("invalid source op with no identifier");
      return {};
    case pb::Op::kExec: return check_exec(op.exec(), inputs);
    case pb::Op::kFile: return check_file(op.file(), inputs);
    case pb::Op::kBuild: return {};
    case pb::Op::kMerge:
      for (const auto& input : op.merge().inputs())
        if (!names_input(input.input(), inputs))
          return invalid("invalid merge input index " + std::to_string(input.input()));
      return {};
    case pb::Op::kDiff: {
      if (!op.diff().has_lower() || !op.diff().has_upper())
        return invalid("invalid diff op with nil lower or upper input");
      for (auto index : {op.diff().lower().input(), op.diff().upper().input()})
        if (index != none && !names_input(index, inputs))
          return invalid("invalid diff input index " + std::to_string(index));
      return {};
    }
    case pb::Op::kPassthrough:
      if (op.passthrough().id().empty()) return invalid("invalid passthrough op with no id");
      if (op.passthrough().outputs_size() == 0) return invalid("invalid passthrough op with no outputs");
      for (auto index : op.passthrough().outputs())
        if (!names_input(index, inputs))
          return invalid("invalid passthrough output input index " + std::to_string(index));
      return {};
    default: return invalid("invalid op with no type");
  }
}

status check_count(std::string_view owner, std::size_t count, std::string_view things,
                   std::size_t count_max) {
  if (count <= count_max) return {};
  return invalid("invalid " + std::string(owner) + " with " + std::to_string(count) + " " +
                 std::string(things) + ": at most " + std::to_string(count_max) + " are allowed");
}

int output_count(const pb::Op& op) {
  std::int64_t count = 1;
  switch (op.op_case()) {
    case pb::Op::kExec: {
      count = 0;
      for (const auto& m : op.exec().mounts())
        if (m.mounttype() == pb::BIND) count = std::max(count, m.output() + 1);
      break;
    }
    case pb::Op::kFile: {
      count = 0;
      for (const auto& a : op.file().actions()) count = std::max(count, a.output() + 1);
      break;
    }
    case pb::Op::kPassthrough: count = op.passthrough().outputs_size(); break;
    default: break;
  }
  return static_cast<int>(std::min<std::int64_t>(count, 1 << 16));
}

}  // namespace kiln::solver
