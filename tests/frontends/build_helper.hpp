// Runs one Dockerfile against a fake host and makes the LLB it solved easy to look at.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "base/json_text.hpp"
#include "tests/frontends/fake_host.hpp"

namespace kiln::frontends::test {

struct op_view {
  std::string digest;
  pb::Op op;
  pb::OpMetadata metadata;
  std::string name() const {
    auto at = metadata.description().find("llb.customname");
    return at == metadata.description().end() ? std::string() : at->second;
  }
};

/// The operations of a definition, the terminal one left out.
inline std::vector<op_view> operations(const pb::Definition& definition) {
  std::vector<op_view> out;
  for (int i = 0; i + 1 < definition.def_size(); ++i) {
    auto& view = out.emplace_back();
    view.digest = sha256(definition.def(i)).str();
    REQUIRE(view.op.ParseFromString(definition.def(i)));
    auto at = definition.metadata().find(view.digest);
    REQUIRE(at != definition.metadata().end());
    view.metadata = at->second;
  }
  return out;
}

struct dockerfile_build {
  fake_host host;
  frontend_request request;
  gw::Result result;

  dockerfile_build() {
    host.add_image("docker.io/library/busybox:latest", image_json(R"({"Env":["PATH=/bin"],"Cmd":["sh"]})"));
  }

  kiln::result<gw::Result> try_build(const std::string& text) {
    host.locals["dockerfile"]["Dockerfile"] = text;
    return make_dockerfile_frontend()->solve(host, request);
  }

  void build(const std::string& text) {
    auto built = try_build(text);
    if (!built) FAIL(built.error().message);
    result = *std::move(built);
  }

  error failure(const std::string& text) {
    auto built = try_build(text);
    REQUIRE_FALSE(built.ok());
    return std::move(built).error();
  }

  /// The operations of the last solve.
  std::vector<op_view> ops() const {
    REQUIRE_FALSE(host.solves.empty());
    return operations(host.solves.back().definition());
  }

  op_view op_named(const std::string& name) const {
    std::string seen;
    for (const auto& view : ops()) {
      if (view.name() == name) return view;
      seen += "\n  " + view.name();
    }
    FAIL("no operation named " << name << "; there are:" << seen);
    return {};
  }

  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& view : ops()) out.push_back(view.name());
    return out;
  }

  nlohmann::ordered_json config(const std::string& suffix = "") const {
    auto at = result.metadata().find("containerimage.config" + suffix);
    REQUIRE(at != result.metadata().end());
    return nlohmann::ordered_json::parse(at->second);
  }

  std::vector<std::string> warnings() const {
    std::vector<std::string> out;
    for (const auto& w : host.warnings) out.push_back(w.short_());
    return out;
  }
};

}  // namespace kiln::frontends::test
