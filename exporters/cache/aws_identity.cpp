#include "exporters/cache/aws_identity.hpp"

#include <set>

#include "base/files.hpp"
#include "base/text.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/cache_attributes.hpp"

namespace kiln::exporters {
namespace {

error none(std::string text) { return make_error(errc::unauthenticated, std::move(text)); }

std::optional<aws_keys> keys_of_environment() {
  aws_keys out;
  out.secret = {environment("AWS_ACCESS_KEY_ID", environment("AWS_ACCESS_KEY")),
                environment("AWS_SECRET_ACCESS_KEY", environment("AWS_SECRET_KEY")),
                environment("AWS_SESSION_TOKEN")};
  if (out.secret.key_id.empty() || out.secret.secret.empty()) return {};
  return out;
}

std::string home_file(const char* variable, const char* name) {
  return environment(variable, environment("HOME", "/root") + "/.aws/" + name);
}

bool container_is_named() {
  return !environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").empty() ||
         !environment("AWS_CONTAINER_CREDENTIALS_FULL_URI").empty();
}

/// Of whatever runs us.
result<aws_keys> surroundings(const service_caller& c) {
  if (container_is_named()) return container_keys(c);
  if (to_lower(environment("AWS_EC2_METADATA_DISABLED")) == "true")
    return none("the instance metadata service is switched off (AWS_EC2_METADATA_DISABLED)");
  return instance_keys(c);
}

/// A profile, and those it takes its keys from.
class profile_reader {
 public:
  profile_reader(const service_caller& c, const aws_files& files) : c_(c), files_(files) {}

  /// Nothing when the profile says nothing of keys.
  result<std::optional<aws_keys>> keys(const std::string& name) {
    auto found = files_.profiles.find(name);
    if (found == files_.profiles.end()) return std::optional<aws_keys>();
    const auto& profile = found->second;
    auto setting = [&](const char* key) {
      auto it = profile.find(key);
      return it == profile.end() ? std::string() : it->second;
    };
    if (!visited_.insert(name).second) {
      // A role may be taken on by the keys of its own profile.
      if (auto own = static_keys(profile)) return std::optional(*own);
      return none("profile " + name + " takes its keys from itself");
    }
    auto wrapped = [](result<aws_keys> r) -> result<std::optional<aws_keys>> {
      KILN_TRY(auto keys, std::move(r));
      return std::optional(std::move(keys));
    };
    auto role = setting("role_arn");
    assumed_role wanted{role, setting("role_session_name"), setting("external_id"),
                        setting("duration_seconds")};
    if (auto file = setting("web_identity_token_file"); !file.empty())
      return wrapped(assume_role_by_token(c_, file, wanted));
    if (!role.empty()) {
      if (!setting("mfa_serial").empty())
        return none("profile " + name +
                    " wants a code of a device (mfa_serial), which nobody is here to enter");
      KILN_TRY(auto source, source_of(name, setting("source_profile"), setting("credential_source")));
      return wrapped(assume_role(c_, source.secret, wanted));
    }
    if (auto own = static_keys(profile)) return std::optional(*own);
    if (!setting("sso_session").empty() || !setting("sso_start_url").empty()) {
      auto session = files_.sso_sessions.find(setting("sso_session"));
      if (!setting("sso_session").empty() && session == files_.sso_sessions.end())
        return none("profile " + name + ": there is no section sso-session " + setting("sso_session"));
      return wrapped(
          sso_keys(c_, profile, session == files_.sso_sessions.end() ? aws_settings() : session->second));
    }
    if (auto command = setting("credential_process"); !command.empty())
      return wrapped(process_keys(c_, command));
    return std::optional<aws_keys>();
  }

 private:
  static std::optional<aws_keys> static_keys(const aws_settings& profile) {
    auto id = profile.find("aws_access_key_id"), secret = profile.find("aws_secret_access_key"),
         token = profile.find("aws_session_token");
    if (id == profile.end() || secret == profile.end() || id->second.empty() || secret->second.empty())
      return {};
    aws_keys out;
    out.secret = {id->second, secret->second, token == profile.end() ? "" : token->second};
    return out;
  }

  result<aws_keys> source_of(const std::string& name, const std::string& profile, const std::string& kind) {
    if (!profile.empty()) {
      KILN_TRY(auto keys, this->keys(profile));
      if (keys) return *keys;
      return none("profile " + name + ": its source_profile " + profile + " has no keys");
    }
    if (kind == "Ec2InstanceMetadata") return instance_keys(c_);
    if (kind == "EcsContainer") return container_keys(c_);
    if (kind == "Environment") {
      if (auto keys = keys_of_environment()) return *keys;
      return none("profile " + name + ": the environment has no keys");
    }
    return none("profile " + name +
                " has a role_arn, but neither source_profile nor a credential_source of " +
                "Environment, Ec2InstanceMetadata or EcsContainer");
  }

  const service_caller& c_;
  const aws_files& files_;
  std::set<std::string> visited_;
};

result<aws_keys> found_keys(const service_caller& c) {
  if (auto keys = keys_of_environment()) return *keys;
  if (auto file = environment("AWS_WEB_IDENTITY_TOKEN_FILE"); !file.empty())
    return assume_role_by_token(c, file,
                                {environment("AWS_ROLE_ARN"), environment("AWS_ROLE_SESSION_NAME"), {}, {}});

  auto config = home_file("AWS_CONFIG_FILE", "config"),
       shared = home_file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
  auto text_of = [](const std::string& path) {
    auto text = read_file(path, configs::aws_file_size);
    return text.ok() ? *text : std::string();
  };
  auto files = read_aws_files(text_of(config), text_of(shared));
  auto chosen = environment("AWS_PROFILE", environment("AWS_DEFAULT_PROFILE"));
  if (!chosen.empty() && !files.profiles.contains(chosen))
    return none("profile " + chosen + " (AWS_PROFILE) is neither in " + config + " nor in " + shared);
  KILN_TRY(auto keys, profile_reader(c, files).keys(chosen.empty() ? "default" : chosen));
  if (keys) return *keys;

  auto last = surroundings(c);
  if (last.ok() || last.error().code == errc::cancelled) return last;
  return none(
      "no credentials for s3 cache: set access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and "
      "AWS_SECRET_ACCESS_KEY, or " +
      shared + "; " + last.error().message);
}

}  // namespace

result<aws_credentials> aws_identity::credentials(distribution::transport& transport,
                                                  const job_context& job) {
  return kept_.get([&] { return found_keys(service_caller{transport, job, region_}); });
}

}  // namespace kiln::exporters
