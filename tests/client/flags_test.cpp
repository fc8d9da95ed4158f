#include <catch2/catch.hpp>

#include "client/build/request.hpp"
#include "client/flags/flags.hpp"

using namespace kiln;
using namespace kiln::client;

namespace {

command_line parsed(std::vector<std::string> arguments) {
  auto line = parse_command_line("kilnctl", arguments);
  INFO((line.ok() ? "" : line.error().message));
  REQUIRE(line.ok());
  return *line;
}

std::string refusal(std::vector<std::string> arguments) {
  auto line = parse_command_line("kilnctl", arguments);
  REQUIRE(!line.ok());
  return line.error().message;
}

build_request request_of(std::vector<std::string> arguments) {
  auto line = parsed(arguments);
  auto request = make_build_request(std::get<build_flags>(line.command), false);
  INFO((request.ok() ? "" : request.error().message));
  REQUIRE(request.ok());
  return *request;
}

std::string request_refusal(std::vector<std::string> arguments, bool terminal = false) {
  auto line = parsed(arguments);
  auto request = make_build_request(std::get<build_flags>(line.command), terminal);
  REQUIRE(!request.ok());
  return request.error().message;
}

// A variable set for one test.
struct environment_variable {
  environment_variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~environment_variable() { ::unsetenv(name_); }
  const char* name_;
};

}  // namespace

TEST_CASE("buildctl's build grammar is understood with all spellings of a flag") {
  auto line = parsed({"--addr", "tcp://h:1", "build", "--frontend=dockerfile.v0", "--opt", "target=x",
                      "--opt", "build-arg:A=b,c", "-local", "context=.", "--local", "dockerfile=d", "-o",
                      "type=tar", "--output=type=local,dest=o", "--no-cache"});
  CHECK(line.global.address == "tcp://h:1");
  auto& b = std::get<build_flags>(line.command);
  CHECK(b.frontend == "dockerfile.v0");
  CHECK(b.opts == std::vector<std::string>{"target=x", "build-arg:A=b,c"});
  CHECK(b.locals == std::vector<std::string>{"context=.", "dockerfile=d"});
  CHECK(b.outputs == std::vector<std::string>{"type=tar", "type=local,dest=o"});
  CHECK(b.no_cache);
  CHECK_FALSE(b.is_short());
}

TEST_CASE("Global flags may follow the command, and the alias b is build") {
  auto line = parsed({"b", "--frontend", "x", "--addr", "unix:///s", "--timeout", "9", "--tlsdir", "t"});
  CHECK(line.global.address == "unix:///s");
  CHECK(line.global.timeout_seconds == 9);
  CHECK(line.global.tls.directory == "t");
  CHECK(std::holds_alternative<build_flags>(line.command));
}

TEST_CASE("The address comes from BUILDKIT_HOST, then KILN_HOST, unless a flag says otherwise") {
  environment_variable kiln_host("KILN_HOST", "unix:///kiln");
  CHECK(parsed({"du"}).global.address == "unix:///kiln");
  environment_variable buildkit_host("BUILDKIT_HOST", "unix:///buildkit");
  CHECK(parsed({"du"}).global.address == "unix:///buildkit");
  CHECK(parsed({"--addr", "unix:///flag", "du"}).global.address == "unix:///flag");
}

TEST_CASE("A list flag takes one value so that the context may follow it") {
  auto line = parsed({"build", "-t", "a:1", "-t", "b:2", "--build-arg", "X=1", "dir"});
  auto& b = std::get<build_flags>(line.command);
  CHECK(b.tags == std::vector<std::string>{"a:1", "b:2"});
  REQUIRE(b.context);
  CHECK(*b.context == "dir");
}

TEST_CASE("Unknown flags and commands are named, with the nearest known one") {
  CHECK(refusal({"build", "--oputput", "x"}) == "unknown flag: --oputput (did you mean --output?)");
  CHECK(refusal({"--target", "x", "build"}) == "--target is a flag of 'kilnctl build'");
  CHECK(refusal({"build", "--root=/x"}) == "--root is a flag of 'kilnctl debug dump-metadata'");
  CHECK(refusal({"bild"}) == "unknown command \"bild\" (did you mean build?); run 'kilnctl --help'");
  CHECK(refusal({"debug", "wrkers"}) ==
        "unknown command \"wrkers\" (did you mean workers?); run 'kilnctl --help'");
  CHECK(refusal({"--log-format", "xml", "du"}) == "--log-format: unsupported log type \"xml\"");
  CHECK(refusal({"prune", "--keep-duration", "5"}).find("--keep-duration") == 0);
}

