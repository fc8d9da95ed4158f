#include "client/commands/usage_text.hpp"

#include <fmt/format.h>

#include "base/plain_text.hpp"
#include "base/time_text.hpp"
#include "client/progress/format.hpp"

namespace kiln::client {
namespace {

nanoseconds_t to_ns(const google::protobuf::Timestamp& t) { return t.seconds() * 1'000'000'000 + t.nanos(); }

std::string line(std::string_view key, std::string_view value) {
  return fmt::format("{}:\t{}\n", key, value);
}

std::string yes(bool b) { return b ? "true" : "false"; }

}  // namespace

std::string usage_table_header() { return "ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\n"; }

std::string usage_table_row(const usage_record& r) {
  return fmt::format("{:<71}\t{:<11}\t{}\t\n", r.id() + (r.mutable_() ? "*" : ""), yes(!r.inuse()),
                     format_bytes(r.size()) + (r.shared() ? "*" : ""));
}

std::string usage_verbose(const usage_record& r) {
  std::string out = line("ID", r.id());
  if (r.parents_size() > 0) out += line("Parents", fmt::format("{}", fmt::join(r.parents(), ";")));
  out += line("Created at", format_go_time(to_ns(r.createdat())));
  out += line("Mutable", yes(r.mutable_()));
  out += line("Reclaimable", yes(!r.inuse()));
  out += line("Shared", yes(r.shared()));
  out += line("Size", format_bytes(r.size()));
  if (!r.description().empty()) out += line("Description", one_line(r.description()));
  out += line("Usage count", fmt::format("{}", r.usagecount()));
  if (r.has_lastusedat()) out += line("Last used", format_go_time(to_ns(r.lastusedat())));
  if (!r.recordtype().empty()) out += line("Type", r.recordtype());
  return out + "\n";
}

std::string usage_summary(const std::vector<usage_record>& records) {
  std::int64_t total = 0, reclaimable = 0, shared = 0;
  for (const auto& r : records) {
    if (r.size() > 0) {
      total += r.size();
      if (!r.inuse()) reclaimable += r.size();
    }
    if (r.shared()) shared += r.size();
  }
  std::string out;
  if (shared > 0) out += line("Shared", format_bytes(shared)) + line("Private", format_bytes(total - shared));
  return out + line("Reclaimable", format_bytes(reclaimable)) + line("Total", format_bytes(total));
}

go_value usage_value(const usage_record& r) {
  go_value parents;
  if (r.parents_size() > 0) {
    go_value::array list;
    for (const auto& p : r.parents()) list.push_back(p);
    parents = std::move(list);
  }
  go_value last_used;
  if (r.has_lastusedat()) last_used = format_rfc3339(to_ns(r.lastusedat()));
  return go_value::object{{{"id", r.id()},
                           {"mutable", r.mutable_()},
                           {"inUse", r.inuse()},
                           {"size", std::int64_t{r.size()}},
                           {"createdAt", format_rfc3339(to_ns(r.createdat()))},
                           {"lastUsedAt", std::move(last_used)},
                           {"usageCount", std::int64_t{r.usagecount()}},
                           {"parents", std::move(parents)},
                           {"description", r.description()},
                           {"recordType", r.recordtype()},
                           {"shared", r.shared()}}};
}

}  // namespace kiln::client
