#include "solver/cache_key.hpp"

#include <algorithm>
#include <iterator>

#include "base/quoting.hpp"

namespace kiln::solver {

std::string root_key(std::string_view op_digest, int output) {
  auto text = std::string(op_digest) + "@" + std::to_string(output);
  auto hashed = sha256(text);
  return is_random(op_digest) ? "random:" + std::string(hashed.hex()) : hashed.str();
}

std::string content_key(const kiln::digest& content) { return root_key(content.str(), -1); }

key_search::key_search(cache_map map, int output) : map_(std::move(map)), output_(output) {
  inputs_.resize(map_.dependencies.size());
  if (inputs_.empty()) roots_.push_back(root_key(map_.op_digest.str(), output));
}

void key_search::add_root(const kiln::digest& op_digest) {
  auto key = root_key(op_digest.str(), output_);
  if (std::find(roots_.begin(), roots_.end(), key) == roots_.end()) roots_.push_back(std::move(key));
}

cache_link key_search::link(int input, bool by_content) const {
  return {input, output_, map_.op_digest.str(), by_content ? "" : dependency(input).selector};
}

void key_search::add_input_keys(int input, const std::vector<std::string>& keys, const key_lookup& db) {
  auto& state = inputs_[at(input)];
  for (const auto& key : keys) {
    // A key known already is looked up again: a concurrent build may have saved links since.
    state.keys.insert(key);
    auto children = db.children(key, link(input, false));
    state.children.insert(children.begin(), children.end());
  }
}

void key_search::set_content(int input, const kiln::digest& content, const key_lookup& db) {
  auto& state = inputs_[at(input)];
  state.content = content_key(content);
  auto children = db.children(state.content, link(input, true));
  state.children.insert(children.begin(), children.end());
}

std::vector<std::string> key_search::matches() const {
  if (inputs_.empty()) return roots_;
  std::vector<std::string> out(inputs_[0].children.begin(), inputs_[0].children.end());
  for (std::size_t i = 1; i < inputs_.size() && !out.empty(); ++i) {
    std::vector<std::string> both;
    std::set_intersection(out.begin(), out.end(), inputs_[i].children.begin(), inputs_[i].children.end(),
                          std::back_inserter(both));
    out = std::move(both);
  }
  return out;
}

std::string key_search::primary(int input) const {
  const auto& state = inputs_[at(input)];
  if (!state.content.empty()) return state.content;
  // The smallest key that is not random; any order would do as long as everyone uses the same.
  for (const auto& key : state.keys)
    if (!is_random(key)) return key;
  return state.keys.empty() ? "" : *state.keys.begin();
}

std::string key_search::final_key() const {
  if (inputs_.empty()) return roots_.front();
  bool random = is_random(map_.op_digest.str());
  std::string text = "kiln.key.v0:" + go_json_string(map_.op_digest.str()) + "@" + std::to_string(output_);
  for (int i = 0; i < inputs(); ++i) {
    auto key = primary(i);
    if (key.empty() || is_random(key)) random = true;
    const auto& selector = has_content(i) ? std::string() : dependency(i).selector;
    text += "\n" + std::to_string(i) + " " + exact_json_string(selector) + " " + exact_json_string(key);
  }
  auto hashed = sha256(text);
  return random ? "random:" + std::string(hashed.hex()) : hashed.str();
}

std::vector<cache_edge> key_search::lookups() const {
  std::vector<cache_edge> out;
  for (int i = 0; i < inputs(); ++i) {
    const auto& state = inputs_[at(i)];
    for (const auto& key : state.keys)
      if (!is_random(key)) out.push_back({key, link(i, false), ""});
    if (!state.content.empty() && !is_random(state.content))
      out.push_back({state.content, link(i, true), ""});
  }
  return out;
}

std::vector<cache_edge> key_search::links_to(const std::string& child) const {
  std::vector<cache_edge> out;
  if (is_random(child)) return out;
  for (int i = 0; i < inputs(); ++i) {
    const auto& state = inputs_[at(i)];
    auto before = out.size();
    for (const auto& key : state.keys)
      if (!is_random(key)) out.push_back({key, link(i, false), child});
    if (!state.content.empty() && !is_random(state.content))
      out.push_back({state.content, link(i, true), child});
    if (out.size() == before) return {};
  }
  return out;
}

}  // namespace kiln::solver
