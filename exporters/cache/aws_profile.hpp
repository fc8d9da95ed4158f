// What the AWS tools keep in ~/.aws/config and ~/.aws/credentials. Pure.
// Source: docs.aws.amazon.com, AWS SDKs and Tools Reference Guide, "Shared config and credentials files".
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace kiln::exporters {

/// The settings of one section, names in lower case.
using aws_settings = std::map<std::string, std::string>;

struct aws_files {
  std::map<std::string, aws_settings> profiles;
  std::map<std::string, aws_settings> sso_sessions;
};

/// A profile that is in both has the settings of both, those of `credentials` first. What is no setting
/// (nested values, sections of other kinds) is passed over, as the tools do.
aws_files read_aws_files(std::string_view config, std::string_view credentials);

}  // namespace kiln::exporters
