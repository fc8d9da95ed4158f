#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>

#include <sys/stat.h>

#include "base/base64.hpp"
#include "client/build/cache_metrics.hpp"
#include "client/build/definition.hpp"
#include "client/build/local_stores.hpp"
#include "client/build/metadata_file.hpp"
#include "client/build/oci_index.hpp"
#include "client/build/snippet.hpp"
#include "client/commands/go_template.hpp"
#include "client/commands/llb_text.hpp"
#include "client/commands/tab_writer.hpp"
#include "client/commands/usage_text.hpp"
#include "client/connect/address.hpp"
#include "client/connect/dial.hpp"
#include "client/process.hpp"
#include "client/warning.hpp"
#include "client/session/docker_config.hpp"
#include "client/session/token_fetch.hpp"

using namespace kiln;
using namespace kiln::client;
namespace fs = std::filesystem;

namespace {

std::string address_error(const char* text) { return parse_address(text).error().message; }

std::string rendered(const char* text, const go_value& value) {
  auto t = go_template::parse(text);
  REQUIRE(t.ok());
  auto out = t->render(value);
  INFO((out.ok() ? "" : out.error().message));
  REQUIRE(out.ok());
  return *out;
}

error source_error(const std::string& text, int start, int end) {
  error e = make_error(errc::unknown, "failed");
  e.details.push_back({"github.com/moby/buildkit/errdefs.Source+json",
                       "{\"info\":{\"filename\":\"Dockerfile\",\"data\":\"" + base64_encode(text) +
                           "\"},\"ranges\":[{\"start\":{\"line\":" + std::to_string(start) +
                           "},\"end\":{\"line\":" + std::to_string(end) + "}}]}"});
  return e;
}

struct scratch_directory {
  scratch_directory() : path(fs::temp_directory_path() / ("kiln-client-" + new_id())) {
    fs::create_directories(path);
  }
  ~scratch_directory() { fs::remove_all(path); }
  fs::path path;
};

}  // namespace

