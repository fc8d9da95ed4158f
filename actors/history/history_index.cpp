#include "actors/history/history_index.hpp"

#include <algorithm>

#include "base/shortened.hpp"
#include "rpc_status.pb.h"

namespace kiln::actors {

namespace {

std::int64_t ns_of(const google::protobuf::Timestamp& t) { return t.seconds() * 1'000'000'000 + t.nanos(); }

std::int64_t began(const ctl::BuildHistoryRecord& r) { return ns_of(r.createdat()); }
std::int64_t ended(const ctl::BuildHistoryRecord& r) { return ns_of(r.completedat()); }

void cut(std::string& text) { text = shortened(std::move(text), configs::history::long_text_bytes); }

void cut_all(google::protobuf::Map<std::string, std::string>& texts) {
  for (auto& [key, text] : texts) cut(text);
}

}  // namespace

std::vector<ctl::Descriptor> documents_of(const ctl::BuildHistoryRecord& record) {
  std::vector<ctl::Descriptor> out;
  std::set<std::string_view> known{""};
  auto add = [&](const ctl::Descriptor& d) {
    if (known.insert(d.digest()).second) out.push_back(d);
  };
  add(record.logs());
  add(record.externalerror());
  add(record.trace());
  for (const auto& a : record.result().attestations()) add(a);
  for (const auto& [part, info] : record.results())
    for (const auto& a : info.attestations()) add(a);
  return out;
}

void bound_record(ctl::BuildHistoryRecord& record) {
  auto too_large = [&] { return record.ByteSizeLong() > configs::history::one_record_bytes_max; };
  if (!too_large()) return;
  cut_all(*record.mutable_frontendattrs());
  cut_all(*record.mutable_exporterresponse());
  for (auto& e : *record.mutable_exporters()) cut_all(*e.mutable_attrs());
  if (record.has_error()) cut(*record.mutable_error()->mutable_message());
  // Many short ones are as large as a few long ones.
  if (too_large()) record.clear_frontendattrs();
  if (too_large()) record.clear_exporterresponse();
  if (too_large()) record.clear_exporters();
  if (too_large() && record.has_error()) record.mutable_error()->clear_details();
}

const history_index::entry& history_index::look(const moment& at) const {
  ++touched_;
  return by_ref_.at(at.second);
}

void history_index::count(const entry& e, int sign) {
  if (!e.record.pinned()) {
    bytes_ += static_cast<std::size_t>(sign) * e.bytes;
    document_bytes_ += sign * e.document_bytes;
  }
  for (const auto& d : documents_of(e.record)) {
    auto known = documents_.try_emplace(d.digest(), 0).first;
    known->second += sign;
    if (known->second == 0) documents_.erase(known);
  }
}

void history_index::put(ctl::BuildHistoryRecord record) {
  take(record.ref());
  auto ref = record.ref();
  entry e;
  e.bytes = record.ByteSizeLong();
  for (const auto& d : documents_of(record)) e.document_bytes += d.size();
  by_begin_.emplace(began(record), ref);
  if (!record.pinned()) by_end_.emplace(ended(record), ref);
  e.record = std::move(record);
  count(e, 1);
  by_ref_.emplace(std::move(ref), std::move(e));
  ++touched_;
}

std::optional<ctl::BuildHistoryRecord> history_index::take(const std::string& ref) {
  auto found = by_ref_.find(ref);
  if (found == by_ref_.end()) return std::nullopt;
  auto e = std::move(found->second);
  by_begin_.erase({began(e.record), ref});
  by_end_.erase({ended(e.record), ref});
  by_ref_.erase(found);
  count(e, -1);
  ++touched_;
  return std::move(e.record);
}

const ctl::BuildHistoryRecord* history_index::find(const std::string& ref) const {
  auto found = by_ref_.find(ref);
  return found == by_ref_.end() ? nullptr : &found->second.record;
}

void history_index::visit(bool newest_first,
                          const std::function<bool(const ctl::BuildHistoryRecord&)>& visit) const {
  if (newest_first) {
    for (auto at = by_begin_.rbegin(); at != by_begin_.rend(); ++at)
      if (!visit(look(*at).record)) return;
  } else {
    for (const auto& at : by_begin_)
      if (!visit(look(at).record)) return;
  }
}

std::vector<std::string> history_index::expired(std::int64_t now_ns, std::size_t count_max) const {
  std::vector<std::string> out;
  auto left = by_end_.size();
  auto bytes = bytes_;
  auto document_bytes = document_bytes_;
  auto entries = static_cast<std::size_t>(std::max(0, bounds_.entries_max));
  for (const auto& at : by_end_) {
    if (out.size() == count_max) break;
    bool too_much = left > std::max(entries, bounds_.records_max) || bytes > bounds_.record_bytes_max ||
                    document_bytes > bounds_.document_bytes_max;
    bool too_old = left > entries && now_ns - at.first > bounds_.age_max_ns;
    if (!too_much && !too_old) break;
    const auto& e = look(at);
    out.push_back(at.second);
    --left;
    bytes -= e.bytes;
    document_bytes -= e.document_bytes;
  }
  return out;
}

std::optional<std::int64_t> history_index::next_expiry_ns() const {
  auto entries = static_cast<std::size_t>(std::max(0, bounds_.entries_max));
  if (by_end_.empty()) return std::nullopt;
  if (by_end_.size() > std::max(entries, bounds_.records_max) || bytes_ > bounds_.record_bytes_max ||
      document_bytes_ > bounds_.document_bytes_max)
    return 0;
  if (by_end_.size() <= entries) return std::nullopt;
  return by_end_.begin()->first + bounds_.age_max_ns;
}

std::vector<std::string> history_index::orphaned_documents(const ctl::BuildHistoryRecord& record) const {
  std::vector<std::string> out;
  for (const auto& d : documents_of(record))
    if (!documents_.contains(d.digest())) out.push_back(d.digest());
  return out;
}

}  // namespace kiln::actors
