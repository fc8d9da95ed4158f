#include "configs/node_names.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace kiln::configs {

std::string misnamed(const std::vector<std::string>& names, std::string_view node) {
  if (std::find(names.begin(), names.end(), node) != names.end()) return "";
  if (names.empty())
    return "names no node (it has no DNS name among its alternative names): make one for node " +
           std::string(node) + " with \"kilnctl cluster certs\"";
  return "is for " + join(names, ", ") + ", not for node " + std::string(node);
}

}  // namespace kiln::configs
