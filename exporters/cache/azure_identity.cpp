#include "exporters/cache/azure_identity.hpp"

namespace kiln::exporters {
namespace {

result<azure_token> found_token(distribution::transport& transport, const job_context& job) {
  KILN_TRY(auto application, application_token(transport, job));
  if (application) return *application;
  auto machine = machine_token(transport, job);
  if (machine.ok() || machine.error().code == errc::cancelled) return machine;
  auto user = cli_token(job);
  if (user.ok() || user.error().code == errc::cancelled) return user;
  return make_error(
      errc::unauthenticated,
      "no credentials for azblob cache: set secret_access_key, or AZURE_TENANT_ID and AZURE_CLIENT_ID "
      "with AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH or AZURE_FEDERATED_TOKEN_FILE; " +
          machine.error().message + "; " + user.error().message);
}

}  // namespace

result<std::string> azure_identity::token(distribution::transport& transport, const job_context& job) {
  return kept_.get([&] { return found_token(transport, job); });
}

}  // namespace kiln::exporters
