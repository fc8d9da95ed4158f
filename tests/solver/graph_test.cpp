#include <catch2/catch.hpp>

#include <memory>

#include <google/protobuf/stubs/logging.h>

#include "base/json_text.hpp"
#include "configs/definition.hpp"
#include "solver/error_details.hpp"
#include "solver/graph.hpp"
#include "solver/validate.hpp"

using namespace kiln;
using namespace kiln::solver;

namespace {

/// Builds definitions the way clients do.
struct definition_builder {
  pb::Definition def;

  std::string add(const pb::Op& op) {
    auto bytes = op.SerializeAsString();
    def.add_def(bytes);
    auto digest = sha256(bytes).str();
    (*def.mutable_metadata())[digest];
    return digest;
  }
  pb::OpMetadata& metadata(const std::string& digest) { return (*def.mutable_metadata())[digest]; }
  std::string source(const std::string& identifier) {
    pb::Op op;
    op.mutable_source()->set_identifier(identifier);
    return add(op);
  }
  std::string mkdir(const std::string& input, const std::string& path) {
    pb::Op op;
    if (!input.empty()) op.add_inputs()->set_digest(input);
    auto& a = *op.mutable_file()->add_actions();
    a.set_input(input.empty() ? -1 : 0);
    a.set_secondaryinput(-1);
    a.mutable_mkdir()->set_path(path);
    return add(op);
  }
  const pb::Definition& finish(const std::string& root, int index = 0) {
    pb::Op op;
    op.add_inputs()->set_digest(root);
    op.mutable_inputs(0)->set_index(index);
    add(op);
    return def;
  }
};

std::string failure(const pb::Definition& def, const load_options& options = {}) {
  auto g = load(def, options);
  REQUIRE_FALSE(g.ok());
  return g.error().message;
}

pb::Op exec_op(const std::string& input) {
  pb::Op op;
  op.add_inputs()->set_digest(input);
  op.mutable_exec()->mutable_meta()->add_args("make");
  op.mutable_exec()->mutable_meta()->add_args("all");
  op.mutable_exec()->add_mounts()->set_dest("/");
  return op;
}

}  // namespace

TEST_CASE("vertices come in dependency order with names and platforms") {
  definition_builder b;
  auto image = b.source("docker-image://docker.io/library/alpine:latest");
  auto run = b.add(exec_op(image));
  auto dir = b.mkdir(run, "/a");
  b.source("docker-image://docker.io/library/unused:latest");
  b.metadata(dir).mutable_description()->insert({"llb.customname", "make a place"});
  load_options options;
  options.default_platform = {"linux", "arm64", "", "", {}};
  auto g = load(b.finish(dir), options);
  REQUIRE(g.ok());
  REQUIRE(g->vertices.size() == 3);
  CHECK(g->vertices[0].digest.str() == image);
  CHECK(g->vertices[1].name == "make all");
  CHECK(g->vertices[2].name == "make a place");
  CHECK(g->vertices[2].inputs == std::vector<edge>{{digest::trusted(run), 0}});
  CHECK(g->vertices[1].platform.architecture == "arm64");
  CHECK(g->vertices[1].op.platform().architecture() == "arm64");
  CHECK(g->root == edge{digest::trusted(dir), 0});
}

TEST_CASE("names describe ops as upstream does") {
  definition_builder b;
  auto a = b.source("local://context");
  auto d = b.mkdir(a, "/x");
  pb::Op file;
  file.add_inputs()->set_digest(d);
  auto& copy = *file.mutable_file()->add_actions();
  copy.mutable_copy()->set_src("/s");
  copy.mutable_copy()->set_dest("/d");
  copy.set_output(-1);
  auto& link = *file.mutable_file()->add_actions();
  link.mutable_symlink()->set_oldpath("old");
  link.mutable_symlink()->set_newpath("new");
  link.set_output(0);
  auto f = b.add(file);
  pb::Op diff;
  diff.add_inputs()->set_digest(f);
  diff.mutable_diff()->mutable_lower()->set_input(-1);
  diff.mutable_diff()->mutable_upper()->set_input(0);
  auto df = b.add(diff);
  pb::Op merge;
  merge.add_inputs()->set_digest(d);
  merge.add_inputs()->set_digest(df);
  merge.mutable_merge()->add_inputs()->set_input(0);
  merge.mutable_merge()->add_inputs()->set_input(1);
  auto g = load(b.finish(b.add(merge)), {});
  REQUIRE(g.ok());
  CHECK(g->vertices.back().name == "merge (mkdir /x, diff scratch -> (copy /s /d, symlink new -> old))");
}

