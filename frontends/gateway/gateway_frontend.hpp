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
  std::string ref;            // of the build: its root file system
  pb::Definition definition;  // of that, which the frontend may read
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd;
  bool no_network = false;
  std::map<std::string, pb::Definition> inputs;
};

/// Runs it to its end; what it returned, or why it did not.
using frontend_runner =
    std::function<result<gw::Result>(frontend_host& host, const frontend_process& process)>;

struct gateway_frontend_options {
  std::vector<std::string> allowed;    // repositories, as allowed_repositories() gives them; none: all
  bool dockerfile_is_built_in = true;  // and may stand in for images of it (`stand_in`)
};

/// Names of repositories as they are compared: "docker/dockerfile:1" as "docker.io/docker/dockerfile".
/// invalid_argument naming one that is none.
result<std::vector<std::string>> allowed_repositories(const std::vector<std::string>& configured);

std::unique_ptr<frontend> make_gateway_frontend(frontend_runner runner, gateway_frontend_options options);

}  // namespace kiln::frontends
