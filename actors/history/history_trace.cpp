#include "actors/history/history_trace.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "base/digest.hpp"
#include "base/json_text.hpp"
#include "base/time_text.hpp"
#include "configs/version.hpp"

namespace kiln::actors {

namespace {

namespace ctl = moby::buildkit::v1;
using json = nlohmann::ordered_json;

enum span_kind { internal = 1, server = 2 };  // OpenTelemetry's numbers

std::int64_t ns_of(const google::protobuf::Timestamp& t) { return t.seconds() * 1'000'000'000 + t.nanos(); }

json attribute(const char* key, const char* type, json value) {
  return {{"Key", key}, {"Value", {{"Type", type}, {"Value", std::move(value)}}}};
}

class spans {
 public:
  explicit spans(const std::string& ref) : ref_(ref), trace_(id_of("", 32)) {}

  /// 64 bits that the build and the name always give again.
  std::string id_of(const std::string& name, std::size_t digits = 16) const {
    auto sum = sha256(ref_ + "\n" + name);
    return std::string(sum.hex().substr(0, digits));
  }

  void add(const std::string& id, const std::string& parent, span_kind kind, const std::string& name,
           std::int64_t start_ns, std::int64_t end_ns, json attributes, const std::string& error,
           int children) {
    json scope{{"Name", "kiln"}, {"Version", configs::version}, {"SchemaURL", ""}};
    json span{{"Name", name},
              {"SpanContext", context(id)},
              {"Parent", context(parent)},
              {"SpanKind", kind},
              {"StartTime", format_rfc3339(start_ns)},
              {"EndTime", format_rfc3339(end_ns)},
              {"Attributes", std::move(attributes)},
              {"Events", nullptr},
              {"Links", nullptr},
              {"Status", {{"Code", error.empty() ? "Unset" : "Error"}, {"Description", error}}},
              {"DroppedAttributes", 0},
              {"DroppedEvents", 0},
              {"DroppedLinks", 0},
              {"ChildSpanCount", children},
              {"Resource", json::array({attribute("service.name", "STRING", "kilnd")})},
              {"InstrumentationScope", scope},
              {"InstrumentationLibrary", scope}};
    text_ += json_text(span, 2) + "\n";
  }

  std::string take() { return std::move(text_); }

 private:
  json context(const std::string& id) const {
    bool none = id.empty();
    return {{"TraceID", none ? std::string(32, '0') : trace_},
            {"SpanID", none ? std::string(16, '0') : id},
            {"TraceFlags", none ? "00" : "01"},
            {"TraceState", ""},
            {"Remote", false}};
  }

  std::string ref_, trace_, text_;
};

/// Everything said of one step, the last word of each.
struct step {
  ctl::Vertex vertex;
  std::vector<ctl::VertexStatus> reports;  // in the order of their first appearance
};

std::vector<step> steps_of(const std::vector<ctl::StatusResponse>& log) {
  std::vector<step> out;
  std::map<std::string, std::size_t> index;
  auto at = [&](const std::string& digest) -> step& {
    auto [it, fresh] = index.emplace(digest, out.size());
    if (fresh) out.emplace_back();
    return out[it->second];
  };
  for (const auto& response : log) {
    for (const auto& v : response.vertexes()) at(v.digest()).vertex = v;
    for (const auto& s : response.statuses()) {
      auto& reports = at(s.vertex()).reports;
      auto known =
          std::find_if(reports.begin(), reports.end(), [&](const auto& r) { return r.id() == s.id(); });
      if (known == reports.end()) reports.push_back(s);
      else *known = s;
    }
  }
  std::erase_if(out, [](const step& s) { return !s.vertex.has_started() || !s.vertex.has_completed(); });
  for (auto& s : out)
    std::erase_if(s.reports, [](const auto& r) { return !r.has_started() || !r.has_completed(); });
  return out;
}

}  // namespace

std::string trace_of(const ctl::BuildHistoryRecord& record, const std::vector<ctl::StatusResponse>& log) {
  spans all(record.ref());
  auto steps = steps_of(log);
  auto root = all.id_of("build");
  json about = json::array({attribute("ref", "STRING", record.ref())});
  if (!record.frontend().empty()) about.push_back(attribute("frontend", "STRING", record.frontend()));
  all.add(root, "", server, "moby.buildkit.v1.Control/Solve", ns_of(record.createdat()),
          ns_of(record.completedat()), std::move(about), record.error().message(),
          static_cast<int>(steps.size()));
  for (const auto& s : steps) {
    const auto& v = s.vertex;
    auto id = all.id_of(v.digest());
    all.add(id, root, internal, v.name(), ns_of(v.started()), ns_of(v.completed()),
            json::array({attribute("vertex", "STRING", v.digest()), attribute("cached", "BOOL", v.cached())}),
            v.error(), static_cast<int>(s.reports.size()));
    for (const auto& r : s.reports)
      all.add(all.id_of(v.digest() + "\n" + r.id()), id, internal, r.id(), ns_of(r.started()),
              ns_of(r.completed()),
              r.current() > 0 ? json::array({attribute("bytes", "INT64", r.current())}) : json::array(), "",
              0);
  }
  return all.take();
}

}  // namespace kiln::actors
