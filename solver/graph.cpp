#include "solver/graph.hpp"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/shortened.hpp"
#include "configs/definition.hpp"
#include "solver/caps.hpp"
#include "solver/error_details.hpp"
#include "solver/validate.hpp"

namespace kiln::solver {

namespace {

namespace limits = configs::definition;

error invalid(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

struct loading_op {
  kiln::digest original;
  kiln::digest digest;
  pb::Op op;
  std::vector<int> inputs;  // indexes of ops
  int outputs = 0;
  bool mutated = false;
};

status check_stop(const std::stop_token& stop) {
  if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
  return {};
}

std::string deterministic_bytes(const pb::Op& op) {
  std::string out;
  {
    google::protobuf::io::StringOutputStream stream(&out);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    op.SerializeToCodedStream(&coded);
  }
  return out;
}

result<std::vector<loading_op>> parse_ops(const pb::Definition& definition, const std::stop_token& stop) {
  if (definition.def_size() == 0) return invalid("invalid empty definition");
  KILN_CHECK(check_count("definition", definition.ByteSizeLong(), "bytes", limits::bytes_max));
  KILN_CHECK(
      check_count("definition", static_cast<std::size_t>(definition.def_size()), "ops", limits::ops_max));
  std::vector<loading_op> out;
  std::unordered_map<std::string, int> index;
  std::size_t inputs = 0;
  int last = 0;
  for (const auto& raw : definition.def()) {
    KILN_CHECK(check_stop(stop));
    loading_op entry;
    if (!entry.op.ParseFromString(raw)) return invalid("failed to parse llb proto op");
    auto own_inputs = static_cast<std::size_t>(entry.op.inputs_size());
    KILN_CHECK(check_count("op", own_inputs, "inputs", limits::inputs_max));
    KILN_CHECK(
        check_count("definition", inputs += own_inputs, "inputs of all its ops", limits::all_inputs_max));
    for (int i = 0; i < entry.op.inputs_size(); ++i)
      if (entry.op.inputs(i).index() < 0)
        return invalid("invalid input " + std::to_string(i) + " output index " +
                       std::to_string(entry.op.inputs(i).index()));
    entry.original = entry.digest = sha256(raw);
    auto [at, fresh] = index.try_emplace(entry.original.str(), static_cast<int>(out.size()));
    last = at->second;
    if (fresh) out.push_back(std::move(entry));
  }
  if (out.size() < 2) return invalid("invalid LLB with " + std::to_string(out.size()) + " vertexes");
  for (auto& entry : out) {
    for (const auto& input : entry.op.inputs()) {
      auto at = index.find(input.digest());
      if (at == index.end()) return invalid("invalid missing input digest " + input.digest());
      entry.inputs.push_back(at->second);
    }
  }
  if (out[static_cast<std::size_t>(last)].inputs.empty())
    return invalid("invalid LLB with no inputs on last vertex");
  std::swap(out[static_cast<std::size_t>(last)], out.back());
  // Keep indexes right after the swap.
  auto end = static_cast<int>(out.size()) - 1;
  if (last != end)
    for (auto& entry : out)
      for (auto& i : entry.inputs) i = i == last ? end : i == end ? last : i;
  return out;
}

/// Behind the bytes of a step with a proxy, where its digest is made. Source: solver/llbsolver/vertex.go.
constexpr std::string_view proxy_text("\0buildkit.proxy-network.v0\0", 27);
const std::string proxy_suffix(proxy_text);

/// Whether a step reaches the network, and so does it through the proxy of a build that has one.
bool wants_proxy(const pb::Op& op) { return op.has_exec() && op.exec().network() != pb::NONE; }

std::string source_name(const pb::Op& op) { return op.source().identifier(); }

/// Joins texts up to a number of bytes; what comes after that nobody would see.
class bounded_text {
 public:
  bounded_text(std::string_view separator, std::size_t bytes_max)
      : separator_(separator), bytes_max_(bytes_max) {}
  /// False once there is enough.
  bool add(std::string_view part) {
    if (!text_.empty()) text_ += separator_;
    text_ += part.substr(0, bytes_max_ + 1 - std::min(bytes_max_, text_.size()));
    return text_.size() <= bytes_max_;
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
  std::string_view separator_;
  std::size_t bytes_max_;
};

std::string join(const auto& parts, std::string_view separator, std::size_t bytes_max) {
  bounded_text out(separator, bytes_max);
  for (const auto& p : parts)
    if (!out.add(p)) break;
  return out.take();
}

std::string action_name(const pb::FileAction& a) {
  switch (a.action_case()) {
    case pb::FileAction::kMkdir: return "mkdir " + a.mkdir().path();
    case pb::FileAction::kMkfile: return "mkfile " + a.mkfile().path();
    case pb::FileAction::kSymlink: return "symlink " + a.symlink().newpath() + " -> " + a.symlink().oldpath();
    case pb::FileAction::kRm: return "rm " + a.rm().path();
    case pb::FileAction::kCopy: return "copy " + a.copy().src() + " " + a.copy().dest();
    default: return "";
  }
}

std::string file_name(const pb::FileOp& file) {
  bounded_text out(", ", limits::name_bytes_max);
  for (const auto& a : file.actions())
    if (a.action_case() != pb::FileAction::ACTION_NOT_SET && !out.add(action_name(a))) break;
  return out.take();
}

std::string op_name(const pb::Op& op, const input_naming& input_name) {
  auto side = [&](std::int64_t index) {
    return index < 0 ? "scratch" : "(" + input_name(static_cast<int>(index)) + ")";
  };
  switch (op.op_case()) {
    case pb::Op::kSource: return source_name(op);
    case pb::Op::kExec: return join(op.exec().meta().args(), " ", limits::name_bytes_max);
    case pb::Op::kFile: return file_name(op.file());
    case pb::Op::kBuild: return "build";
    case pb::Op::kMerge: {
      bounded_text parts(", ", limits::joined_name_bytes_max);
      for (int i = 0; i < op.inputs_size(); ++i)
        if (!parts.add(input_name(i))) break;
      return shortened("merge (" + parts.take() + ")", limits::joined_name_bytes_max);
    }
    case pb::Op::kDiff:
      return shortened("diff " + side(op.diff().lower().input()) + " -> " + side(op.diff().upper().input()),
                       limits::joined_name_bytes_max);
    case pb::Op::kPassthrough: return "passthrough " + op.passthrough().id();
    default: return "unknown";
  }
}

}  // namespace

std::string vertex_name(const pb::Op& op, const pb::OpMetadata& metadata, const input_naming& input_name) {
  auto custom = metadata.description().find("llb.customname");
  return shortened(custom != metadata.description().end() ? custom->second : op_name(op, input_name),
                   limits::name_bytes_max);
}

result<std::vector<int>> dependency_order(int root, int count,
                                          const std::function<std::span<const int>(int)>& inputs,
                                          const std::function<std::string(int)>& name) {
  enum class mark : char { unseen, open, done };
  std::vector<mark> marks(static_cast<std::size_t>(count), mark::unseen);
  auto mark_of = [&](int n) -> mark& { return marks[static_cast<std::size_t>(n)]; };
  struct frame {
    int node;
    std::size_t next = 0;
  };
  std::vector<frame> path{{root}};
  std::vector<int> order;
  mark_of(root) = mark::open;
  while (!path.empty()) {
    auto& top = path.back();
    auto in = inputs(top.node);
    if (top.next == in.size()) {
      mark_of(top.node) = mark::done;
      order.push_back(top.node);
      path.pop_back();
      continue;
    }
    int next = in[top.next++];
    if (mark_of(next) == mark::done) continue;
    if (mark_of(next) == mark::open) {
      auto from = std::find_if(path.begin(), path.end(), [&](const frame& f) { return f.node == next; });
      std::string text;
      for (; from != path.end(); ++from) text += name(from->node) + " → ";
      return invalid("invalid LLB with a cycle: " + text + name(next));
    }
    mark_of(next) = mark::open;
    path.push_back({next});
  }
  return order;
}

result<graph> load(const pb::Definition& definition, const load_options& options) {
  KILN_TRY(auto ops, parse_ops(definition, options.stop));
  for (auto& entry : ops) {
    if (!options.mutate || !entry.op.has_source()) continue;
    KILN_CHECK(check_stop(options.stop));
    auto before = deterministic_bytes(entry.op);
    if (auto s = options.mutate(entry.op); !s.ok()) return std::move(s).error();
    entry.mutated = deterministic_bytes(entry.op) != before;
  }

  auto terminal = static_cast<int>(ops.size()) - 1;
  auto at = [&](int i) -> loading_op& { return ops[static_cast<std::size_t>(i)]; };
  auto root = at(terminal).inputs.front();
  KILN_TRY(auto order,
           dependency_order(
               root, static_cast<int>(ops.size()), [&](int i) { return std::span<const int>(at(i).inputs); },
               [&](int i) { return at(i).original.str(); }));

  graph out;
  out.source = std::make_shared<pb::Source>(definition.source());
  std::vector<std::size_t> places(ops.size());  // of ops among the vertices
  for (int i : order) {
    auto& entry = at(i);
    if (i == terminal) return invalid("invalid LLB with the terminal op among the inputs");
    KILN_CHECK(check_stop(options.stop));
    KILN_CHECK(validate_op(entry.op));
    entry.outputs = output_count(entry.op);
    KILN_CHECK(check_count("op", static_cast<std::size_t>(entry.outputs), "outputs", limits::outputs_max));
    for (int k = 0; k < entry.op.inputs_size(); ++k) {
      const auto& input = at(entry.inputs[static_cast<std::size_t>(k)]);
      if (entry.op.inputs(k).index() >= input.outputs)
        return invalid("invalid input " + std::to_string(k) + " of " + entry.original.str() + ": " +
                       input.original.str() + " has " + std::to_string(input.outputs) +
                       " outputs, not output " + std::to_string(entry.op.inputs(k).index()));
      if (input.digest.str() != entry.op.inputs(k).digest()) {
        entry.op.mutable_inputs(k)->set_digest(input.digest.str());
        entry.mutated = true;
      }
    }

    vertex v;
    v.original = entry.original;
    if (auto m = definition.metadata().find(entry.original.str()); m != definition.metadata().end())
      v.metadata = m->second;
    if (options.ignore_cache) v.metadata.set_ignore_cache(true);
    if (options.check_capabilities)
      for (const auto& [cap, wanted] : v.metadata.caps()) KILN_CHECK(check_llb_capability(cap));
    if (options.granted) {
      KILN_CHECK(options.granted->check(entry.op));
      // Two builds may mean different devices by the same words: then these are different steps.
      if (entry.op.exec().cdidevices_size() > 0) {
        KILN_CHECK(options.granted->admit_devices(*entry.op.mutable_exec(), options.devices));
        entry.mutated = true;
      }
    }
    v.has_proxy = !options.proxy_rules.empty() && wants_proxy(entry.op);
    if (v.has_proxy)
      entry.digest = sha256(deterministic_bytes(entry.op) + proxy_suffix + options.proxy_rules);
    else if (entry.mutated) entry.digest = sha256(deterministic_bytes(entry.op));
    v.digest = entry.digest;
    v.platform = entry.op.has_platform() && !entry.op.platform().os().empty()
                     ? normalize(from_proto(entry.op.platform()))
                     : options.default_platform;
    to_proto(v.platform, *entry.op.mutable_platform());
    v.name = vertex_name(entry.op, v.metadata, [&](int k) -> const std::string& {
      return out.vertices[places[static_cast<std::size_t>(entry.inputs[static_cast<std::size_t>(k)])]].name;
    });
    places[static_cast<std::size_t>(i)] = out.vertices.size();
    for (int k = 0; k < entry.op.inputs_size(); ++k)
      v.inputs.push_back({at(entry.inputs[static_cast<std::size_t>(k)]).digest,
                          static_cast<int>(entry.op.inputs(k).index())});
    v.op = std::move(entry.op);
    out.vertices.push_back(std::move(v));
  }
  auto index = at(terminal).op.inputs(0).index();
  if (index >= at(root).outputs)
    return invalid("invalid result: " + at(root).original.str() + " has " + std::to_string(at(root).outputs) +
                   " outputs, not output " + std::to_string(index));
  out.root = {at(root).digest, static_cast<int>(index)};
  return out;
}

std::map<std::string, bool> caches_to_prune(const graph& g) {
  std::map<std::string, bool> out;
  for (const auto& v : g.vertices) {
    if (!v.metadata.ignore_cache() || !v.op.has_exec()) continue;
    for (const auto& m : v.op.exec().mounts()) {
      if (m.mounttype() != pb::CACHE || !m.has_cacheopt()) continue;
      out[m.cacheopt().id().empty() ? m.dest() : m.cacheopt().id()] = m.input() != -1;
    }
  }
  return out;
}

std::vector<error_detail> source_details(const pb::Locations& locations,
                                         std::span<const pb::SourceInfo> infos) {
  std::vector<error_detail> out;
  // Clients unwrap details from the outside in: the last location comes first.
  for (int n = locations.locations_size() - 1; n >= 0; --n) {
    const auto& location = locations.locations(n);
    auto index = location.sourceindex();
    if (index < 0 || static_cast<std::size_t>(index) >= infos.size()) continue;
    out.push_back(source_detail(infos[static_cast<std::size_t>(index)], location));
  }
  return out;
}

}  // namespace kiln::solver
