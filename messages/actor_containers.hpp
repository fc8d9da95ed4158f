// Containers that gateway clients keep (NewContainer, ExecProcess): the workers to them. In a header of their
// own because only the gateway and their actors need them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "messages/actor_interfaces.hpp"
#include "messages/session.hpp"

namespace kiln {

using exec_atom = caf::atom_constant<caf::atom("exec")>;
using credit_atom = caf::atom_constant<caf::atom("credit")>;

/// What a container of a gateway client is made from: asked with ids of the build's refs, answered with
/// record ids ("" is scratch) and with what the build may do and whom it may ask.
struct container_inputs {
  std::vector<std::string> refs;
  session_group sessions;
  bool network_host = false;
  bool security_insecure = false;
  proxy_rules proxy = {};  // of the build
};

template <class Inspector>
auto inspect(Inspector& f, container_inputs& x) {
  return f(x.refs, x.sessions, x.network_host, x.security_insecure, x.proxy);
}

/// The other face of every build_actor (reach it with actor_cast): evaluates refs for a container; they
/// stay pinned while the build lives.
using container_lender = caf::typed_actor<caf::replies_to<container_inputs>::with<container_inputs>>;

/// Hears from a process: Started, File (its output, then EOF for each open fd), Exit, Done, in this order.
/// Output is sent only as far as credit reaches: give the bytes back when they have left.
using process_listener = caf::typed_actor<caf::reacts_to<gw::ExecMessage>>;

/// One process in a container. Ends with its last message, or when its listener goes: then it is killed.
using process_actor = caf::typed_actor<
    /// File (standard input): answered when more may be sent. Resize and Signal: answered at once.
    /// out_of_range when that fd is not open, invalid_argument for an unknown signal.
    caf::replies_to<gw::ExecMessage>::with<bool>,
    /// That many bytes of output have left.
    caf::reacts_to<credit_atom, std::uint64_t>>;

/// The containers of this node. A container belongs to its build and is released with it; ids are the
/// client's and unique within the build.
using containers_actor = caf::typed_actor<
    /// already_exists for a second container of that id.
    caf::replies_to<build_actor, gw::NewContainerRequest>::with<gw::NewContainerResponse>,
    /// Kills what runs in it; answers when nothing is left.
    caf::replies_to<build_actor, gw::ReleaseContainerRequest>::with<gw::ReleaseContainerResponse>,
    /// `Ref` is the container, `MountIndex` one of its mounts.
    caf::replies_to<build_actor, gw::ReadFileRequest>::with<gw::ReadFileResponse>,
    caf::replies_to<build_actor, gw::ReadDirRequest>::with<gw::ReadDirResponse>,
    caf::replies_to<build_actor, gw::StatFileRequest>::with<gw::StatFileResponse>,
    /// Starts the process that the Init message describes; not_found without its container.
    caf::replies_to<exec_atom, build_actor, gw::ExecMessage, process_listener>::with<process_actor>>;

}  // namespace kiln

CAF_BEGIN_TYPE_ID_BLOCK(kiln_containers, caf::first_custom_type_id + 1000)
CAF_ADD_TYPE_ID(kiln_containers, (kiln::gw::NewContainerRequest))
CAF_ADD_TYPE_ID(kiln_containers, (kiln::gw::NewContainerResponse))
CAF_ADD_TYPE_ID(kiln_containers, (kiln::gw::ReleaseContainerRequest))
CAF_ADD_TYPE_ID(kiln_containers, (kiln::gw::ReleaseContainerResponse))
CAF_ADD_TYPE_ID(kiln_containers, (kiln::gw::ExecMessage))
CAF_ADD_TYPE_ID(kiln_containers, (kiln::process_listener))
CAF_ADD_TYPE_ID(kiln_containers, (kiln::process_actor))
CAF_ADD_TYPE_ID(kiln_containers, (kiln::container_inputs))
CAF_END_TYPE_ID_BLOCK(kiln_containers)
