#include "solver/remote_cache/chains.hpp"

#include <algorithm>
#include <deque>
#include <unordered_map>

namespace kiln::solver::remote_cache {
namespace {

/// Orders 0 … n-1 so that what `needs[i]` names comes before i. Where that loops, the first one for
/// which `breakable` agrees goes ahead; what can never go ahead is left out.
std::vector<std::size_t> parents_first(
    const std::vector<std::set<std::size_t>>& needs,
    const std::function<bool(std::size_t, const std::vector<char>&)>& breakable) {
  std::vector<std::vector<std::size_t>> needed_by(needs.size());
  std::vector<std::size_t> open(needs.size());
  std::deque<std::size_t> ready;
  for (std::size_t i = 0; i < needs.size(); ++i) {
    open[i] = needs[i].size();
    for (auto p : needs[i]) needed_by[p].push_back(i);
    if (open[i] == 0) ready.push_back(i);
  }
  std::vector<char> done(needs.size(), 0);
  std::vector<std::size_t> order;
  for (;;) {
    while (!ready.empty()) {
      auto i = ready.front();
      ready.pop_front();
      if (done[i]) continue;
      done[i] = 1;
      order.push_back(i);
      for (auto child : needed_by[i])
        if (--open[child] == 0) ready.push_back(child);
    }
    for (std::size_t i = 0; i < needs.size() && ready.empty(); ++i)
      if (!done[i] && breakable(i, done)) ready.push_back(i);
    if (ready.empty()) return order;
  }
}

bool same_layers(const layer_chain& a, const layer_chain& b) {
  return std::equal(a.layers.begin(), a.layers.end(), b.layers.begin(), b.layers.end(),
                    [](const descriptor& x, const descriptor& y) { return x.digest == y.digest; });
}

constexpr struct {
  const char* docker;
  const char* oci;
} layer_types[] = {
    {"application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar"},
    {"application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar+gzip"},
    {"application/vnd.docker.image.rootfs.diff.tar.zstd", "application/vnd.oci.image.layer.v1.tar+zstd"},
    {"application/vnd.docker.image.rootfs.foreign.diff.tar",
     "application/vnd.oci.image.layer.nondistributable.v1.tar"},
    {"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
     "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"},
};

}  // namespace

std::string oci_layer_type(const std::string& media_type) {
  for (const auto& t : layer_types)
    if (media_type == t.docker) return t.oci;
  return media_type;
}

std::string docker_layer_type(const std::string& media_type) {
  for (const auto& t : layer_types)
    if (media_type == t.oci) return t.docker;
  return media_type;
}

chains chains::of(const std::vector<exported_key>& keys) {
  std::unordered_map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < keys.size(); ++i) index.try_emplace(keys[i].id, i);
  std::vector<std::set<std::size_t>> needs(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i)
    for (const auto& o : keys[i].origins)
      if (auto parent = index.find(o.parent); parent != index.end() && parent->second != i)
        needs[i].insert(parent->second);
  auto order = parents_first(needs, [](std::size_t, const std::vector<char>&) { return true; });

  chains out;
  std::vector<std::vector<std::size_t>> records(keys.size());
  for (auto i : order) {
    const auto& key = keys[i];
    if (index.at(key.id) != i) continue;
    if (key.origins.empty()) {
      if (auto r = out.add(key.id, {})) records[i].push_back(*r);
    }
    std::map<std::string, std::vector<std::vector<source>>> ways;  // by record digest
    for (const auto& o : key.origins) {
      auto& inputs = ways[o.record];
      if (o.input < 0) continue;
      if (inputs.size() <= static_cast<std::size_t>(o.input))
        inputs.resize(static_cast<std::size_t>(o.input) + 1);
      auto parent = index.find(o.parent);
      if (parent == index.end()) continue;
      for (auto r : records[parent->second])
        inputs[static_cast<std::size_t>(o.input)].push_back({r, o.selector});
    }
    for (const auto& [digest, inputs] : ways) {
      bool whole = !inputs.empty() &&
                   std::none_of(inputs.begin(), inputs.end(), [](const auto& w) { return w.empty(); });
      if (!whole) continue;
      if (auto r = out.add(digest, inputs)) records[i].push_back(*r);
    }
    if (key.result)
      for (auto r : records[i]) out.add_result(r, *key.result);
  }
  return out;
}

