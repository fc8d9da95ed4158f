// Who the daemon is to Azure when a cache comes without an account key: the first of those that Azure's tools
// look for who is there. Blocking; thread-safe. Source: learn.microsoft.com, azidentity,
// DefaultAzureCredential.
#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "exporters/cache/azure_tokens.hpp"
#include "exporters/cache/temporary_secret.hpp"

namespace kiln::exporters {

class azure_identity {
 public:
  /// A bearer token for Azure Storage: of the environment's application (AZURE_TENANT_ID, AZURE_CLIENT_ID and
  /// a secret, a certificate or a token that vouches for it), of the identity of the machine, of a user who
  /// has logged in with the Azure CLI. unauthenticated names who was asked, and why he gave none.
  result<std::string> token(distribution::transport& transport, const job_context& job);

 private:
  temporary_secret<std::string> kept_;
};

}  // namespace kiln::exporters
