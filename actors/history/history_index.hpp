// The finished builds of a node in the orders they are asked for: by ref, by when they began, by when they
// ended; and what is kept on disk for each. A plain class that its owner drives; knows nothing of the store.
//
// No call costs more than what it answers and a logarithm of what there is: `touched()` counts the records
// that were looked at, so that a test can tell.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "configs/history.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

/// What may stay. Bytes and numbers are of unpinned records only.
struct history_bounds {
  int entries_max = configs::history::entries_max;  // stay whatever their age
  std::int64_t age_max_ns = std::chrono::nanoseconds(configs::history::age_max).count();
  std::size_t records_max = configs::history::records_max;
  std::size_t record_bytes_max = configs::history::record_bytes_max;
  std::int64_t document_bytes_max = configs::history::document_bytes_max;
};

class history_index {
 public:
  explicit history_index(history_bounds bounds) : bounds_(bounds) {}

  /// Adds a record, or replaces the one of that ref.
  void put(ctl::BuildHistoryRecord record);
  /// Takes a record out; null when there is none.
  std::optional<ctl::BuildHistoryRecord> take(const std::string& ref);
  /// Null when there is none. Valid until the next change.
  const ctl::BuildHistoryRecord* find(const std::string& ref) const;

  /// Records by when they began, until `visit` returns false.
  void visit(bool newest_first, const std::function<bool(const ctl::BuildHistoryRecord&)>& visit) const;

  /// Which unpinned records may go, those that ended first first, `count_max` at most: beyond the newest
  /// `entries_max` and older than the age, or more than the bounds allow. Refs.
  std::vector<std::string> expired(std::int64_t now_ns, std::size_t count_max) const;
  /// From when on expired() has an answer, if nothing is added until then; nothing when never.
  std::optional<std::int64_t> next_expiry_ns() const;

  /// Digests of the documents of a record that was taken out, without those that another record has too.
  std::vector<std::string> orphaned_documents(const ctl::BuildHistoryRecord& record) const;

  std::size_t size() const { return by_ref_.size(); }
  std::size_t pinned() const { return by_ref_.size() - by_end_.size(); }
  std::uint64_t touched() const { return touched_; }

 private:
  using moment = std::pair<std::int64_t, std::string>;  // ns and ref
  struct entry {
    ctl::BuildHistoryRecord record;
    std::size_t bytes = 0;
    std::int64_t document_bytes = 0;
  };
  const entry& look(const moment& at) const;
  void count(const entry& e, int sign);

  history_bounds bounds_;
  std::unordered_map<std::string, entry> by_ref_;
  std::set<moment> by_begin_;
  std::set<moment> by_end_;  // of unpinned ones
  std::size_t bytes_ = 0;
  std::int64_t document_bytes_ = 0;
  std::unordered_map<std::string, int> documents_;  // digest → how many records have it
  mutable std::uint64_t touched_ = 0;
};

/// What is kept for a record and goes with it.
std::vector<ctl::Descriptor> documents_of(const ctl::BuildHistoryRecord& record);

/// Cuts the long texts of a record that is too large to be told to everyone.
void bound_record(ctl::BuildHistoryRecord& record);

}  // namespace kiln::actors
