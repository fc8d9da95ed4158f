// One blob of a registry's repository or of a client's content store: where it is, and its bytes.
// Source: source/containerblob/{identifier,pull}.go.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "messages/image_reference.hpp"
#include "messages/job.hpp"

namespace kiln::distribution {
class hosts;
}
namespace kiln::store {
class ref_store;
}

namespace kiln::workers {

struct remote_blob {
  image_reference ref;   // always with a digest
  bool layout = false;   // of the client's, not of a registry
  std::string session;   // of a layout: the client; empty: any of the job's
  std::string store_id;  // of a layout
};

/// From "docker-image+blob://host/name@digest" or "oci-layout+blob://name@digest", whose name is then its
/// store. Pure.
result<remote_blob> parse_remote_blob(std::string_view text);

/// Hands its bytes on, which are checked before. What had to be fetched is not kept. Blocking.
status read_remote_blob(store::ref_store& store, distribution::hosts& hosts, const remote_blob& blob,
                        const job_context& job, const std::function<status(std::string_view)>& use);

}  // namespace kiln::workers
