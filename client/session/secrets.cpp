#include "client/session/secrets.hpp"

#include <cstdlib>

#include <sys/stat.h>

#include <fmt/format.h>

#include "client/connect/dial.hpp"
#include "client/fd.hpp"
#include "secrets.grpc.pb.h"

namespace kiln::client {
namespace {

namespace proto = moby::buildkit::secrets::v1;

class secrets_service : public session_service, public proto::Secrets::Service {
 public:
  explicit secrets_service(std::map<std::string, secret_source> secrets) : secrets_(std::move(secrets)) {}

  grpc::Service& service() override { return *this; }
  std::vector<std::string> methods() const override {
    return {"/moby.buildkit.secrets.v1.Secrets/GetSecret"};
  }

  grpc::Status GetSecret(grpc::ServerContext*, const proto::GetSecretRequest* request,
                         proto::GetSecretResponse* response) override {
    auto value = read_secret(secrets_, request->id());
    if (!value.ok()) return to_grpc(value.error());
    response->set_data(*std::move(value));
    return grpc::Status::OK;
  }

 private:
  std::map<std::string, secret_source> secrets_;
};

}  // namespace

result<std::map<std::string, secret_source>> resolve_secrets(const std::vector<secret_source>& sources) {
  std::map<std::string, secret_source> out;
  for (auto source : sources) {
    if (source.id.empty()) return make_error(errc::invalid_argument, "secret missing ID");
    if (source.environment.empty() && source.file.empty())
      (std::getenv(source.id.c_str()) ? source.environment : source.file) = source.id;
    if (!source.file.empty()) {
      struct stat st {};
      if (::stat(source.file.c_str(), &st) != 0) return errno_error(errno, "failed to stat " + source.file);
      if (st.st_size > static_cast<off_t>(secret_bytes_max))
        return make_error(errc::invalid_argument,
                          fmt::format("secret {} too big. max size 500KiB", source.id));
    }
    out[source.id] = source;
  }
  return out;
}

result<std::string> read_secret(const std::map<std::string, secret_source>& secrets, const std::string& id) {
  auto it = secrets.find(id);
  if (it == secrets.end()) return make_error(errc::not_found, "not found");
  if (!it->second.environment.empty()) {
    const char* value = std::getenv(it->second.environment.c_str());
    return std::string(value ? value : "");
  }
  return read_file(it->second.file, secret_bytes_max);
}

std::unique_ptr<session_service> make_secrets_service(std::map<std::string, secret_source> secrets) {
  return std::make_unique<secrets_service>(std::move(secrets));
}

}  // namespace kiln::client
