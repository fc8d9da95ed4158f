// How disk usage is written: table, verbose blocks, summary, and as a value for templates. Pure.
#pragma once

#include <string>
#include <vector>

#include "client/commands/go_value.hpp"
#include "control.pb.h"

namespace kiln::client {

using usage_record = moby::buildkit::v1::UsageRecord;

/// Source: buildctl diskusage.go.
std::string usage_table_header();
std::string usage_table_row(const usage_record& r);
std::string usage_verbose(const usage_record& r);
std::string usage_summary(const std::vector<usage_record>& records);
go_value usage_value(const usage_record& r);

}  // namespace kiln::client
