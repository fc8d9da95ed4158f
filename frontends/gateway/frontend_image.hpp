// A frontend that comes as an image: where it comes from (a registry, or a named context that takes its
// place), and what of its config matters to who runs it.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "frontends/frontend.hpp"
#include "messages/image_reference.hpp"

namespace kiln::frontends {

struct frontend_image {
  pb::Definition definition;  // of its root file system
  std::string digest;         // of its manifest or index; empty if it has none
  std::vector<std::string> entrypoint{"/run"};
  std::vector<std::string> env;
  std::string cwd = "/";
  std::map<std::string, std::string> labels;

  bool has_capability(const std::string& capability) const;
};

/// The names in "cap,cap+parameter,…".
std::vector<std::string> capability_names(const std::string& list);

/// Looks up the image that `source` names. Source: BuildKit frontend/gateway/gateway.go.
result<frontend_image> load_frontend_image(frontend_host& host, const frontend_request& request,
                                           const std::string& source, const image_reference& name);

/// Whether the request gives a named context to be taken for that image.
result<bool> is_replaced(frontend_host& host, const frontend_request& request, const std::string& source);

}  // namespace kiln::frontends
