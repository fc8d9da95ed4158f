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

using table = std::map<std::string_view, walker>;

template <class T>
void add(table& out) {
  if constexpr (caf::is_atom_constant<T>::value) {
    add<caf::atom_value>(out);
  } else if constexpr (!std::is_void_v<T>) {
    out[wire_name<T>()] = &walk_one<T>;
  }
}

template <class... In, class... Out>
void add_parts(table& out, caf::typed_mpi<caf::detail::type_list<In...>, caf::output_tuple<Out...>>) {
  (add<In>(out), ...);
  (add<Out>(out), ...);
}

template <class... Signatures>
void add_all(table& out, caf::detail::type_list<Signatures...>) {
  (add_parts(out, Signatures()), ...);
}

/// Everything that nodes say to each other, and what errors have in them.
const table& walkers() {
  static const auto all = [] {
    table out;
    add_all(out, node_actor::signatures());
    add_all(out, peer_worker_actor::signatures());
    add_all(out, progress_actor::signatures());
    add<kiln::error>(out);
    add<caf::error>(out);
    add<std::int32_t>(out);
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
