// What actors say to each other about importing and exporting a build's cache. Plain.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "messages/session.hpp"
#include "messages/solve_types.hpp"

namespace kiln {

/// One cache import or export of a request.
struct cache_entry {
  std::string type;
  std::map<std::string, std::string> attributes;
  bool operator==(const cache_entry&) const = default;
};

template <class Inspector>
auto inspect(Inspector& f, cache_entry& x) {
  return f(x.type, x.attributes);
}

/// What a cache export is, once its type and attributes are found to be good.
struct cache_export_kind {
  std::string name;  // of its progress vertex
  bool is_inline = false;
  bool ignore_error = false;
};

template <class Inspector>
auto inspect(Inspector& f, cache_export_kind& x) {
  return f(x.name, x.is_inline, x.ignore_error);
}

/// Asks for a cache to be imported and kept for as long as the asker lives.
struct cache_import {
  std::string id;      // by which vertices find it, unique in the daemon
  std::string vertex;  // digest of its progress vertex
  cache_entry entry;
  session_group sessions;
};

template <class Inspector>
auto inspect(Inspector& f, cache_import& x) {
  return f(x.id, x.vertex, x.entry, x.sessions);
}

/// Caches a vertex may look keys up in.
struct import_list {
  std::vector<std::string> ids;
};

template <class Inspector>
auto inspect(Inspector& f, import_list& x) {
  return f(x.ids);
}

/// Asks for a ref of a result of an imported cache, pinned for the asker.
struct import_load {
  std::string id;  // of the import
  std::string result;
  std::string vertex;
  session_group sessions;
};

template <class Inspector>
auto inspect(Inspector& f, import_load& x) {
  return f(x.id, x.result, x.vertex, x.sessions);
}

struct cache_steps {
  std::vector<cache_step> steps;
};

template <class Inspector>
auto inspect(Inspector& f, cache_steps& x) {
  return f(x.steps);
}

struct cache_export {
  std::string vertex;
  cache_entry entry;
  cache_trail trail;
  session_group sessions;
};

template <class Inspector>
auto inspect(Inspector& f, cache_export& x) {
  return f(x.vertex, x.entry, x.trail, x.sessions);
}

}  // namespace kiln
