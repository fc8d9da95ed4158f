#include "actors/cluster/cluster_record.hpp"

#include <map>
#include <vector>

#include "messages/platform.hpp"

namespace kiln::actors {

moby::buildkit::v1::types::WorkerRecord record_of_all(moby::buildkit::v1::types::WorkerRecord own,
                                                      std::span<const node_info> runners) {
  if (runners.empty()) return own;
  std::map<std::string, pb::Platform> offered;                          // by its text
  std::vector<std::string> order;                                       // of node, then of its record
  std::map<std::string, moby::buildkit::v1::types::CDIDevice> devices;  // by name
  for (const auto& n : runners) {
    for (const auto& p : n.record.platforms()) {
      auto text = format_platform(from_proto(p));
      if (offered.emplace(text, p).second) order.push_back(text);
    }
    for (const auto& d : n.record.cdidevices()) devices.emplace(d.name(), d);
  }
  auto was = own.platforms();
  own.clear_platforms();
  auto add = [&](const std::string& text) {
    auto found = offered.extract(text);
    if (!found.empty()) *own.add_platforms() = found.mapped();
  };
  for (const auto& p : was) add(format_platform(from_proto(p)));
  for (const auto& text : order) add(text);
  own.clear_cdidevices();
  for (auto& [name, d] : devices) *own.add_cdidevices() = std::move(d);
  return own;
}

}  // namespace kiln::actors