std::size_t chains::resolve(std::size_t r) const {
  while (records_[r].merged_into != r) r = records_[r].merged_into;
  return r;
}

bool chains::leads_to(std::size_t from, std::size_t to) const {
  std::set<std::size_t> seen{from};
  std::vector<std::size_t> stack{from};
  while (!stack.empty()) {
    auto r = stack.back();
    stack.pop_back();
    if (r == to) return true;
    for (const auto& [way, children] : records_[r].children)
      for (auto child : children)
        if (seen.insert(resolve(child)).second) stack.push_back(resolve(child));
  }
  return false;
}

void chains::link(std::size_t parent, std::size_t child, int input, const std::string& selector) {
  auto& children = records_[parent].children[{records_[child].digest, input, selector}];
  if (std::find(children.begin(), children.end(), child) == children.end()) children.push_back(child);
  auto& inputs = records_[child].inputs;
  if (inputs.size() <= static_cast<std::size_t>(input)) inputs.resize(static_cast<std::size_t>(input) + 1);
  inputs[static_cast<std::size_t>(input)].insert({parent, selector});
}

void chains::merge(std::size_t from, std::size_t into) {
  auto moved = std::move(records_[from]);
  records_[from] = {moved.digest, {}, {}, {}, into};
  for (std::size_t i = 0; i < moved.inputs.size(); ++i)
    for (const auto& s : moved.inputs[i]) link(resolve(s.record), into, static_cast<int>(i), s.selector);
  for (const auto& [way, children] : moved.children)
    for (auto child : children) link(into, resolve(child), std::get<1>(way), std::get<2>(way));
  if (moved.best) add_result(into, std::move(*moved.best));
}

std::optional<std::size_t> chains::add(const std::string& digest,
                                       const std::vector<std::vector<source>>& inputs) {
  if (digest.starts_with("random:")) return {};
  auto fresh = [&] {
    records_.push_back({digest, {}, {}, {}, records_.size()});
    return records_.size() - 1;
  };
  if (inputs.empty()) {
    auto [it, added] = roots_.try_emplace(digest, records_.size());
    return added ? fresh() : resolve(it->second);
  }
  // The records by that digest which every input already leads to.
  std::set<std::size_t> equal;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    std::set<std::size_t> here;
    for (const auto& s : inputs[i]) {
      const auto& children = records_[resolve(s.record)].children;
      auto found = children.find({digest, static_cast<int>(i), s.selector});
      if (found == children.end()) continue;
      for (auto child : found->second) here.insert(resolve(child));
    }
    if (i == 0) {
      equal = std::move(here);
    } else {
      std::erase_if(equal, [&](std::size_t r) { return !here.contains(r); });
    }
  }
  bool known = !equal.empty();
  std::size_t r = known ? *equal.begin() : fresh();
  for (auto other : equal)
    if (other != r && !leads_to(other, r) && !leads_to(r, other)) merge(other, r);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    for (const auto& s : inputs[i]) {
      auto parent = resolve(s.record);
      if (known && leads_to(r, parent)) continue;  // would loop
      link(parent, r, static_cast<int>(i), s.selector);
    }
  return r;
}

void chains::add_result(std::size_t r, layer_chain result) {
  if (result.layers.empty()) return;
  auto& best = records_[resolve(r)].best;
  if (best && (best->created_at_ns >= result.created_at_ns || same_layers(*best, result))) return;
  best = std::move(result);
}