TEST_CASE("Every other command parses its own flags") {
  CHECK(std::get<prune_flags>(
            parsed({"prune", "--keep-duration", "1h30m", "--keep-storage", "1.5", "--all"}).command)
            .keep_duration_ns == 5'400'000'000'000);
  CHECK(std::get<du_flags>(parsed({"du", "-v", "-f", "type==regular"}).command).verbose);
  CHECK(std::get<ctl_flags>(parsed({"debug", "ctl", "--pin", "ref"}).command).ref == "ref");
  CHECK(std::get<logs_flags>(parsed({"debug", "logs", "--trace", "r"}).command).trace);
  CHECK(std::get<dump_llb_flags>(parsed({"debug", "dump-llb", "--dot", "-"}).command).file == "-");
  CHECK(std::holds_alternative<dial_stdio_flags>(parsed({"dial-stdio"}).command));
  CHECK(std::get<print_flags>(parsed({"--help"}).command).text.find("build utility") == 0);
}

TEST_CASE("Outputs know where they go and which attributes the daemon gets") {
  using where = export_request::destination;
  auto local = *parse_output("type=local,dest=out,Mode=delete", false, true);
  CHECK(local.where == where::directory);
  CHECK(local.path == "out");
  CHECK(local.attrs == string_map{{"mode", "delete"}});
  auto image = *parse_output("type=image,\"name=a,b\",push=true", false, true);
  CHECK(image.where == where::none);
  CHECK(image.attrs == string_map{{"name", "a,b"}, {"push", "true"}});
  CHECK(parse_output("type=oci,dest=x.tar", false, true)->where == where::file);
  CHECK(parse_output("type=oci,dest=-", false, false)->where == where::standard_output);
  CHECK(parse_output("type=docker,tar=false,dest=d", false, true)->where == where::store);
}

TEST_CASE("Impossible outputs are refused in buildctl's words") {
  auto why = [](const char* text, bool terminal) {
    return parse_output(text, false, terminal).error().message;
  };
  CHECK(why("dest=x", false) == "--output requires type=<type>");
  CHECK(why("type=image,dest=x", false) ==
        "invalid output option: output: output x is not supported by image exporter");
  CHECK(why("type=local", false) ==
        "invalid output option: output: output directory is required for local exporter");
  CHECK(why("type=tar", true) ==
        "invalid output option: output: output file is required for tar exporter. refusing to write to "
        "console");
  CHECK(why("type=oci,output=x", false) == "output=x not supported for --output, you meant dest=x?");
  CHECK(why("type=tar,dest=/", false) == "invalid output option: output: destination file is a directory");
  CHECK(why("type=local,dest=x,mode=backup", false) == "invalid local exporter mode \"backup\"");
  CHECK(why("type", false) == "invalid value type");
}

TEST_CASE("Caches default to min mode, take plain references, and read GitHub's environment") {
  CHECK(parse_export_cache("host/a:b")->attrs == string_map{{"mode", "min"}, {"ref", "host/a:b"}});
  CHECK(parse_export_cache("type=local,dest=d,mode=max")->attrs ==
        string_map{{"dest", "d"}, {"mode", "max"}});
  CHECK(parse_import_cache("host/a")->type == "registry");
  CHECK(parse_import_cache("type=local").error().message == "local cache importer requires src");
  CHECK(parse_import_cache("type=gha").error().message ==
        "cache with type gha requires url parameter to be set");
  environment_variable url("ACTIONS_CACHE_URL", "http://u");
  environment_variable token("ACTIONS_RUNTIME_TOKEN", "t");
  CHECK(parse_import_cache("type=gha,scope=s")->attrs ==
        string_map{{"scope", "s"}, {"token", "t"}, {"url", "http://u"}});
}

TEST_CASE("Secrets, SSH sources and TLS contexts are parsed as buildctl parses them") {
  CHECK(parse_secret("id=a,src=f")->file == "f");
  CHECK(parse_secret("type=env,id=a,src=V")->environment == "V");
  CHECK(parse_secret("id=a,typ=env").error().message == "unexpected key 'typ' in 'typ=env'");
  CHECK(parse_secret("type=x").error().message == "unsupported secret type \"x\"");
  CHECK(parse_ssh("default")->paths.empty());
  CHECK(parse_ssh("id=a,b")->paths == std::vector<std::string>{"a", "b"});
  CHECK(parse_ssh("id=s,raw=true")->raw);
  CHECK(parse_ssh("id=a,b,raw=true").error().message ==
        "raw mode must supply exactly one socket path for \"id\"");
  CHECK(parse_auth_tls({"host=h,ca=c", "host=h,insecure=true"})->at("h").insecure);
  CHECK(parse_auth_tls({"ca=c"}).error().message == "--registry-auth-tlscontext requires host=<host>");
}

