// Whether a node may be called so: its certificate decides. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kiln::configs {

/// Why whoever has a certificate for these names may not call itself `node`, as what the certificate "…";
/// empty when it may. A node's name is one of its certificate's DNS names, letter by letter.
std::string misnamed(const std::vector<std::string>& names, std::string_view node);

}  // namespace kiln::configs
