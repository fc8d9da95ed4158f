// Pushing a whole image: what a root manifest or index refers to, children before parents, blobs in parallel.
// Source: util/push/push.go.
#pragma once

#include <functional>
#include <string>

#include "distribution/client.hpp"

namespace kiln::distribution {

struct push_options {
  std::string name;        // as the user wrote it
  descriptor root;         // manifest or index; in the blob store like everything below it
  bool by_digest = false;  // do not tag
  bool insecure = false;
  /// Brings a blob that the registry lacks into the store (lazy layers); may be empty.
  std::function<status(const descriptor&)> ensure;
};

/// invalid_argument "can't push tagged ref … by digest"; otherwise what the registry says.
status push_image(hosts& h, store::blob_store& blobs, const push_options& options, const job_context& job);

}  // namespace kiln::distribution