TEST_CASE("The short grammar becomes a Dockerfile build of the directory") {
  environment_variable from_environment("KILN_TEST_ARG", "value");
  auto r = request_of({"build",
                       KILN_SOURCE_DIR,
                       "-f",
                       KILN_SOURCE_DIR "/CMakeLists.txt",
                       "-t",
                       "a:1",
                       "-t",
                       "b",
                       "--target",
                       "t",
                       "--build-arg",
                       "X=1",
                       "--build-arg",
                       "KILN_TEST_ARG",
                       "--build-arg",
                       "KILN_UNSET",
                       "--label",
                       "l=m",
                       "--platform",
                       "linux/amd64",
                       "--platform",
                       "linux/arm64",
                       "--push",
                       "--no-cache",
                       "--network",
                       "host",
                       "--add-host",
                       "h:1.2.3.4",
                       "--build-context",
                       "other=docker-image://busybox",
                       "--provenance=mode=max",
                       "--sbom=true"});
  CHECK(r.frontend == "dockerfile.v0");
  CHECK(r.locals == string_map{{"context", KILN_SOURCE_DIR}, {"dockerfile", KILN_SOURCE_DIR}});
  string_map expected{{"filename", "CMakeLists.txt"},
                      {"target", "t"},
                      {"build-arg:X", "1"},
                      {"build-arg:KILN_TEST_ARG", "value"},
                      {"label:l", "m"},
                      {"platform", "linux/amd64,linux/arm64"},
                      {"no-cache", ""},
                      {"force-network-mode", "host"},
                      {"add-hosts", "h=1.2.3.4"},
                      {"context:other", "docker-image://busybox"},
                      {"attest:provenance", "mode=max"},
                      {"attest:sbom", ""}};
  r.attrs.erase("build-arg:SOURCE_DATE_EPOCH");
  CHECK(r.attrs == expected);
  CHECK(r.entitlements == std::vector<std::string>{"network.host"});
  REQUIRE(r.exports.size() == 1);
  CHECK(r.exports[0].type == "image");
  CHECK(r.exports[0].attrs == string_map{{"name", "a:1,b"}, {"push", "true"}});
}

TEST_CASE("In the short grammar -o takes a directory, and tags name an archive") {
  auto r = request_of({"build", KILN_SOURCE_DIR, "-o", "out", "-o", "type=oci,dest=x.tar", "-t", "n"});
  CHECK(r.exports[0].type == "local");
  CHECK(r.exports[0].path == "out");
  CHECK(r.exports[1].attrs == string_map{{"name", "n"}});
  CHECK(request_of({"build", "https://example.com/r.git", "-f", "D"}).attrs.at("context") ==
        "https://example.com/r.git");
  CHECK(request_of({"build", KILN_SOURCE_DIR, "--check"}).attrs.at("requestid") == "frontend.lint");
}

TEST_CASE("Mistakes in a build request name the flag") {
  CHECK(request_refusal({"build", "--push", KILN_SOURCE_DIR}) == "--push requires a name: -t <name>");
  CHECK(request_refusal({"build", "/nowhere"}) == "build context /nowhere is not a directory");
  CHECK(request_refusal({"build", "-f", "/nowhere/D", KILN_SOURCE_DIR}) == "--file /nowhere/D: no such file");
  CHECK(request_refusal({"build", "-t", "x"}).find("a build context is required") == 0);
  CHECK(request_refusal({"build", "--frontend", "x", "--opt", "novalue"}) ==
        "invalid opt: invalid value novalue");
  CHECK(request_refusal({"build", "--frontend", "x", "--local", "novalue"}) ==
        "invalid local: invalid value novalue");
  CHECK(request_refusal({"build", "--frontend", "x", "--allow", "all"}) == "unknown entitlement all");
  CHECK(request_refusal({"build", KILN_SOURCE_DIR, "--network", "bridge"}) ==
        "--network: unsupported mode \"bridge\" (default, none, host)");
  CHECK(request_refusal({"build", KILN_SOURCE_DIR, "-o", "-"}, true) ==
        "output file is required for tar exporter. refusing to write to console");
}
