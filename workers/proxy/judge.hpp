// Whether a request may be made, and where it then goes: asked of the source policies of whoever runs the
// step, to whom it is an http source.
#pragma once

#include <functional>
#include <stop_token>
#include <string>

#include "base/result.hpp"
#include "ops.pb.h"

namespace kiln::workers::proxy {

/// The source as it is to be used; an error refuses it. Blocking; any thread, also several at a time. Null:
/// everything may be fetched.
using judge = std::function<result<pb::SourceOp>(const pb::SourceOp&, std::stop_token)>;

/// The URL to fetch for this one (as asked_url() makes it). permission_denied with the words of the policy;
/// also for what a policy makes of it that a proxy cannot fetch. Source: provider_linux.go, check.
result<std::string> judged_url(const judge& judge, const std::string& method, const std::string& url,
                               std::stop_token stop);

}  // namespace kiln::workers::proxy

namespace kiln::workers {

/// A step that reaches the network through a proxy only.
struct proxied_step {
  proxy::judge may;      // null: everything
  std::string captured;  // filled in by its run: what it fetched, as messages/proxy_capture.hpp has it
};

}  // namespace kiln::workers
