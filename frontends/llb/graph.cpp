#include "frontends/llb/graph.hpp"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "base/utf8.hpp"

namespace kiln::llb {

std::string deterministic_bytes(const google::protobuf::MessageLite& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

std::string op_bytes(pb::Op op) {
  pb::Op kind;
  switch (op.op_case()) {
    case pb::Op::kExec: kind.mutable_exec()->Swap(op.mutable_exec()); break;
    case pb::Op::kSource: kind.mutable_source()->Swap(op.mutable_source()); break;
    case pb::Op::kFile: kind.mutable_file()->Swap(op.mutable_file()); break;
    case pb::Op::kBuild: kind.mutable_build()->Swap(op.mutable_build()); break;
    case pb::Op::kMerge: kind.mutable_merge()->Swap(op.mutable_merge()); break;
    case pb::Op::kDiff: kind.mutable_diff()->Swap(op.mutable_diff()); break;
    case pb::Op::kPassthrough: kind.mutable_passthrough()->Swap(op.mutable_passthrough()); break;
    case pb::Op::OP_NOT_SET: break;
  }
  op.clear_op();
  // Fields of one message may be written in pieces.
  return deterministic_bytes(op) + deterministic_bytes(kind);
}

namespace {

/// Whether a container can be told all of it.
bool is_text(const pb::ExecOp& exec) {
  auto valid = [](const std::string& text) { return is_valid_utf8(text); };
  const auto& meta = exec.meta();
  return std::all_of(meta.args().begin(), meta.args().end(), valid) &&
         std::all_of(meta.env().begin(), meta.env().end(), valid) && valid(meta.cwd()) &&
         valid(meta.user()) &&
         std::all_of(exec.mounts().begin(), exec.mounts().end(),
                     [&](const pb::Mount& m) { return valid(m.dest()); });
}

}  // namespace

pb::SourceInfo source_map::info() const {
  pb::SourceInfo out;
  out.set_filename(filename);
  out.set_data(data);
  out.set_language(language);
  if (definition.def_size() > 0) *out.mutable_definition() = definition;
  return out;
}

pb::Input encoder::input_of(const output& out) const {
  auto real = resolve(out);
  pb::Input input;
  input.set_digest(encoded(*real.node).digest);
  input.set_index(real.node->output_index(real.slot));
  return input;
}

pb::OpMetadata vertex::metadata() const {
  pb::OpMetadata md;
  md.set_ignore_cache(info_.ignore_cache);
  for (const auto& [key, value] : info_.description) (*md.mutable_description())[key] = value;
  for (const auto& cap : info_.caps) (*md.mutable_caps())[cap] = true;
  if (info_.progress_group) *md.mutable_progress_group() = *info_.progress_group;
  if (info_.resources) *md.mutable_linux_resources() = *info_.resources;
  return md;
}

result<std::string> deferred_vertex::encode(const encoder&) const {
  return make_error(errc::internal, "deferred LLB vertex was never bound");
}

output deferred_vertex::forward(int) const { return bound_ ? target_ : output{this, 0}; }

output resolve(output out) {
  while (out) {
    auto next = out.node->forward(out.slot);
    if (next == out) return out;
    out = next;
  }
  return out;
}

namespace {

void merge_metadata(pb::OpMetadata& into, const pb::OpMetadata& from) {
  if (from.ignore_cache()) into.set_ignore_cache(true);
  for (const auto& [key, value] : from.description()) (*into.mutable_description())[key] = value;
  if (from.has_export_cache()) *into.mutable_export_cache() = from.export_cache();
  for (const auto& [key, value] : from.caps()) (*into.mutable_caps())[key] = value;
  if (from.has_progress_group()) *into.mutable_progress_group() = from.progress_group();
  if (from.has_linux_resources()) *into.mutable_linux_resources() = from.linux_resources();
}

bool same_file(const source_map& a, const source_map& b) {
  return a.filename == b.filename && a.language == b.language && a.data == b.data &&
         a.head_digest == b.head_digest;
}

class marshaller final : public encoder {
 public:
  explicit marshaller(const marshal_options& options) : options_(options) {}

  const encoded_op& encoded(const vertex& v) const override { return encoded_.at(&v); }
  const marshal_options& options() const override { return options_; }

  result<pb::Definition> run(const output& out) {
    KILN_CHECK(visit(*out.node));
    pb::Op terminal;
    *terminal.add_inputs() = input_of(out);
    auto bytes = deterministic_bytes(terminal);
    auto terminal_digest = sha256(bytes).str();
    definition_.add_def(std::move(bytes));
    pb::OpMetadata last;
    auto& caps = *last.mutable_caps();
    caps["constraints"] = true;
    caps["platform"] = true;
    for (const auto& [digest, md] : definition_.metadata()) {
      if (md.ignore_cache()) caps["meta.ignorecache"] = true;
      if (md.description_size() > 0) caps["meta.description"] = true;
      if (md.has_export_cache()) caps["meta.exportcache"] = true;
    }
    (*definition_.mutable_metadata())[terminal_digest] = last;
    definition_.mutable_source();
    return std::move(definition_);
  }

 private:
  struct frame {
    const vertex* node;
    std::vector<output> inputs;
    std::size_t next = 0;
  };

  // Depth first without recursion: a Dockerfile may chain any number of steps.
  status visit(const vertex& root) {
    std::vector<frame> stack;
    stack.push_back({&root, root.inputs()});
    std::unordered_set<const vertex*> open{&root};
    while (!stack.empty()) {
      auto& top = stack.back();
      if (top.next < top.inputs.size()) {
        auto input = resolve(top.inputs[top.next++]);
        if (!input || encoded_.contains(input.node)) continue;
        if (!open.insert(input.node).second) return make_error(errc::invalid_argument, "cycle in LLB graph");
        stack.push_back({input.node, input.node->inputs()});
        continue;
      }
      KILN_CHECK(finish(*top.node));
      open.erase(top.node);
      stack.pop_back();
    }
    return {};
  }

  status finish(const vertex& v) {
    KILN_TRY(auto bytes, v.encode(*this));
    // Names of files are any bytes, but container runtimes are told of a command in JSON.
    if (pb::Op op; !op.ParseFromString(bytes) || (op.has_exec() && !is_text(op.exec())))
      return make_error(errc::invalid_argument, "string field contains invalid UTF-8");
    encoded_op op{std::move(bytes), {}};
    op.digest = sha256(op.bytes).str();
    merge_metadata((*definition_.mutable_metadata())[op.digest], v.metadata());
    (*definition_.mutable_source()->mutable_locations())[op.digest];  // even without locations
    for (const auto& location : v.info().locations) add_location(op.digest, location);
    if (digests_.insert(op.digest).second) definition_.add_def(op.bytes);
    encoded_.emplace(&v, std::move(op));
    return {};
  }

  void add_location(const std::string& digest, const source_location& location) {
    if (!location.map) return;
    int index = -1;
    for (std::size_t i = 0; i < maps_.size(); ++i)
      if (maps_[i] == location.map || same_file(*maps_[i], *location.map)) index = static_cast<int>(i);
    auto& source = *definition_.mutable_source();
    if (index < 0) {
      index = static_cast<int>(maps_.size());
      maps_.push_back(location.map);
      *source.add_infos() = location.map->info();
    }
    auto& entry = *(*source.mutable_locations())[digest].add_locations();
    entry.set_sourceindex(index);
    for (const auto& range : location.ranges) *entry.add_ranges() = range;
  }

  const marshal_options& options_;
  pb::Definition definition_;
  std::unordered_map<const vertex*, encoded_op> encoded_;
  std::unordered_set<std::string> digests_;
  std::vector<std::shared_ptr<const source_map>> maps_;
};

}  // namespace

result<pb::Definition> marshal(const output& out, const marshal_options& options) {
  auto real = resolve(out);
  if (!real) return pb::Definition{};
  return marshaller(options).run(real);
}

std::string head_digest(const pb::Definition& definition) {
  if (definition.def_size() == 0) return {};
  pb::Op op;
  if (!op.ParseFromString(definition.def(definition.def_size() - 1)) || op.inputs_size() == 0) return {};
  return op.inputs(0).digest();
}

}  // namespace kiln::llb