std::vector<chains::sound_record> chains::sound() const {
  std::vector<std::vector<std::set<source>>> inputs(records_.size());
  std::vector<std::set<std::size_t>> needs(records_.size());
  for (std::size_t r = 0; r < records_.size(); ++r)
    for (const auto& alternatives : records_[r].inputs) {
      auto& resolved = inputs[r].emplace_back();
      for (const auto& s : alternatives) {
        auto parent = resolve(s.record);
        if (parent == r) continue;
        resolved.insert({parent, s.selector});
        needs[r].insert(parent);
      }
    }
  auto any_done = [&](const std::set<source>& alternatives, const std::vector<char>& done) {
    return std::any_of(alternatives.begin(), alternatives.end(),
                       [&](const source& s) { return done[s.record] != 0; });
  };
  auto order = parents_first(needs, [&](std::size_t r, const std::vector<char>& done) {
    return std::all_of(inputs[r].begin(), inputs[r].end(), [&](const auto& a) { return any_done(a, done); });
  });
  std::vector<sound_record> out;
  std::vector<char> done(records_.size(), 0);
  for (auto r : order) {
    if (records_[r].merged_into != r) continue;
    bool whole = true;
    for (auto& alternatives : inputs[r]) {
      std::erase_if(alternatives, [&](const source& s) { return done[s.record] == 0; });
      whole = whole && !alternatives.empty();
    }
    if (!whole) continue;
    done[r] = 1;
    out.push_back({r, std::move(inputs[r])});
  }
  return out;
}

marshalled chains::marshal_if(const std::function<bool(const layer_chain&)>& accept) const {
  marshalled out;
  std::map<std::pair<int, kiln::digest>, int> layer_at;  // (layer below, blob) → index
  auto add_layers = [&](const std::vector<descriptor>& layers) {
    int below = -1;
    for (const auto& l : layers) {
      auto [it, added] = layer_at.try_emplace({below, l.digest}, static_cast<int>(out.config.layers.size()));
      if (added) {
        out.config.layers.push_back({l.digest, below, {}});
        auto [known, fresh] = out.layers.try_emplace(l.digest, l);
        if (fresh) known->second.media_type = oci_layer_type(l.media_type);
      }
      below = it->second;
    }
    return below;
  };
  std::unordered_map<std::size_t, int> index;
  for (auto& s : sound()) {
    const auto& r = records_[s.record];
    cache_record record;
    record.digest = r.digest;
    for (const auto& alternatives : s.inputs) {
      auto& list = record.inputs.emplace_back();
      for (const auto& one : alternatives) list.push_back({one.selector, index.at(one.record)});
    }
    if (r.best && accept(*r.best))
      record.results.push_back({add_layers(r.best->layers), r.best->created_at_ns});
    index[s.record] = static_cast<int>(out.config.records.size());
    out.config.records.push_back(std::move(record));
  }
  canonicalize(out.config);
  return out;
}

marshalled chains::marshal() const {
  return marshal_if([](const layer_chain&) { return true; });
}

std::string chains::inline_records(std::span<const image_layer> image) const {
  // Where in the image a layer is: the place its chain has it at if that fits, else any.
  auto matches = [&](const descriptor& l, const image_layer& i) {
    if (l.digest == i.blob) return true;
    auto diff = l.annotations.find(annotation_diff_id);
    return diff != l.annotations.end() && diff->second == i.diff_id.str();
  };
  auto place = [&](const descriptor& l, std::size_t wanted) -> int {
    if (wanted < image.size() && matches(l, image[wanted])) return static_cast<int>(wanted);
    for (std::size_t i = 0; i < image.size(); ++i)
      if (matches(l, image[i])) return static_cast<int>(i);
    return -1;
  };
  auto m = marshal_if([&](const layer_chain& c) {
    return std::all_of(c.layers.begin(), c.layers.end(),
                       [&](const descriptor& l) { return place(l, 0) >= 0; });
  });
  if (m.config.layers.empty()) return {};
  for (auto& r : m.config.records) {
    auto results = std::exchange(r.results, {});
    for (const auto& one : results) {
      std::vector<int> chain;
      for (int l = one.layer; l != -1; l = m.config.layers[static_cast<std::size_t>(l)].parent)
        chain.push_back(l);
      std::reverse(chain.begin(), chain.end());
      bool in_order = true;
      for (std::size_t i = 0; i < chain.size(); ++i) {
        chain[i] = place(m.layers.at(m.config.layers[static_cast<std::size_t>(chain[i])].blob), i);
        in_order = in_order && chain[i] == static_cast<int>(i);
      }
      if (in_order) {
        r.results.push_back({static_cast<int>(chain.size()) - 1, one.created_at_ns});
      } else {
        r.chains.push_back({std::move(chain), one.created_at_ns});
      }
    }
  }
  return records_to_json(m.config.records);
}

}  // namespace kiln::solver::remote_cache
