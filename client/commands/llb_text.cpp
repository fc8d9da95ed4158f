#include "client/commands/llb_text.hpp"

#include <fmt/format.h>

#include "base/digest.hpp"
#include "base/quoting.hpp"
#include "base/text.hpp"
#include "client/commands/go_value.hpp"

namespace kiln::client {
namespace {

std::string action_text(const pb::FileAction& a) {
  if (a.has_copy()) return fmt::format("copy{{src={}, dest={}}}", a.copy().src(), a.copy().dest());
  if (a.has_mkfile()) return fmt::format("mkfile{{path={}}}", a.mkfile().path());
  if (a.has_mkdir()) return fmt::format("mkdir{{path={}}}", a.mkdir().path());
  if (a.has_rm()) return fmt::format("rm{{path={}}}", a.rm().path());
  if (a.has_symlink())
    return fmt::format("symlink{{oldpath={}, newpath={}}}", a.symlink().oldpath(), a.symlink().newpath());
  return {};
}

struct appearance {
  std::string label;
  const char* shape;
};

appearance appearance_of(const llb_op& o) {
  switch (o.op.op_case()) {
    case pb::Op::kSource: return {o.op.source().identifier(), "ellipse"};
    case pb::Op::kExec: {
      std::vector<std::string> args(o.op.exec().meta().args().begin(), o.op.exec().meta().args().end());
      return {join(args, " "), "box"};
    }
    case pb::Op::kBuild: return {"build", "box3d"};
    case pb::Op::kMerge: return {"merge", "invtriangle"};
    case pb::Op::kDiff: return {"diff", "doublecircle"};
    case pb::Op::kFile: {
      std::vector<std::string> names;
      for (const auto& a : o.op.file().actions()) names.push_back(action_text(a));
      return {join(names, ","), "note"};
    }
    default: return {o.digest, "plaintext"};
  }
}

}  // namespace

result<std::vector<llb_op>> load_llb(std::string_view bytes) {
  pb::Definition definition;
  if (!definition.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return make_error(errc::invalid_argument, "failed to parse input: not an LLB definition");
  std::vector<llb_op> out;
  for (const auto& op : definition.def()) {
    llb_op entry;
    if (!entry.op.ParseFromString(op)) return make_error(errc::invalid_argument, "failed to parse op");
    entry.digest = sha256(op).str();
    if (auto it = definition.metadata().find(entry.digest); it != definition.metadata().end())
      entry.metadata = it->second;
    out.push_back(std::move(entry));
  }
  return out;
}

std::string llb_json(const std::vector<llb_op>& ops) {
  std::string out;
  for (const auto& o : ops)
    out += fmt::format("{{\"Op\":{},\"Digest\":{},\"OpMetadata\":{}}}\n", to_json(from_message(o.op), true),
                       go_json_string(o.digest), to_json(from_message(o.metadata), true));
  return out;
}

std::string llb_dot(const std::vector<llb_op>& ops) {
  std::string out = "digraph {\n";
  for (const auto& o : ops) {
    auto [label, shape] = appearance_of(o);
    out += fmt::format("  {} [label={} shape=\"{}\"];\n", go_json_string(o.digest),
                       go_json_string(label, false), shape);
  }
  for (const auto& o : ops)
    for (int i = 0; i < o.op.inputs_size(); ++i) {
      std::string label;
      for (const auto& m : o.op.exec().mounts())
        if (m.input() == i && m.dest() != "/") label = m.dest();
      out += fmt::format("  {} -> {} [label={}];\n", go_json_string(o.op.inputs(i).digest()),
                         go_json_string(o.digest), go_json_string(label, false));
    }
  return out + "}\n";
}

}  // namespace kiln::client