TEST_CASE(
    "The reset of a local cache follows indexes as deep as they go, and removes only what none of them "
    "names") {
  scratch_directory d;
  fs::create_directories(d.path / "blobs/sha256");
  auto put = [&](const std::string& bytes) {
    auto digest = sha256(bytes).str();
    std::ofstream(d.path / "blobs/sha256" / digest.substr(7)) << bytes;
    return digest;
  };
  auto here = [&](const std::string& digest) {
    return fs::exists(d.path / "blobs/sha256" / digest.substr(7));
  };
  auto deepest = put("a layer"), stray = put("a stray");
  auto top = put("{\"layers\":[{\"digest\":\"" + deepest + "\"},7,{\"digest\":7}],\"config\":\"odd\"}");
  for (int i = 0; i < 30'000; ++i) top = put("{\"manifests\":[{\"digest\":\"" + top + "\"}]}");
  build_request request;
  request.cache_exports.push_back({"local", {{"dest", d.path.string()}, {"reset", "true"}}});
  auto stores = open_local_stores(request);
  REQUIRE(stores.ok());
  // An annotation that is none is no reason to fail.
  REQUIRE(update_store_indexes(*stores, request,
                               {{"cache.manifest", "{\"digest\":\"" + top + "\",\"annotations\":\"odd\"}"}})
              .ok());
  CHECK(here(deepest));
  CHECK_FALSE(here(stray));
}

TEST_CASE("Addresses name the socket, the host, or the program that reaches the daemon") {
  CHECK(parse_address("unix:///run/x.sock")->path == "/run/x.sock");
  CHECK(parse_address("tcp://[::1]:1234")->host_port == "[::1]:1234");
  using argv = std::vector<std::string>;
  CHECK(parse_address("docker-container://c?context=x")->argv ==
        argv{"docker", "--context=x", "exec", "-i", "c", "buildctl", "dial-stdio"});
  CHECK(parse_address("podman-container://c")->argv ==
        argv{"podman", "exec", "-i", "c", "buildctl", "dial-stdio"});
  CHECK(parse_address("nerdctl-container://c?namespace=n")->argv ==
        argv{"nerdctl", "exec", "--namespace", "n", "-i", "c", "buildctl", "dial-stdio"});
  CHECK(parse_address("ssh://me@host:22/run/x.sock")->argv == argv{"ssh", "-l", "me", "-p", "22", "--",
                                                                   "host", "buildctl", "--addr",
                                                                   "unix:///run/x.sock", "dial-stdio"});
  CHECK(parse_address("kube-pod://pod?context=c&namespace=n&container=k")->argv ==
        argv{"kubectl", "--context=c", "--namespace=n", "exec", "--container=k", "-i", "pod", "--",
             "buildctl", "dial-stdio"});
}

TEST_CASE("Addresses that cannot work are refused with the reason") {
  CHECK(address_error("ssh://u:p@h").find("plain-text password is not supported") != std::string::npos);
  CHECK(address_error("ssh://h?x=1").find("extra query after the host") != std::string::npos);
  CHECK(address_error("kube-pod://Pod_1").find("unsupported pod name") != std::string::npos);
  CHECK(address_error("docker-container://").find("url lacks container name") != std::string::npos);
  CHECK(address_error("tcp://host").find("no port specified") != std::string::npos);
  CHECK(address_error("/run/x.sock").find("must be of the form") != std::string::npos);
  CHECK(address_error("foo://x").find("unknown scheme \"foo\"") != std::string::npos);
}

TEST_CASE("A socket nobody listens at is reported at once, with its path") {
  auto channel = dial("unix:///nowhere/kiln.sock", {});
  REQUIRE(!channel.ok());
  CHECK(channel.error().code == errc::unavailable);
  CHECK(channel.error().message.find("no daemon at unix:///nowhere/kiln.sock") == 0);
}

TEST_CASE("A TLS directory and single TLS files exclude each other, and missing files are named") {
  scratch_directory dir;
  tls_options both;
  both.directory = dir.path.string();
  both.ca_cert = "x";
  CHECK(resolve_tls(both).error().message ==
        "cannot specify tlsdir and tlscacert/tlscert/tlskey at the same time");
  tls_options only;
  only.directory = dir.path.string();
  CHECK(resolve_tls(only).error().message.find("ca.pem or ca.crt") != std::string::npos);
  for (const char* name : {"ca.crt", "tls.crt", "tls.key"}) std::ofstream(dir.path / name) << "x";
  CHECK(resolve_tls(only)->key == (dir.path / "tls.key").string());
}

TEST_CASE("A snippet shows the marked lines with their surroundings") {
  std::string file = "FROM a\nRUN b\nRUN c\nRUN d\nRUN e\nRUN f";
  auto one = error_sources(source_error(file, 3, 3));
  REQUIRE(one.size() == 1);
  CHECK(render_snippet(one[0]) ==
        "Dockerfile:3\n--------------------\n"
        "   1 |     FROM a\n   2 |     RUN b\n   3 | >>> RUN c\n   4 |     RUN d\n   5 |     RUN e\n"
        "--------------------\n");
  CHECK(render_snippet(error_sources(source_error(file, 1, 2))[0]) ==
        "Dockerfile:1\n--------------------\n"
        "   1 | >>> FROM a\n   2 | >>> RUN b\n   3 |     RUN c\n"
        "--------------------\n");
  CHECK(render_snippet(error_sources(source_error(file, 9, 9))[0]).empty());
}

TEST_CASE("Docker's configuration gives credentials by host, URL or the hub's old key") {
  auto config = docker_config::parse(
      "{\"auths\":{\"https://index.docker.io/v1/"
      "\":{\"auth\":\"dTpw\"},\"reg.example:5000\":{\"identitytoken\":\"it\"},"
      "\"https://other.example/v2/"
      "\":{\"username\":\"n\",\"password\":\"m\"}},\"credsStore\":\"\",\"credHelpers\":{\"h\":\"x\"}}");
  REQUIRE(config.ok());
  CHECK(find_credentials(*config, "registry-1.docker.io", "")->username == "u");
  CHECK(find_credentials(*config, "registry-1.docker.io", "")->password == "p");
  CHECK(find_credentials(*config, "reg.example:5000", "")->identity_token == "it");
  CHECK(find_credentials(*config, "other.example", "")->password == "m");
  CHECK(*find_credentials(*config, "unknown.example", "") == registry_credentials{});
  CHECK(find_credentials(*config, "unknown.example", "{\"auths\":{\"unknown.example\":{\"auth\":\"YTpi\"}}}")
            ->username == "a");
  CHECK(config->credential_helpers.at("h") == "x");
  CHECK(docker_config::parse("")->auths.empty());
  CHECK(docker_config::parse("{\"auths\":{\"h\":{\"auth\":\"!!\"}}}").error().message ==
        "config.json: auths.h: auth is not valid base64");
  CHECK_FALSE(docker_config::parse("{").ok());
}

TEST_CASE("A credential helper is asked, and its way of saying no is understood") {
  scratch_directory dir;
  auto program = dir.path / "docker-credential-kilntest";
  std::ofstream(program) << "#!/bin/sh\nread host\ncase $host in\n  known) echo "
                            "'{\"Username\":\"<token>\",\"Secret\":\"tok\"}';;\n"
                            "  *) echo 'credentials not found in native keychain'; exit 1;;\nesac\n";
  ::chmod(program.c_str(), 0755);
  std::string old_path = std::getenv("PATH");
  ::setenv("PATH", (dir.path.string() + ":" + old_path).c_str(), 1);
  docker_config config;
  config.credentials_store = "kilntest";
  CHECK(find_credentials(config, "known", "")->identity_token == "tok");
  CHECK(*find_credentials(config, "other", "") == registry_credentials{});
  config.credentials_store = "kilnmissing";
  CHECK(find_credentials(config, "known", "")
            .error()
            .message.find("docker-credential-kilnmissing: executable file not found") == 0);
  ::setenv("PATH", old_path.c_str(), 1);
}

TEST_CASE("Token answers are read in both dialects") {
  CHECK(parse_token_answer("{\"token\":\"t\",\"expires_in\":300,\"issued_at\":\"2026-01-02T03:04:05.5Z\"}",
                           false)
            ->expires_seconds == 300);
  CHECK(parse_token_answer("{\"token\":\"t\",\"issued_at\":\"2026-01-02T03:04:05+01:00\"}", false)
            ->issued_at_seconds == 1767319445);
  CHECK(parse_token_answer("{\"token\":\"t\",\"access_token\":\"a\"}", false)->token == "a");
  CHECK(parse_token_answer("{\"token\":\"t\"}", true).error().message ==
        "authorization server did not include a token in the response");
  CHECK(parse_token_answer("{\"access_token\":\"a\"}", true)->expires_seconds == 60);
}

TEST_CASE("A program that does not end in time is killed") {
  auto run = run_captured({"sleep", "60"}, "", 100, std::chrono::milliseconds(50));
  CHECK(run.error().code == errc::deadline_exceeded);
  auto echo = run_captured({"sh", "-c", "cat; echo err >&2; exit 3"}, "input", 100, std::chrono::seconds(10));
  REQUIRE(echo.ok());
  CHECK(echo->output == "input");
  CHECK(echo->errors == "err\n");
  CHECK(echo->exit_code == 3);
  CHECK(run_captured({"kiln-no-such-program"}, "", 1, std::chrono::seconds(1)).error().message ==
        "kiln-no-such-program: executable file not found in $PATH");
}

TEST_CASE("Templates do what --format needs") {
  go_value::map labels;
  labels.set("b", "2");
  labels.set("a", "1");
  go_value value = go_value::object{{{"id", "x"},
                                     {"inUse", true},
                                     {"size", 12},
                                     {"labels", labels},
                                     {"empty", "", true},
                                     {"list", go_value::array{"p", "q"}}}};
  CHECK(rendered("json", value) ==
        "{\"id\":\"x\",\"inUse\":true,\"size\":12,\"labels\":{\"a\":\"1\",\"b\":\"2\"},\"list\":[\"p\",\"q\"]"
        "}");
  CHECK(rendered("{{.ID}}:{{ .Size }}", value) == "x:12");
  CHECK(rendered("{{range .List}}<{{.}}>{{else}}none{{end}}", value) == "<p><q>");
  CHECK(rendered("{{if and .InUse (gt .Size 5)}}big{{else if .InUse}}small{{else}}free{{end}}", value) ==
        "big");
  CHECK(rendered("{{with .Empty}}yes{{else}}no{{end}}", value) == "no");
  CHECK(rendered("a {{- .ID -}} b", value) == "axb");
  CHECK(rendered("{{printf \"%-4s|%3d|%q\" .ID .Size .ID}}", value) == "x   | 12|\"x\"");
  CHECK(rendered("{{len .List}} {{index .Labels \"b\"}} {{.List | json}} {{join .List \"+\"}}", value) ==
        "2 2 [\"p\",\"q\"] p+q");
  CHECK(rendered("{{.Labels}} {{/* note */}}", value) == "map[a:1 b:2] ");
  CHECK(go_template::parse("{{if .X}}").error().message == "template: missing {{end}} of if");
  CHECK(go_template::parse("{{foo}}").error().message == "template: function \"foo\" not defined");
  CHECK(go_template::parse("{{.X").error().message == "template: unclosed action");
  CHECK(go_template::parse("{{.Nope}}")->render(value).error().message ==
        "template: can't evaluate field Nope");
}

TEST_CASE("Columns are aligned as Go's tabwriter aligns them") {
  tab_writer w(1, 8, 1, '\t');
  w.write("ID\tPLATFORMS\nabcdefghijk\tlinux/amd64\nb\tx\n");
  CHECK(w.flush() == "ID\t\tPLATFORMS\nabcdefghijk\tlinux/amd64\nb\t\tx\n");
  tab_writer s(0, 0, 1, ' ');
  s.write("BuildKit:\tx\nDockerfile:\ty\n");
  CHECK(s.flush() == "BuildKit:   x\nDockerfile: y\n");
}

TEST_CASE("Disk usage rows mark mutable and shared records, and the summary adds up") {
  usage_record a, b;
  a.set_id("a");
  a.set_size(1500);
  a.set_mutable_(true);
  b.set_id("b");
  b.set_size(500);
  b.set_inuse(true);
  b.set_shared(true);
  CHECK(usage_table_row(a) == "a*" + std::string(69, ' ') + "\ttrue       \t1.50kB\t\n");
  CHECK(usage_table_row(b).find("\t500B*\t\n") != std::string::npos);
  CHECK(usage_summary({a, b}) == "Shared:\t500B\nPrivate:\t1.50kB\nReclaimable:\t1.50kB\nTotal:\t2.00kB\n");
}

TEST_CASE("Metadata values that hold JSON objects are put in as such") {
  CHECK(render_metadata(
            {{"a", "plain"}, {"b", base64_encode("{\"y\":1,\"x\":2}")}, {"c", base64_encode("[1]")}}) ==
        "{\n  \"a\": \"plain\",\n  \"b\": {\n    \"y\": 1,\n    \"x\": 2\n  },\n  \"c\": \"WzFd\"\n}");
  CHECK(render_metadata({}) == "{}");
}

TEST_CASE("Cache metrics count what users see as steps") {
  cache_metrics m;
  auto v = [](const char* name, bool cached) {
    vertex x;
    x.digest = name;
    x.name = name;
    x.cached = cached;
    x.completed = 1;
    return x;
  };
  m.update({.vertices = {v("[internal] load", false), v("[1/2] FROM a", true), v("[2/2] RUN b", false)}});
  CHECK(m.render(7) ==
        "cache miss: [2/2] RUN b\n"
        "{\"total\":3,\"completed\":3,\"user_total\":2,\"user_cached\":1,\"user_completed\":2,\"user_"
        "cacheable\":1,"
        "\"from\":1,\"miss\":1,\"client_duration_ms\":7}\n");
}

TEST_CASE("An index names each manifest once under a tag or image name") {
  scratch_directory dir;
  oci_index index(dir.path.string());
  REQUIRE(index.put_tag("{\"digest\":\"sha256:1\"}", "latest").ok());
  REQUIRE(index.put_tag("{\"digest\":\"sha256:2\"}", "latest").ok());
  REQUIRE(index.put_name("{\"digest\":\"sha256:3\"}", "docker.io/a/b:v1").ok());
  CHECK(*index.find("latest") == std::optional<std::string>("sha256:2"));
  CHECK(*index.find("docker.io/a/b:v1") == std::optional<std::string>("sha256:3"));
  CHECK(*index.find("v1") == std::optional<std::string>("sha256:3"));
  CHECK(*index.find("other") == std::nullopt);
  CHECK(*index.digests() == std::vector<std::string>{"sha256:2", "sha256:3"});
  CHECK(fs::exists(dir.path / "oci-layout"));
  CHECK_FALSE(fs::exists(dir.path / "index.json.lock"));
  CHECK(oci_reference_name("host:5000/a/b:tag") == "tag");
  CHECK(oci_reference_name("host:5000/a/b") == "");
}

TEST_CASE("A local cache without a usable index is left out of the build") {
  scratch_directory dir;
  build_request r;
  r.cache_imports = {{"local", {{"src", (dir.path / "none").string()}}}, {"registry", {{"ref", "x"}}}};
  auto stores = open_local_stores(r);
  REQUIRE(stores.ok());
  REQUIRE(stores->usable_imports.size() == 1);
  CHECK(cache_imports_json(stores->usable_imports) == "[{\"Type\":\"registry\",\"Attrs\":{\"ref\":\"x\"}}]");
}

TEST_CASE("LLB on stdin is checked, may only name shared directories, and prints as a graph") {
  pb::Op source;
  source.mutable_source()->set_identifier("local://context");
  pb::Op last;
  last.add_inputs()->set_digest(sha256(source.SerializeAsString()).str());
  pb::Definition definition;
  definition.add_def(source.SerializeAsString());
  definition.add_def(last.SerializeAsString());
  auto parsed = parse_definition(definition.SerializeAsString());
  REQUIRE(parsed.ok());
  CHECK(used_locals(*parsed, {{"context", "/c"}, {"other", "/o"}})->size() == 1);
  CHECK(used_locals(*parsed, {}).error().message == "local directory context not enabled");
  REQUIRE(ignore_cache(*parsed).ok());
  CHECK(parsed->metadata_size() == 2);
  CHECK_FALSE(parse_definition("").ok());
  CHECK_FALSE(parse_definition("\xff\xff").ok());
  auto ops = load_llb(definition.SerializeAsString());
  REQUIRE(ops.ok());
  auto dot = llb_dot(*ops);
  CHECK(dot.find("[label=\"local://context\" shape=\"ellipse\"];") != std::string::npos);
  CHECK(dot.find("\" -> \"" + (*ops)[1].digest + "\" [label=\"\"];") != std::string::npos);
  CHECK(llb_json(*ops).find(
            "{\"Op\":{\"Op\":{\"source\":{\"identifier\":\"local://context\"}}},\"Digest\":\"sha256:") == 0);
}

TEST_CASE("Base64 takes only full quartets") {
  CHECK(base64_encode("hi\n") == "aGkK");
  CHECK(base64_decode("aGk=") == std::optional<std::string>("hi"));
  CHECK(base64_decode("aGk") == std::nullopt);
  CHECK(base64_decode("a=k=") == std::nullopt);
  CHECK(base64_decode("") == std::optional<std::string>(""));
}

TEST_CASE("A warning is one line, plain or as JSON") {
  CHECK(warning_line("a\nb", false).find("WARNING: a") == 0);
  CHECK(warning_line("a\nb", false).find('\n') == std::string::npos);
  auto line = warning_line("say \"x\"", true);
  CHECK(line.find(R"("level":"warning","msg":"say \"x\"","time":"2)") != std::string::npos);
}
