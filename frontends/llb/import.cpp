// Definitions from elsewhere (frontend inputs) as vertices whose bytes are kept as they came.
#include <functional>
#include <unordered_map>

#include "frontends/llb/graph.hpp"

namespace kiln::llb {

namespace {

class imported_vertex final : public vertex {
 public:
  imported_vertex(op_info info, std::string bytes, pb::OpMetadata md, std::vector<output> inputs)
      : vertex(std::move(info)),
        bytes_(std::move(bytes)),
        metadata_(std::move(md)),
        inputs_(std::move(inputs)) {}

  std::vector<output> inputs() const override { return inputs_; }
  result<std::string> encode(const encoder&) const override { return bytes_; }
  pb::OpMetadata metadata() const override { return metadata_; }

 private:
  std::string bytes_;
  pb::OpMetadata metadata_;
  std::vector<output> inputs_;
};

std::vector<std::shared_ptr<const source_map>> maps_of(const pb::Definition& definition) {
  std::vector<std::shared_ptr<const source_map>> maps;
  for (const auto& info : definition.source().infos()) {
    auto map = std::make_shared<source_map>();
    map->filename = info.filename();
    map->language = info.language();
    map->data = info.data();
    map->definition = info.definition();
    map->head_digest = head_digest(info.definition());
    maps.push_back(std::move(map));
  }
  return maps;
}

}  // namespace

result<output> import_definition(graph& g, const pb::Definition& definition) {
  if (definition.def_size() == 0) return output{};
  auto maps = maps_of(definition);
  std::unordered_map<std::string, const vertex*> known;
  // Ops come in dependency order, so that every input is known when its user is read.
  for (int i = 0; i + 1 < definition.def_size(); ++i) {
    const auto& bytes = definition.def(i);
    pb::Op op;
    if (!op.ParseFromString(bytes)) return make_error(errc::invalid_argument, "failed to parse llb proto op");
    auto digest = sha256(bytes).str();
    if (known.contains(digest)) continue;
    std::vector<output> inputs;
    for (const auto& input : op.inputs()) {
      auto at = known.find(input.digest());
      if (at == known.end())
        return make_error(errc::invalid_argument, "invalid missing input digest " + input.digest());
      inputs.push_back({at->second, static_cast<int>(input.index())});
    }
    pb::OpMetadata md;
    if (auto at = definition.metadata().find(digest); at != definition.metadata().end()) md = at->second;
    op_info info;
    if (op.has_platform()) info.platform = from_proto(op.platform());
    if (auto at = definition.source().locations().find(digest); at != definition.source().locations().end()) {
      for (const auto& location : at->second.locations()) {
        auto index = location.sourceindex();
        if (index < 0 || index >= static_cast<int>(maps.size()))
          return make_error(errc::invalid_argument,
                            "failed to find source map with index " + std::to_string(index));
        info.locations.push_back({maps[index], {location.ranges().begin(), location.ranges().end()}});
      }
    }
    known[digest] = g.make<imported_vertex>(std::move(info), bytes, std::move(md), std::move(inputs));
  }
  pb::Op last;
  if (!last.ParseFromString(definition.def(definition.def_size() - 1)) || last.inputs_size() == 0)
    return make_error(errc::invalid_argument, "invalid definition: last op has no inputs");
  auto at = known.find(last.inputs(0).digest());
  if (at == known.end())
    return make_error(errc::invalid_argument, "invalid missing input digest " + last.inputs(0).digest());
  if (last.inputs(0).index() < 0) return make_error(errc::invalid_argument, "invalid negative input index");
  return output{at->second, static_cast<int>(last.inputs(0).index())};
}

}  // namespace kiln::llb
