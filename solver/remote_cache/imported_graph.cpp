#include "solver/remote_cache/imported_graph.hpp"

#include <algorithm>
#include <set>

#include "base/quoting.hpp"

namespace kiln::solver::remote_cache {
namespace {

std::string way(std::string_view record, int input, std::string_view selector) {
  return std::string(record) + "\n" + std::to_string(input) + "\n" + std::string(selector);
}

std::size_t at(int i) { return static_cast<std::size_t>(i); }

/// What a key that is no root is called: the same for the same record in any config.
std::string key_id(const cache_record& r, const std::vector<std::string>& ids) {
  std::string text = "kiln.imported.v0:" + go_json_string(r.digest);
  for (std::size_t i = 0; i < r.inputs.size(); ++i) {
    std::set<std::string> ways;
    for (const auto& in : r.inputs[i]) ways.insert(exact_json_string(in.selector) + " " + ids[at(in.link)]);
    for (const auto& w : ways) text += "\n" + std::to_string(i) + " " + w;
  }
  return sha256(text).str();
}

}  // namespace

std::string imported_graph::add_layer(const descriptor& blob, const std::string& below) {
  auto id = sha256(below + "\n" + blob.digest.str()).str();
  layers_.try_emplace(id, layer_node{blob, below});
  return id;
}

status imported_graph::add(const cache_config& config, const std::map<kiln::digest, descriptor>& blobs) {
  KILN_TRY(std::vector<int> order, check_config(config));

  // Ids of the layers, parents first; empty where a blob is missing.
  std::vector<std::string> layer_ids(config.layers.size());
  std::vector<char> known(config.layers.size(), 0);
  std::vector<int> climb;
  for (std::size_t first = 0; first < config.layers.size(); ++first) {
    for (int i = static_cast<int>(first); i != -1 && !known[at(i)]; i = config.layers[at(i)].parent)
      climb.push_back(i);
    for (; !climb.empty(); climb.pop_back()) {
      const auto& l = config.layers[at(climb.back())];
      known[at(climb.back())] = 1;
      auto blob = blobs.find(l.blob);
      if (blob == blobs.end() || (l.parent != -1 && layer_ids[at(l.parent)].empty())) continue;
      layer_ids[at(climb.back())] = add_layer(blob->second, l.parent == -1 ? "" : layer_ids[at(l.parent)]);
    }
  }

  std::vector<std::string> ids(config.records.size());
  for (int index : order) {
    const auto& r = config.records[at(index)];
    auto& id = ids[at(index)];
    id = r.inputs.empty() ? r.digest : key_id(r, ids);
    bool fresh = !keys_.contains(id);
    if (fresh)
      for (std::size_t i = 0; i < r.inputs.size(); ++i)
        for (const auto& in : r.inputs[i]) {
          key_origin origin{ids[at(in.link)], static_cast<int>(i), in.selector, r.digest};
          auto& children = keys_[origin.parent].children[way(r.digest, origin.input, in.selector)];
          if (std::find(children.begin(), children.end(), id) == children.end()) children.push_back(id);
          keys_[id].origins.push_back(std::move(origin));
        }
    auto& node = keys_[id];
    auto add_result = [&](const std::string& top, std::int64_t created) {
      if (top.empty()) return;
      for (const auto& known_result : node.results)
        if (known_result.id == top) return;
      node.results.push_back({top, created});
    };
    for (const auto& one : r.results) add_result(layer_ids[at(one.layer)], one.created_at_ns);
    for (const auto& one : r.chains) {
      std::string top;
      bool whole = true;
      for (int l : one.layers) {
        auto blob = blobs.find(config.layers[at(l)].blob);
        if (!(whole = blob != blobs.end())) break;
        top = add_layer(blob->second, top);
      }
      if (whole) add_result(top, one.created_at_ns);
    }
    std::stable_sort(node.results.begin(), node.results.end(),
                     [](const auto& a, const auto& b) { return a.created_at_ns > b.created_at_ns; });
  }
  return {};
}

std::vector<std::string> imported_graph::children(std::string_view parent, const key_link& link) const {
  auto node = keys_.find(std::string(parent));
  if (node == keys_.end()) return {};
  auto found = node->second.children.find(way(root_key(link.digest, link.output), link.input, link.selector));
  return found == node->second.children.end() ? std::vector<std::string>{} : found->second;
}

std::vector<imported_result> imported_graph::results(std::string_view key) const {
  auto node = keys_.find(std::string(key));
  return node == keys_.end() ? std::vector<imported_result>{} : node->second.results;
}

std::vector<descriptor> imported_graph::layers(std::string_view result_id) const {
  std::vector<descriptor> out;
  for (auto node = layers_.find(std::string(result_id)); node != layers_.end();
       node = layers_.find(node->second.below))
    out.push_back(node->second.blob);
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<key_origin> imported_graph::origins(std::string_view key) const {
  auto node = keys_.find(std::string(key));
  return node == keys_.end() ? std::vector<key_origin>{} : node->second.origins;
}

std::vector<descriptor> imported_graph::all_layers() const {
  std::map<kiln::digest, descriptor> unique;
  for (const auto& [id, node] : layers_) unique.try_emplace(node.blob.digest, node.blob);
  std::vector<descriptor> out;
  out.reserve(unique.size());
  for (auto& [d, blob] : unique) out.push_back(std::move(blob));
  return out;
}

}  // namespace kiln::solver::remote_cache
