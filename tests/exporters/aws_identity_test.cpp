// Whose keys the daemon uses for S3 when a cache comes without: against services that answer as Amazon's do.
#include <catch2/catch.hpp>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "base/json_text.hpp"
#include "base/time_text.hpp"
#include "distribution/transport.hpp"
#include "exporters/cache/aws_identity.hpp"
#include "exporters/cache/aws_profile.hpp"
#include "tests/support/environment_of.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::exporters;
using kiln::test::environment_of;
using kiln::test::http_answer;
using kiln::test::http_request;
using kiln::test::temp_dir;

namespace {

std::string in_seconds(std::int64_t s) { return format_rfc3339_seconds(std::time(nullptr) + s); }

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Metadata service, container agent, token service and single sign-on on one port.
struct amazon {
  std::mutex mutex;
  std::int64_t life = 3'600;  // seconds
  bool version_1 = false;     // of the metadata service: no session tokens
  int given = 0;
  kiln::test::http_server server{[this](const http_request& r) { return answer(r); }};

  std::string keys(const std::string& id, const std::string& token_name) {
    ++given;
    return R"({"Code":"Success","AccessKeyId":")" + id + R"(","SecretAccessKey":"s","Expiration":")" +
           in_seconds(life) + R"(",")" + token_name + R"(":"t)" + std::to_string(given) + R"("})";
  }
  http_answer answer(const http_request& r) {
    std::lock_guard lock(mutex);
    if (r.path == "/latest/api/token") {
      if (version_1) return {404, {}, ""};
      bool right = r.method == "PUT" && r.header("x-aws-ec2-metadata-token-ttl-seconds") == "21600";
      return right ? http_answer{200, {}, "session"} : http_answer{400, {}, ""};
    }
    if (r.path.starts_with("/latest/meta-data/")) {
      if (!version_1 && r.header("x-aws-ec2-metadata-token") != "session") return {401, {}, ""};
      if (r.path.ends_with("/security-credentials/")) return {200, {}, "builder"};
      if (r.path.ends_with("/security-credentials/builder")) return {200, {}, keys("instance", "Token")};
      return {404, {}, ""};
    }
    if (r.path == "/task") {
      if (r.header("authorization") != "Bearer pod") return {403, {}, R"({"code":"Denied","message":"who"})"};
      return {200, {}, keys("container", "Token")};
    }
    if (r.path == "/federation/credentials") {
      if (r.header("x-amz-sso_bearer_token") != "logged-in")
        return {401, {}, R"({"message":"Session token not found or invalid"})"};
      if (r.query != "account_id=42&role_name=dev") return {403, {}, ""};
      return {
          200,
          {},
          R"({"roleCredentials":{"accessKeyId":"sso","secretAccessKey":"s","sessionToken":"t","expiration":)" +
              std::to_string((std::time(nullptr) + life) * 1'000) + "}}"};
    }
    if (r.path == "/token") {
      auto j = json_or_null(r.body);
      if (text_member(j, "refreshToken") != "again" || text_member(j, "clientId") != "tool")
        return {400, {}, ""};
      return {200, {}, R"({"accessToken":"logged-in","expiresIn":3600,"refreshToken":"next"})"};
    }
    if (r.path == "/" && r.method == "POST") return token_service(r);
    return {404, {}, ""};
  }
  http_answer token_service(const http_request& r) {
    auto refuse = [](const char* code) {
      return http_answer{403,
                         {},
                         "<ErrorResponse><Error><Code>" + std::string(code) +
                             "</Code><Message>no</Message></Error></ErrorResponse>"};
    };
    if (!has(r.body, "Version=2011-06-15") || !has(r.body, "RoleArn=arn%3Arole")) return refuse("Malformed");
    std::string id;
    if (has(r.body, "Action=AssumeRoleWithWebIdentity&")) {
      if (!has(r.body, "WebIdentityToken=vouched")) return refuse("InvalidIdentityToken");
      id = "web";
    } else {
      auto by = r.header("authorization");
      if (!has(by, "/eu-test-1/sts/aws4_request")) return refuse("SignatureDoesNotMatch");
      id = "role-by-" + by.substr(by.find("Credential=") + 11, by.find('/') - by.find("Credential=") - 11);
      if (has(r.body, "ExternalId=x")) id += "-x";
    }
    ++given;
    return {
        200,
        {},
        "<R><Credentials><AccessKeyId>" + id +
            "</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>" +
            in_seconds(life) + "</Expiration></Credentials></R>"};
  }
};

/// A home of its own, no keys in the environment, every service at `amazon`.
struct somewhere {
  amazon services;
  temp_dir home;
  environment_of base{{"HOME", home.path().string()},
                      {"AWS_ACCESS_KEY_ID", ""},
                      {"AWS_SECRET_ACCESS_KEY", ""},
                      {"AWS_SESSION_TOKEN", ""},
                      {"AWS_PROFILE", ""},
                      {"AWS_EC2_METADATA_SERVICE_ENDPOINT", services.server.url() + "/"},
                      {"AWS_ENDPOINT_URL", services.server.url()},
                      {"http_proxy", "http://127.0.0.1:9"}};  // nobody is there
  distribution::transport transport{8};
  somewhere() { ::setenv("no_proxy", "*", 1); }
  ~somewhere() { ::unsetenv("no_proxy"); }

  void file(const std::string& name, const std::string& text) {
    auto path = home.path() / ".aws" / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text;
  }
  /// The key's id, or the error.
  std::string who() {
    aws_identity identity("eu-test-1");
    return who(identity);
  }
  std::string who(aws_identity& identity) {
    auto keys = identity.credentials(transport, {});
    return keys.ok() ? keys->key_id : keys.error().message;
  }
};

}  // namespace

