// CDI edits on their way into a container's OCI configuration. Source: the CDI specification, "OCI Edits".
#pragma once

#include "base/json_text.hpp"
#include "workers/cdi/spec.hpp"

namespace kiln::workers::cdi {

/// Asks the host for what device nodes leave open: type, numbers, mode. Errors name the node: not_found, it
/// is not on this host; failed_precondition, it is something else there.
status complete_device_nodes(container_edits& edits);

/// Pure. The nodes must be complete. Variables take the place of those of the same name, mounts and nodes of
/// those at the same path; nodes belong to the process' user unless they say otherwise; mounts are put in
/// order of depth.
void apply_edits(const container_edits& edits, nlohmann::json& oci_spec);

}  // namespace kiln::workers::cdi
