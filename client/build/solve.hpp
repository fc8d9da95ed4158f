// One build over one channel: the session, the Solve call and the Status stream side by side.
// Threads: one for Status, the session's pumps; the caller's thread waits in Solve.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "client/build/request.hpp"
#include "client/progress/status.hpp"
#include "client/session/tunnel.hpp"
#include "control.pb.h"

namespace kiln::client {

struct solve_outcome {
  string_map exporter_response;
  /// Of a sub-request ("frontend.lint" and so on): what the frontend answered.
  std::map<std::string, std::string> sub_request;
};

struct solve_options {
  std::shared_ptr<grpc::Channel> channel;
  moby::buildkit::v1::SolveRequest request;  // complete but for the session
  session_tunnel* session = nullptr;         // not started yet
  std::function<void(solve_status)> progress;
  std::stop_token stop;
};

/// Runs the build. Errors carry the daemon's details; "failed to solve: …". Cancelled through `stop`, the
/// daemon is told and its answer awaited. Source: buildkit client/solve.go.
result<solve_outcome> run_solve(solve_options options);

}  // namespace kiln::client