TEST_CASE("the files of the AWS tools are read as the tools read them") {
  auto files = read_aws_files(
      "# a comment\n[default]\nregion = r ; said here\naws_access_key_id = of-config\n"
      "s3 =\n  addressing_style = path\n  aws_access_key_id = nested\n"
      "[profile \"two words\"]\nROLE_ARN=arn:x#1\n[sso-session main]\nsso_region=r2\n[services "
      "x]\nregion=no\n[stray]\na=b\n",
      "[default]\naws_access_key_id=of-credentials\naws_secret_access_key = "
      "a=b=\n[only]\naws_session_token=t\n");
  CHECK(files.profiles.at("default") == aws_settings{{"region", "r"},
                                                     {"s3", ""},
                                                     {"aws_access_key_id", "of-credentials"},
                                                     {"aws_secret_access_key", "a=b="}});
  CHECK(files.profiles.at("two words") == aws_settings{{"role_arn", "arn:x#1"}});
  CHECK(files.profiles.at("only") == aws_settings{{"aws_session_token", "t"}});
  CHECK(files.sso_sessions == std::map<std::string, aws_settings>{{"main", {{"sso_region", "r2"}}}});
  CHECK_FALSE(files.profiles.contains("stray"));
  CHECK_FALSE(files.profiles.contains("x"));
  CHECK(read_aws_files("[", "=\n[]\n[x").profiles.empty());
}

TEST_CASE("keys come from the environment, then the profile, then the machine") {
  somewhere s;
  CHECK(s.who() == "instance");
  s.file("credentials", "[default]\naws_access_key_id=file\naws_secret_access_key=s\n");
  CHECK(s.who() == "file");
  s.file("config", "[profile other]\naws_access_key_id=other\naws_secret_access_key=s\n");
  {
    environment_of e{{"AWS_PROFILE", "other"}};
    CHECK(s.who() == "other");
  }
  {
    environment_of e{{"AWS_PROFILE", "none"}};
    CHECK(s.who() == "profile none (AWS_PROFILE) is neither in " + s.home.path().string() +
                         "/.aws/config nor in " + s.home.path().string() + "/.aws/credentials");
  }
  environment_of e{{"AWS_ACCESS_KEY_ID", "variable"}, {"AWS_SECRET_ACCESS_KEY", "s"}};
  CHECK(s.who() == "variable");
}

TEST_CASE("an instance's keys are kept until shortly before they expire") {
  somewhere s;
  aws_identity identity("eu-test-1");
  CHECK(s.who(identity) == "instance");
  CHECK(s.who(identity) == "instance");
  CHECK(s.services.given == 1);
  s.services.version_1 = true;
  CHECK(s.who() == "instance");
  environment_of e{{"AWS_EC2_METADATA_V1_DISABLED", "true"}};
  CHECK(has(s.who(), "no session token: 404"));
}

TEST_CASE("without anybody who gives keys the error says what there may be, soon") {
  somewhere s;
  {
    environment_of e{{"AWS_EC2_METADATA_DISABLED", "TRUE"}};
    CHECK(s.who() ==
          "no credentials for s3 cache: set access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and "
          "AWS_SECRET_ACCESS_KEY, or " +
              s.home.path().string() +
              "/.aws/credentials; the instance metadata service is switched off (AWS_EC2_METADATA_DISABLED)");
  }
  environment_of e{{"AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9"}};
  CHECK(has(s.who(), "instance metadata service at http://127.0.0.1:9: "));
}

