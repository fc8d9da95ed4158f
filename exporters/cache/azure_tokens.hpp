// Those who give out Azure's tokens: the authority to an application, the machine or service we run in, the
// Azure CLI. Blocking; errors name who was asked, never a secret. Source: learn.microsoft.com,
// entra/identity-platform/v2-oauth2-client-creds-grant-flow and certificate-credentials;
// entra/identity/managed-identities-azure-resources/how-to-use-vm-token; azidentity.
#pragma once

#include <optional>
#include <string>

#include "base/result.hpp"
#include "distribution/transport.hpp"
#include "exporters/cache/temporary_secret.hpp"
#include "messages/job.hpp"

namespace kiln::exporters {

using azure_token = temporary<std::string>;

/// Of the application that the environment names; nothing when it names none.
result<std::optional<azure_token>> application_token(distribution::transport& transport,
                                                     const job_context& job);
/// Of the managed identity: App Service, Azure Arc, or the metadata service of virtual machines.
result<azure_token> machine_token(distribution::transport& transport, const job_context& job);
/// Of whoever has logged in with `az login`.
result<azure_token> cli_token(const job_context& job);

/// What shows that we hold the certificate's key: a signed claim (JWT) for that address of the authority.
/// `file`: PEM with certificate and key, or PKCS #12. `chain`: send the certificates along.
result<std::string> certificate_assertion(const std::string& file, const std::string& password,
                                          const std::string& client, const std::string& address, bool chain,
                                          std::int64_t now_s);

}  // namespace kiln::exporters
