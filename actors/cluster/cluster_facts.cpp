// Questions to and answers from cache-key databases of a cluster, and what a node may say of itself.
#include <algorithm>
#include <set>

#include "actors/cluster/cluster.hpp"
#include "messages/cluster_text.hpp"
#include "solver/cache_key.hpp"

namespace kiln::actors {

namespace cfg = configs::cluster;

cache_records answer_question(const store::cache_keys& keys, const cache_query& question) {
  cache_records out;
  std::set<std::string, std::less<>> seen;
  auto add_results = [&](const std::string& key) {
    if (solver::is_random(key) || !seen.insert(key).second) return;
    for (auto& r : keys.results(key)) {
      if (out.results.size() >= cfg::answer_results_max) return;
      out.results.push_back({key, std::move(r)});
    }
  };
  for (const auto& [parent, link, asked] : question.links) {
    if (solver::is_random(parent) || solver::is_random(link.digest)) continue;
    for (auto& child : keys.children(parent, link)) {
      if (solver::is_random(child) || out.links.size() >= cfg::answer_links_max) continue;
      add_results(child);
      out.links.push_back({parent, link, std::move(child)});
    }
  }
  for (const auto& root : question.roots) add_results(root);
  return out;
}

std::string fault_of(const node_info& info) {
  if (!is_node_name(info.name)) return "its name is not one";
  if (info.role != node_role::both && info.role != node_role::coordinator && info.role != node_role::worker)
    return "it has no role";
  if (info.version.size() > cfg::name_bytes_max) return "its version is no version";
  for (const auto* address : {&info.control_address, &info.data_address})
    if (address->size() > cfg::address_bytes_max || !parse_host_port(*address))
      return "it has no valid address";
  if (info.slots < 1 || info.slots > cfg::slots_max)
    return "it claims " + std::to_string(info.slots) + " slots";
  if (info.record.ByteSizeLong() > cfg::record_bytes_max) return "its worker's description is too large";
  return "";
}

}  // namespace kiln::actors