TEST_CASE("a container's keys come from its agent, to which its token is shown") {
  somewhere s;
  environment_of e{{"AWS_CONTAINER_CREDENTIALS_FULL_URI", s.services.server.url() + "/task"}};
  CHECK(has(s.who(), "container credentials at " + s.services.server.url() + ": 403 Denied: who"));
  {
    environment_of token{{"AWS_CONTAINER_AUTHORIZATION_TOKEN", "Bearer pod"}};
    CHECK(s.who() == "container");
  }
  s.file("pod-token", "Bearer pod\n");
  {
    environment_of token{
        {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", (s.home.path() / ".aws/pod-token").string()}};
    CHECK(s.who() == "container");
  }
  environment_of far{{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://keys.example/task"}};
  CHECK(has(s.who(), "http://keys.example is neither https nor an address of the machine"));
}

TEST_CASE("a web identity takes its role on") {
  somewhere s;
  s.file("web", "vouched\n");
  environment_of e(
      {{"AWS_WEB_IDENTITY_TOKEN_FILE", (s.home.path() / ".aws/web").string()}, {"AWS_ROLE_ARN", "arn:role"}});
  CHECK(s.who() == "web");
  s.file("web", "forged");
  CHECK(s.who() == "assuming role arn:role by the token in " + (s.home.path() / ".aws/web").string() +
                       ": 403 InvalidIdentityToken: no");
  environment_of without{{"AWS_ROLE_ARN", ""}};
  CHECK(has(s.who(), "set AWS_ROLE_ARN"));
}

TEST_CASE("a profile's role is taken on with the keys it names") {
  somewhere s;
  s.file("credentials", "[base]\naws_access_key_id=file\naws_secret_access_key=s\n");
  auto with = [&](const std::string& settings) {
    s.file("config", "[default]\nrole_arn=arn:role\n" + settings + "\n");
    return s.who();
  };
  CHECK(with("source_profile=base") == "role-by-file");
  CHECK(with("source_profile=base\nexternal_id=x") == "role-by-file-x");
  CHECK(with("credential_source=Ec2InstanceMetadata") == "role-by-instance");
  CHECK(with("source_profile=middle\n[profile middle]\nrole_arn=arn:role2\nsource_profile=base") ==
        "role-by-role-by-file");
  CHECK(with("source_profile=default\naws_access_key_id=own\naws_secret_access_key=s") == "role-by-own");
  CHECK(has(with("source_profile=middle\n[profile middle]\nrole_arn=arn:role2\nsource_profile=default"),
            "takes its keys from itself"));
  CHECK(has(with(""), "neither source_profile nor a credential_source"));
  CHECK(has(with("source_profile=base\nmfa_serial=m"), "mfa_serial"));
  CHECK(has(with("source_profile=nobody"), "its source_profile nobody has no keys"));
}

TEST_CASE("a login of single sign-on gives keys, and is renewed") {
  somewhere s;
  s.file("config",
         "[default]\nsso_session=main\nsso_account_id=42\nsso_role_name=dev\n"
         "[sso-session main]\nsso_region=eu-test-1\nsso_start_url=https://start.example\n");
  const std::string login = "sso/cache/b28b7af69320201d1cf206ebf28373980add1451.json";  // SHA-1 of "main"
  CHECK(has(s.who(), "single sign-on at https://start.example: nobody has logged in"));
  s.file(login, R"({"accessToken":"logged-in","expiresAt":")" + in_seconds(3'600) + R"("})");
  CHECK(s.who() == "sso");
  s.file(login, R"({"accessToken":"old","expiresAt":")" + in_seconds(-60) + R"("})");
  CHECK(has(s.who(), "the login has expired: run aws sso login"));
  s.file(login,
         R"({"accessToken":"old","refreshToken":"again","clientId":"tool","clientSecret":"c","expiresAt":")" +
             in_seconds(-60) + R"("})");
  CHECK(s.who() == "sso");
  std::ifstream in(s.home.path() / ".aws" / login);
  CHECK(has({std::istreambuf_iterator<char>(in), {}}, R"("refreshToken":"next")"));
}

TEST_CASE("a program of the profile gives keys") {
  somewhere s;
  auto with = [&](const std::string& script) {
    s.file("keys.sh", script);
    s.file("config",
           "[default]\ncredential_process = sh " + (s.home.path() / ".aws/keys.sh").string() + "\n");
    return s.who();
  };
  CHECK(with(R"(echo '{"Version":1,"AccessKeyId":"program","SecretAccessKey":"s"}')") == "program");
  CHECK(with("echo no luck >&2; exit 3") == "credential_process sh: exit code 3: no luck");
  CHECK(with("echo '{}'") == "credential_process sh: its output is not of version 1");
}
