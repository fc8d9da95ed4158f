#include "actors/history/history_orphans.hpp"

#include <set>
#include <string>

#include <spdlog/spdlog.h>

#include "actors/history/history.hpp"
#include "store/ref_store.hpp"

namespace kiln::actors {

namespace {

constexpr const char* bucket = "history";
constexpr const char* keep_label = "kiln.keep.history";

/// Everything that is kept for a record.
void add_documents(const ctl::BuildHistoryRecord& record, std::set<std::string>& out) {
  out.insert({record.logs().digest(), record.externalerror().digest(), record.trace().digest()});
  for (const auto& a : record.result().attestations()) out.insert(a.digest());
  for (const auto& [part, info] : record.results())
    for (const auto& a : info.attestations()) out.insert(a.digest());
}

}  // namespace

int sweep_history_documents(store::ref_store& store) {
  std::set<std::string> named;
  for (const auto& [ref, bytes] : store.values().all(bucket)) {
    ctl::BuildHistoryRecord record;
    if (record.ParseFromString(bytes)) add_documents(record, named);
  }
  int swept = 0;
  for (const auto& blob : store.blobs().list()) {
    if (!blob.labels.contains(keep_label) || named.contains(blob.digest.str())) continue;
    if (auto gone = store.blobs().remove(blob.digest); gone.ok()) ++swept;
    else spdlog::warn("history: {}", gone.error().message);
  }
  if (swept > 0) spdlog::info("history: swept {} documents of builds that have no record", swept);
  return swept;
}

}  // namespace kiln::actors
