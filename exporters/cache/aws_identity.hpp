// Who the daemon is to AWS when a cache comes without keys: found where the AWS tools look, in their order.
// Thread-safe; blocking.
// Source: docs.aws.amazon.com, AWS SDK for Go v2, config package (resolution of credentials).
#pragma once

#include <string>

#include "exporters/cache/aws_services.hpp"

namespace kiln::exporters {

class aws_identity {
 public:
  /// `region`: where roles are assumed.
  explicit aws_identity(std::string region) : region_(std::move(region)) {}

  /// Keys of the environment, a web identity's role, the profile (AWS_PROFILE) of the shared files, the
  /// container's or the instance's role. unauthenticated tells what was looked for, and why it gave none.
  result<aws_credentials> credentials(distribution::transport& transport, const job_context& job);

 private:
  std::string region_;
  temporary_secret<aws_credentials> kept_;
};

}  // namespace kiln::exporters