TEST_CASE("nested merges cannot blow names up") {
  definition_builder b;
  auto last = b.source("local://" + std::string(1000, 'x'));
  for (int i = 0; i < 40; ++i) {
    pb::Op merge;
    merge.add_inputs()->set_digest(last);
    merge.add_inputs()->set_digest(last);
    merge.mutable_merge()->add_inputs()->set_input(0);
    merge.mutable_merge()->add_inputs()->set_input(1);
    last = b.add(merge);
  }
  auto g = load(b.finish(last), {});
  REQUIRE(g.ok());
  CHECK(g->vertices.back().name.size() < configs::definition::joined_name_bytes_max + 10);
}

TEST_CASE("a definition that is too large is refused with what is too much, how much and the bound") {
  namespace bounds = configs::definition;
  auto message = [](const pb::Definition& def) {
    auto g = load(def, {});
    REQUIRE_FALSE(g.ok());
    CHECK(g.error().code == errc::invalid_argument);
    return g.error().message;
  };
  auto file_of = [](std::size_t actions) {
    pb::Op op;
    for (std::size_t i = 0; i < actions; ++i) {
      auto& a = *op.mutable_file()->add_actions();
      a.set_input(-1);
      a.set_secondaryinput(-1);
      a.set_output(i + 1 == actions ? 0 : -1);
      a.mutable_mkdir()->set_path("/d");
    }
    return op;
  };
  auto exec_of = [](const std::string& input, std::size_t mounts) {
    pb::Op op;
    op.add_inputs()->set_digest(input);
    op.mutable_exec()->mutable_meta()->add_args("true");
    for (std::size_t i = 0; i < mounts; ++i) {
      auto& m = *op.mutable_exec()->add_mounts();
      m.set_dest(i == 0 ? "/" : "/m" + std::to_string(i));
      m.set_output(i == 0 ? 0 : -1);
    }
    return op;
  };
  SECTION("actions") {
    definition_builder b;
    definition_builder fits;
    CHECK(load(fits.finish(fits.add(file_of(bounds::actions_max))), {}).ok());
    CHECK(message(b.finish(b.add(file_of(bounds::actions_max + 1)))) ==
          "invalid file op with 50001 actions: at most 50000 are allowed");
  }
  SECTION("mounts") {
    definition_builder fits;
    auto x = fits.source("local://x");
    CHECK(load(fits.finish(fits.add(exec_of(x, bounds::mounts_max))), {}).ok());
    definition_builder b;
    x = b.source("local://x");
    CHECK(message(b.finish(b.add(exec_of(x, bounds::mounts_max + 1)))) ==
          "invalid exec op with 5001 mounts: at most 5000 are allowed");
  }
  SECTION("inputs") {
    definition_builder b;
    auto x = b.source("local://x");
    auto op = exec_of(x, 1);
    for (std::size_t i = 0; i < bounds::inputs_max; ++i) op.add_inputs()->set_digest(x);
    CHECK(message(b.finish(b.add(op))) == "invalid op with 10001 inputs: at most 10000 are allowed");
  }
  SECTION("outputs") {
    definition_builder b;
    auto op = file_of(1);
    op.mutable_file()->mutable_actions(0)->set_output(0);
    for (std::size_t i = 1; i <= bounds::outputs_max; ++i) {
      *op.mutable_file()->add_actions() = op.file().actions(0);
      op.mutable_file()->mutable_actions(static_cast<int>(i))->set_output(static_cast<std::int64_t>(i));
    }
    CHECK(message(b.finish(b.add(op))) == "invalid op with 10001 outputs: at most 10000 are allowed");
  }
  SECTION("bytes") {
    definition_builder b;
    auto x = b.source("local://x");
    b.def.mutable_source()->add_infos()->set_data(std::string(bounds::bytes_max, 'x'));
    CHECK(message(b.finish(x)).find("bytes: at most 67108864 are allowed") != std::string::npos);
  }
}

TEST_CASE("loading ends soon after it is told to") {
  definition_builder b;
  auto x = b.source("local://x");
  std::stop_source stop;
  load_options options;
  options.stop = stop.get_token();
  options.mutate = [&](pb::Op&) -> status {
    stop.request_stop();
    return {};
  };
  auto g = load(b.finish(x), options);
  REQUIRE_FALSE(g.ok());
  CHECK(g.error().code == errc::cancelled);
}

