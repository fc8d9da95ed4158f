// Who the daemon is to Azure when a cache comes without an account key: an application with a secret, or with
// a token that somebody else vouches for (workload identity), as the environment says. Blocking; thread-safe.
// Source: learn.microsoft.com, entra/identity-platform/v2-oauth2-client-creds-grant-flow.
#pragma once

#include <chrono>
#include <mutex>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "messages/job.hpp"
#include "distribution/transport.hpp"

namespace kiln::exporters {

class azure_identity {
 public:
  /// Of AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE, and
  /// AZURE_AUTHORITY_HOST; null when they name nobody.
  static std::shared_ptr<azure_identity> of_environment();

  /// A bearer token for Azure Storage, kept until shortly before it expires.
  /// unauthenticated when the authority gives none; its error names the application.
  result<std::string> token(distribution::transport& transport, const job_context& job);

 private:
  result<std::string> proof() const;

  std::string authority_, tenant_, client_, secret_, token_file_;
  std::mutex mutex_;
  std::string token_;
  std::chrono::steady_clock::time_point good_until_{};
};

}  // namespace kiln::exporters
