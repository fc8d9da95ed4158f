// `gateway.v0`: frontends that come as images. The image is resolved and solved like any other, then run with
// the build's LLBBridge on its standard input and output; how, is somebody else's business (`runner`).
// Source: BuildKit frontend/gateway/gateway.go.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "frontends/frontend.hpp"

namespace kiln::frontends {

/// A frontend image as it is to be run.
struct frontend_process {
  std::string ref;  // of the build: its root file system
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd;
  bool no_network = false;
  std::map<std::string, pb::Definition> inputs;
};

/// Runs it to its end; what it returned, or why it did not.
using frontend_runner =
    std::function<result<gw::Result>(frontend_host& host, const frontend_process& process)>;

/// `allowed`: repositories (with domain, without tag) that may be run; empty allows all.
std::unique_ptr<frontend> make_gateway_frontend(frontend_runner runner, std::vector<std::string> allowed);

}  // namespace kiln::frontends
