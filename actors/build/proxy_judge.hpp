// Judges what steps fetch through their proxy, as the sources of their build are judged: by its policies,
// then by its client. No actor; asks from the thread that wants to know. Source: BuildKit
// solver/llbsolver/network.go, ProxyPolicy.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "messages/session.hpp"
#include "messages/solve_types.hpp"
#include "workers/op_handler.hpp"
#include "workers/proxy/judge.hpp"

namespace kiln::actors {

using source_lookup = std::function<result<std::shared_ptr<workers::source_handler>>(std::string_view)>;

/// Null where nobody has anything to say. `sessions` and what `source` finds outlive it; `group` may read
/// what the client wants to look at. invalid_argument for policies that cannot be read.
result<workers::proxy::judge> proxy_judge(const proxy_rules& rules, session_directory* sessions,
                                          source_lookup source, session_group group);

}  // namespace kiln::actors
