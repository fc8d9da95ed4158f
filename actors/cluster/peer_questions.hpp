// What other nodes know of cache keys: answering their questions, and asking all of them at once. Used on the
// cluster's actor only; the database is read by jobs.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "actors/cluster/membership.hpp"

namespace kiln::actors {

class peer_questions {
 public:
  /// Both must outlive this.
  peer_questions(cluster_context& cluster, membership& members) : c_(cluster), members_(members) {}

  /// What this node's database knows.
  caf::result<cache_records> answer(cache_query& q);
  /// What those that answer in time know, ids as this node names them.
  caf::result<cache_records> ask(cache_query& q);
  /// Answers whoever waits for this node.
  void refuse_all(const error& why);

 private:
  /// Everything that several peers answer, without doubles.
  struct gathering {
    cache_records all;
    std::set<std::pair<std::string, std::string>> results;  // key and id
    std::set<cache_edge> links;
  };

  void merge(gathering& into, const std::string& peer, cache_records& facts) const;

  cluster_context& c_;
  membership& members_;
  std::map<std::uint64_t, caf::typed_response_promise<cache_records>> open_;
  std::uint64_t last_ = 0;
};

}  // namespace kiln::actors
