// The trace of a finished build, as clients' history tools read it: spans made of the progress that was kept.
#pragma once

#include <string>
#include <vector>

#include "control.pb.h"

namespace kiln::actors {

inline constexpr const char* trace_media_type = "application/vnd.buildkit.otlp.json.v0";

/// One JSON object a span: the build, its steps below it, what a step reported (pulls, pushes, …) below that.
/// What never started or never ended is left out. Pure.
/// Source: BuildKit solver/llbsolver/history.go; OpenTelemetry's Go SpanStub.
std::string trace_of(const moby::buildkit::v1::BuildHistoryRecord& record,
                     const std::vector<moby::buildkit::v1::StatusResponse>& log);

}  // namespace kiln::actors
