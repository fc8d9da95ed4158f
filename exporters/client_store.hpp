// Which exporters put their image into the content store of a directory of the client's. Pure.
#pragma once

#include <string_view>

#include "exporters/attributes.hpp"

namespace kiln::exporters {

/// `oci` and `docker` with tar=false. A build has one such directory at most: the store has one name.
inline bool writes_to_client_store(std::string_view type, const attributes& attrs) {
  if (type != "oci" && type != "docker") return false;
  auto tar = attrs.find("tar");
  if (tar == attrs.end()) return false;
  auto wanted = parse_bool("tar", tar->second, true);
  return wanted.ok() && !*wanted;
}

}  // namespace kiln::exporters
