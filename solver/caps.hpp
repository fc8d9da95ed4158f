// The capabilities this daemon offers: for LLB and for gateway clients. Pure. Source: wire.md section 14;
// what is there and not here does not work yet, and clients should know: git bundles and the proxy network.
#pragma once

#include <span>
#include <string_view>

#include "base/result.hpp"

namespace kiln::solver {

std::span<const std::string_view> llb_capabilities();
std::span<const std::string_view> gateway_capabilities();

/// unimplemented "unknown API capability <id>" when an op asks for what we do not offer.
status check_llb_capability(std::string_view id);

}  // namespace kiln::solver
