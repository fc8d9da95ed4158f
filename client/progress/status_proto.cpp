#include "client/progress/status_proto.hpp"

#include "control.pb.h"

namespace kiln::client {
namespace {

nanoseconds_t to_ns(const google::protobuf::Timestamp& t) { return t.seconds() * 1'000'000'000 + t.nanos(); }

std::optional<nanoseconds_t> optional_ns(bool present, const google::protobuf::Timestamp& t) {
  if (!present) return std::nullopt;
  return to_ns(t);
}

}  // namespace

solve_status from_proto(const moby::buildkit::v1::StatusResponse& response) {
  solve_status out;
  for (const auto& v : response.vertexes()) {
    vertex x;
    x.digest = v.digest();
    x.inputs.assign(v.inputs().begin(), v.inputs().end());
    x.name = v.name();
    x.started = optional_ns(v.has_started(), v.started());
    x.completed = optional_ns(v.has_completed(), v.completed());
    x.cached = v.cached();
    x.error = v.error();
    if (v.has_progressgroup())
      x.group = progress_group{v.progressgroup().id(), v.progressgroup().name(), v.progressgroup().weak()};
    out.vertices.push_back(std::move(x));
  }
  for (const auto& s : response.statuses()) {
    vertex_status x;
    x.id = s.id();
    x.vertex = s.vertex();
    x.name = s.name();
    x.current = s.current();
    x.total = s.total();
    x.timestamp = to_ns(s.timestamp());
    x.started = optional_ns(s.has_started(), s.started());
    x.completed = optional_ns(s.has_completed(), s.completed());
    out.statuses.push_back(std::move(x));
  }
  for (const auto& l : response.logs())
    out.logs.push_back({l.vertex(), static_cast<int>(l.stream()), l.msg(), to_ns(l.timestamp())});
  for (const auto& w : response.warnings()) {
    vertex_warning x;
    x.vertex = w.vertex();
    x.level = static_cast<int>(w.level());
    x.brief = w.short_();
    x.detail.assign(w.detail().begin(), w.detail().end());
    x.url = w.url();
    if (w.has_info()) x.source = source_info{w.info().filename(), w.info().data(), w.info().language()};
    for (const auto& r : w.ranges())
      x.ranges.push_back({r.start().line(), r.start().character(), r.end().line(), r.end().character()});
    out.warnings.push_back(std::move(x));
  }
  return out;
}

}  // namespace kiln::client
