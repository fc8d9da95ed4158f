#include "node/basp_walk.hpp"

#include <cstring>

namespace kiln::node {

namespace {

using walker = bool (*)(basp_walk&);

template <class T>
bool walk_one(basp_walk& walk) {
  T scratch{};
  return walk.value(scratch);
}

template <class... Ts>
std::map<std::string_view, walker> table_of() {
  return {{caf::type_name<Ts>::value, &walk_one<Ts>}...};
}

/// Everything that nodes say to each other. CAF's own types have names of their own on the wire.
const std::map<std::string_view, walker>& walkers() {
  static const auto all = [] {
    auto out =
        table_of<kiln::error, link_hello, link_heartbeat, cache_query, cache_records, run_request, run_reply,
                 checksum_request, digest, ref_scope, prune_caches, worker_actor, progress_actor,
                 gw::ReadFileRequest, gw::ReadFileResponse, gw::ReadDirRequest, gw::ReadDirResponse,
                 gw::StatFileRequest, gw::StatFileResponse, ctl::StatusResponse, bool>();
    out["@str"] = &walk_one<std::string>;
    out["@u64"] = &walk_one<std::uint64_t>;
    out["@i32"] = &walk_one<std::int32_t>;
    out["@atom"] = &walk_one<caf::atom_value>;
    out["@error"] = &walk_one<caf::error>;
    out["@strong_actor_ptr"] = &walk_one<caf::strong_actor_ptr>;
    return out;
  }();
  return all;
}

}  // namespace

bool walk_named(basp_walk& walk, std::string_view type) {
  auto found = walkers().find(type);
  return found == walkers().end() ? walk.fail() : found->second(walk);
}

bool basp_walk::error() {
  std::uint8_t code = 0;
  std::uint64_t category = 0;
  std::string_view names;
  if (depth_left_ == 0 || !number(code) || !number(category) || !head(names)) return fail();
  --depth_left_;
  names.remove_prefix(std::strlen("@<>"));
  while (!names.empty()) {
    names.remove_prefix(1);  // '+', or what walk_named does not know
    auto name = names.substr(0, names.find('+'));
    if (!walk_named(*this, name)) return fail();
    names.remove_prefix(name.size());
  }
  ++depth_left_;
  return true;
}

}  // namespace kiln::node
