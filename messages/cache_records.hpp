// The cache-key graph: which key, extended by which op, leads to which key, and the results kept under it. As
// the solver looks things up, databases keep them, and nodes tell each other. Plain.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

namespace kiln {

/// One way from an input's key to an op's key. A key without inputs has no link; its id is
/// sha256("<op digest>@<output>"). Source: docs/wire.md, section 8.
struct cache_link {
  std::int32_t input = 0;
  std::int32_t output = 0;
  std::string digest;    // of the op's cache map
  std::string selector;  // digest; may be empty
  auto operator<=>(const cache_link&) const = default;
};

template <class Inspector>
auto inspect(Inspector& f, cache_link& x) {
  return f(x.input, x.output, x.digest, x.selector);
}

/// A link out of a key, and the key it leads to; that is empty where it is what is looked for.
struct cache_edge {
  std::string parent;
  cache_link link;
  std::string child;
  auto operator<=>(const cache_edge&) const = default;
};

template <class Inspector>
auto inspect(Inspector& f, cache_edge& x) {
  return f(x.parent, x.link, x.child);
}

struct cached_result {
  std::string id;  // record id of the ref, or what a cache backend understands
  std::int64_t created_at_ns = 0;
};

template <class Inspector>
auto inspect(Inspector& f, cached_result& x) {
  return f(x.id, x.created_at_ns);
}

/// Result id of a scratch result, which has no record and no place.
inline const std::string scratch_result = "scratch";

/// What a database keeps of finished steps, answers to a question, or is to remember. Result ids are as the
/// node names them (messages/located_id.hpp) whose database it is.
struct cache_records {
  struct result {
    std::string key;
    cached_result result;
  };
  std::vector<cache_edge> links;
  std::vector<result> results;
};

template <class Inspector>
auto inspect(Inspector& f, cache_records::result& x) {
  return f(x.key, x.result);
}
template <class Inspector>
auto inspect(Inspector& f, cache_records& x) {
  return f(x.links, x.results);
}

}  // namespace kiln