TEST_CASE("a very deep definition loads") {
  definition_builder b;
  auto last = b.source("local://x");
  for (int i = 0; i < 20'000; ++i) last = b.mkdir(last, "/" + std::to_string(i));
  auto g = load(b.finish(last), {});
  REQUIRE(g.ok());
  CHECK(g->vertices.size() == 20'001);
}

TEST_CASE("broken definitions are refused with what is wrong") {
  definition_builder b;
  CHECK(failure(b.def) == "invalid empty definition");

  definition_builder garbage;
  garbage.def.add_def("\xff\xff\xff");
  CHECK(failure(garbage.def) == "failed to parse llb proto op");

  definition_builder lone;
  lone.source("local://x");
  CHECK(failure(lone.def) == "invalid LLB with 1 vertexes");

  definition_builder dangling;
  auto missing = sha256("nowhere").str();
  dangling.mkdir(missing, "/a");
  CHECK(failure(dangling.finish(missing)) == "invalid missing input digest " + missing);

  definition_builder no_terminal;
  no_terminal.source("local://x");
  no_terminal.source("local://y");
  CHECK(failure(no_terminal.def) == "invalid LLB with no inputs on last vertex");

  definition_builder negative;
  auto x = negative.source("local://x");
  CHECK(failure(negative.finish(x, -1)) == "invalid input 0 output index -1");

  definition_builder beyond;
  auto y = beyond.source("local://x");
  CHECK(failure(beyond.finish(y, 1)) == "invalid result: " + y + " has 1 outputs, not output 1");

  definition_builder empty_op;
  pb::Op nothing;
  nothing.add_inputs()->set_digest(empty_op.source("local://x"));
  CHECK(failure(empty_op.finish(empty_op.add(nothing))) == "invalid op with no type");
}

TEST_CASE("ops are checked before anything runs") {
  auto text = [](const pb::Op& op) {
    auto s = validate_op(op);
    return s.ok() ? "" : s.error().message;
  };
  auto op = exec_op("x");
  CHECK(text(op) == "");
  op.mutable_exec()->mutable_mounts(0)->set_dest("/a");
  CHECK(text(op) == "invalid exec op with no rootfs");
  op.mutable_exec()->clear_mounts();
  CHECK(text(op) == "invalid exec op with no mounts");
  op.mutable_exec()->mutable_meta()->clear_args();
  CHECK(text(op) == "invalid exec op with no args");
  op.mutable_exec()->clear_meta();
  CHECK(text(op) == "invalid exec op with no meta");
  auto far = exec_op("x");
  far.mutable_exec()->mutable_mounts(0)->set_input(3);
  CHECK(text(far) == "invalid mountinput 3 of mount / in exec op with 1 inputs");
  auto mode = exec_op("x");
  mode.mutable_exec()->set_security(static_cast<pb::SecurityMode>(9));
  CHECK(text(mode) == "invalid op: exec.security: invalid security mode 9: unknown type");
  auto enums = [&](auto change) {
    auto op = exec_op("x");
    change(*op.mutable_exec());
    return text(op);
  };
  CHECK(enums([](auto& e) { e.set_network(static_cast<pb::NetMode>(3)); }) ==
        "invalid op: exec.network: invalid net mode 3: unknown type");
  CHECK(enums([](auto& e) { e.mutable_mounts(0)->set_mounttype(static_cast<pb::MountType>(-1)); }) ==
        "invalid op: exec.mounts[0].mountType: invalid mount type -1: unknown type");
  CHECK(enums([](auto& e) {
          e.mutable_mounts(0)->set_contentcache(static_cast<pb::MountContentCache>(7));
        }) == "invalid op: exec.mounts[0].contentCache: invalid mount content cache 7: unknown type");
  CHECK(enums([](auto& e) {
          e.mutable_mounts(0)->mutable_cacheopt()->set_sharing(static_cast<pb::CacheSharingOpt>(5));
        }) == "invalid op: exec.mounts[0].cacheOpt.sharing: invalid cache sharing opt 5: unknown type");
  CHECK(enums([](auto& e) { e.mutable_meta()->add_env(std::string("A=b\0c", 5)); }) ==
        "invalid op: exec.meta.env[0]: a NUL character in a text");
  CHECK(enums([](auto& e) { e.mutable_mounts(0)->set_selector(std::string("/a\0b", 4)); }) ==
        "invalid op: exec.mounts[0].selector: a NUL character in a text");
  pb::Op file;
  file.mutable_file();
  CHECK(text(file) == "invalid file op with no actions");
  file.mutable_file()->add_actions()->mutable_mkdir();
  file.mutable_file()->mutable_actions(0)->set_input(0);
  CHECK(text(file) == "invalid input index 0 of action 0 in file op");
  pb::Op diff;
  diff.mutable_diff()->mutable_lower();
  CHECK(text(diff) == "invalid diff op with nil lower or upper input");
  pb::Op pass;
  pass.mutable_passthrough();
  CHECK(text(pass) == "invalid passthrough op with no id");
}

TEST_CASE("a cycle is refused and printed") {
  std::vector<std::vector<int>> edges{{1}, {2}, {3}, {1}};
  auto order = dependency_order(
      0, 4, [&](int i) { return std::span<const int>(edges[static_cast<std::size_t>(i)]); },
      [](int i) { return std::string(1, static_cast<char>('a' + i)); });
  REQUIRE_FALSE(order.ok());
  CHECK(order.error().message == "invalid LLB with a cycle: b → c → d → b");
}

TEST_CASE("unknown capabilities are refused") {
  definition_builder b;
  auto x = b.source("local://x");
  (*b.metadata(x).mutable_caps())["source.local"] = true;
  CHECK(load(b.finish(x), {}).ok());
  (*b.metadata(x).mutable_caps())["source.telepathy"] = true;
  auto g = load(b.def, {});
  REQUIRE_FALSE(g.ok());
  CHECK(g.error().code == errc::unimplemented);
  CHECK(g.error().message == "unknown API capability source.telepathy");
}

TEST_CASE("host network and insecure mode need what the daemon allows and the client asks for") {
  definition_builder b;
  auto op = exec_op(b.source("docker-image://x"));
  op.mutable_exec()->set_network(pb::HOST);
  b.finish(b.add(op));
  auto none = entitlements::grant({}, {});
  REQUIRE(none.ok());
  load_options options;
  options.granted = &*none;
  CHECK(failure(b.def, options) == "network.host is not allowed");

  std::vector<std::string> wanted{"network.host"};
  auto refused = entitlements::grant(wanted, {});
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message ==
        "granting entitlement network.host is not allowed by build daemon configuration");
  auto granted = entitlements::grant(wanted, wanted);
  REQUIRE(granted.ok());
  options.granted = &*granted;
  CHECK(load(b.def, options).ok());
  std::vector<std::string> odd{"fly"};
  CHECK(entitlements::grant(odd, odd).error().message == "unknown entitlement fly");
}

TEST_CASE("a changed source gives every user a new digest and keeps the original") {
  definition_builder b;
  auto image = b.source("docker-image://old");
  auto other = b.source("local://x");
  auto dir = b.mkdir(image, "/a");
  auto far = b.mkdir(other, "/b");
  pb::Op merge;
  merge.add_inputs()->set_digest(dir);
  merge.add_inputs()->set_digest(far);
  merge.mutable_merge()->add_inputs()->set_input(0);
  merge.mutable_merge()->add_inputs()->set_input(1);
  auto m = b.add(merge);
  load_options options;
  options.mutate = [](pb::Op& op) {
    if (op.source().identifier() == "docker-image://old")
      op.mutable_source()->set_identifier("docker-image://new");
    return status{};
  };
  auto g = load(b.finish(m), options);
  REQUIRE(g.ok());
  for (const auto& v : g->vertices) {
    bool changed = v.original.str() == image || v.original.str() == dir || v.original.str() == m;
    CHECK((v.digest != v.original) == changed);
  }
  CHECK(g->vertices.back().inputs[0].vertex == g->vertices[1].digest);

  options.mutate = [](pb::Op&) {
    return status(make_error(errc::permission_denied, "source denied by policy"));
  };
  CHECK(failure(b.def, options) == "source denied by policy");
}

TEST_CASE("with a proxy, steps that have a network are other steps, and by other rules yet others") {
  definition_builder b;
  auto image = b.source("docker-image://x");
  auto with = [&](pb::NetMode network) {
    auto op = exec_op(image);
    op.mutable_exec()->set_network(network);
    return b.add(op);
  };
  auto load_one = [&](pb::NetMode network, const std::string& rules) {
    b.def.Clear();
    image = b.source("docker-image://x");
    load_options options;
    options.proxy_rules = rules;
    auto g = load(b.finish(with(network)), options);
    REQUIRE(g.ok());
    return g->vertices.back();
  };
  auto plain = load_one(pb::UNSET, "");
  CHECK_FALSE(plain.has_proxy);
  auto one = load_one(pb::UNSET, "one"), two = load_one(pb::UNSET, "two");
  CHECK(one.has_proxy);
  CHECK(one.original == plain.original);
  CHECK(one.digest != plain.digest);
  CHECK(one.digest != two.digest);
  CHECK(load_one(pb::HOST, "one").has_proxy);
  auto none = load_one(pb::NONE, "one");
  CHECK_FALSE(none.has_proxy);
  CHECK(none.digest == load_one(pb::NONE, "").digest);
}

TEST_CASE("caches to prune are those of execs that ignore the cache") {
  definition_builder b;
  auto op = exec_op(b.source("docker-image://x"));
  auto& cache = *op.mutable_exec()->add_mounts();
  cache.set_dest("/cache");
  cache.set_input(-1);
  cache.set_mounttype(pb::CACHE);
  cache.mutable_cacheopt();
  auto run = b.add(op);
  b.finish(run);
  CHECK(caches_to_prune(*load(b.def, {})).empty());
  b.metadata(run).set_ignore_cache(true);
  CHECK(caches_to_prune(*load(b.def, {})) == std::map<std::string, bool>{{"/cache", false}});
  load_options all;
  all.ignore_cache = true;
  CHECK(load(b.def, all)->vertices[0].metadata.ignore_cache());
}

TEST_CASE("source locations become details with Go's field names") {
  definition_builder b;
  auto x = b.source("local://x");
  auto& source = *b.def.mutable_source();
  auto& info = *source.add_infos();
  info.set_filename("Dockerfile");
  info.set_data("FROM x\n");
  auto& location = *(*source.mutable_locations())[x].add_locations();
  auto& range = *location.add_ranges();
  range.mutable_start()->set_line(3);
  range.mutable_end()->set_line(4);
  (*source.mutable_locations())[x].add_locations()->set_sourceindex(8);
  auto g = load(b.finish(x), {});
  REQUIRE(g.ok());
  std::vector<pb::SourceInfo> infos(g->source->infos().begin(), g->source->infos().end());
  auto details = source_details(g->source->locations().at(x), infos);
  REQUIRE(details.size() == 1);
  CHECK(details[0].type_url == "github.com/moby/buildkit/errdefs.Source+json");
  CHECK(
      details[0].value ==
      R"({"info":{"filename":"Dockerfile","data":"RlJPTSB4Cg=="},"ranges":[{"start":{"line":3},"end":{"line":4}}]})");
  CHECK(source_details({}, infos).empty());
}

TEST_CASE("solve details are protojson") {
  auto op = exec_op("sha256:00");
  std::vector<std::string> inputs{"a"}, mounts{"b"};
  auto detail = solve_detail(op, {}, inputs, mounts, {.content_input = 1});
  auto json = nlohmann::json::parse(detail.value);
  CHECK(json["inputIDs"] == nlohmann::json::array({"a"}));
  CHECK(json["mountIDs"] == nlohmann::json::array({"b"}));
  CHECK(json["op"]["exec"]["meta"]["args"][0] == "make");
  CHECK(json["cache"]["index"] == "1");
  CHECK(vertex_detail(digest::trusted("sha256:ab")).value == R"({"digest":"sha256:ab"})");
}

TEST_CASE("refs in solve details are found and renamed, empty ones stay") {
  std::vector<std::string> inputs{"a", ""}, mounts{"b"};
  error e{errc::unknown, "failed", {solve_detail(exec_op("sha256:00"), {}, inputs, mounts, {.action = 2})}};
  CHECK(refs_of(e) == std::vector<std::string>{"a", "b"});
  rename_refs(e, [](const std::string& id) { return "node/" + id; });
  auto json = nlohmann::json::parse(e.details[0].value);
  CHECK(json["inputIDs"] == nlohmann::json::array({"node/a", ""}));
  CHECK(json["mountIDs"] == nlohmann::json::array({"node/b"}));
  CHECK(json["file"]["index"] == "2");
  CHECK(json["op"]["exec"]["meta"]["args"][0] == "make");
  CHECK(refs_of(make_error(errc::unknown, "no details")).empty());
}

TEST_CASE("random bytes never crash the loader") {
  google::protobuf::LogSilencer quiet;
  unsigned seed = 7;
  auto next = [&] { return seed = seed * 1103515245 + 12345; };
  for (int round = 0; round < 2000; ++round) {
    pb::Definition def;
    definition_builder b;
    auto x = b.source("local://x");
    b.finish(b.mkdir(x, "/a"));
    def = b.def;
    auto& victim = *def.mutable_def(static_cast<int>(next() >> 16) % 3);
    for (int i = 0; i < 3 && !victim.empty(); ++i)
      victim[(next() >> 16) % victim.size()] = static_cast<char>(next() >> 16);
    INFO("round " << round);
    auto g = load(def, {});
    if (!g.ok()) CHECK_FALSE(g.error().message.empty());
  }
}
