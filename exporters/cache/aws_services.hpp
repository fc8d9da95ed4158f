// Those who give out temporary keys of AWS: the machine's metadata service, the container's agent, the token
// service (assumed roles), single sign-on, a program. Blocking; errors name who was asked, never a secret.
// Source: docs.aws.amazon.com, AWS SDKs and Tools Reference Guide, "Standardized credential providers".
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "distribution/transport.hpp"
#include "exporters/cache/aws_profile.hpp"
#include "exporters/cache/aws_signature.hpp"
#include "exporters/cache/temporary_secret.hpp"
#include "messages/job.hpp"

namespace kiln::exporters {

using aws_keys = temporary<aws_credentials>;

struct service_caller {
  distribution::transport& transport;
  const job_context& job;
  std::string region;
};

struct assumed_role {
  std::string arn;
  std::string session_name;      // empty: one of ours
  std::string external_id;       // empty: none
  std::string duration_seconds;  // empty: the service's default
};

/// Letters, digits and hyphens: nothing that makes another host of one that it is part of.
bool is_aws_region(std::string_view region);
/// "amazonaws.com", or what the region's part of the world has instead.
std::string aws_domain(const std::string& region);

/// Of the role of an EC2 instance. unavailable when nobody answers, as on any machine elsewhere.
result<aws_keys> instance_keys(const service_caller& c);
/// Of an ECS task or an EKS pod, by the environment's AWS_CONTAINER_*.
result<aws_keys> container_keys(const service_caller& c);
/// Of a role that `who` may take on.
result<aws_keys> assume_role(const service_caller& c, const aws_credentials& who, const assumed_role& role);
/// Of a role that whoever has the token in that file may take on (EKS service accounts, GitHub's OIDC).
result<aws_keys> assume_role_by_token(const service_caller& c, const std::string& token_file,
                                      const assumed_role& role);
/// Of a profile whose user has logged in (`aws sso login`); renews the login where it can be renewed.
/// `session`: the section sso_session of the profile, empty for profiles of the older kind.
result<aws_keys> sso_keys(const service_caller& c, const aws_settings& profile, const aws_settings& session);
/// From a program's output.
result<aws_keys> process_keys(const service_caller& c, const std::string& command);

}  // namespace kiln::exporters
