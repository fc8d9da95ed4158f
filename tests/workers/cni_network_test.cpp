// Networks by plugins that only tell what they are asked for; needs root, as namespaces do.
#include <catch2/catch.hpp>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include <sys/stat.h>

#include "tests/support/temp_dir.hpp"
#include "workers/executor/cni_network.hpp"

using namespace kiln;
using namespace kiln::workers;

namespace fs = std::filesystem;

namespace {

/// What plugins tell, a line a call; waits for lines.
struct telling_plugins {
  test::temp_dir dir;
  std::FILE* told = nullptr;

  telling_plugins() {
    auto pipe = (dir / "told").string();
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    told = std::fopen(pipe.c_str(), "r+e");
  }
  ~telling_plugins() { std::fclose(told); }

  void add(const std::string& directory, const std::string& name) const {
    fs::create_directories(dir / directory);
    auto path = dir / directory / name;
    std::ofstream(path) << "#!/bin/sh\ncat >/dev/null\necho \"$CNI_COMMAND " << name << " $CNI_PATH\" >>"
                        << (dir / "told").string() << "\necho '{\"cniVersion\":\"1.0.0\"}'\n";
    ::chmod(path.c_str(), 0755);
  }
  std::string line() const {
    char text[4096];
    REQUIRE(std::fgets(text, sizeof text, told) != nullptr);
    return std::string(text).substr(0, std::string(text).size() - 1);
  }
};

/// A variable of the environment, for a while.
struct variable {
  const char* name;
  std::string former;
  variable(const char* n, const std::string& value) : name(n) {
    if (const char* now = std::getenv(n)) former = now;
    ::setenv(n, value.c_str(), 1);
  }
  ~variable() { former.empty() ? ::unsetenv(name) : ::setenv(name, former.c_str(), 1); }
};

}  // namespace

TEST_CASE("a pool of networks is filled beforehand, lent, and taken down in the end") {
  telling_plugins plugins;
  plugins.add("bin", "noter");
  auto bin = (plugins.dir / "bin").string();
  cni_network network{"1.0.0", "n", {{{"type", "noter"}}}};
  {
    auto made = cni_provider(network, {plugins.dir / "net", {bin}, "", 3});
    REQUIRE(made.ok());
    for (int i = 0; i < 3; ++i) CHECK(plugins.line() == "ADD noter " + bin);
    std::vector<std::unique_ptr<network_namespace>> lent;
    for (int i = 0; i < 4; ++i) lent.push_back(*(*made)->make(""));
    CHECK(plugins.line() == "ADD noter " + bin);  // the fourth
    CHECK(fs::exists(*lent.front()->path()));
    lent.pop_back();
    CHECK(plugins.line() == "DEL noter " + bin);  // more than are kept
    lent.clear();
    auto named = (*made)->make("host");
    REQUIRE(named.ok());
    CHECK(plugins.line() == "ADD noter " + bin);  // nobody else's
    named->reset();
    CHECK(plugins.line() == "DEL noter " + bin);
  }
  for (int i = 0; i < 3; ++i) CHECK(plugins.line() == "DEL noter " + bin);
  CHECK(fs::is_empty(plugins.dir / "net"));
}

TEST_CASE("the bridge is made by BuildKit's own plugins where PATH has them all, and chosen if asked to") {
  telling_plugins plugins;
  plugins.add("a", "buildkit-cni-bridge");
  plugins.add("b", "buildkit-cni-host-local");
  plugins.add("b", "buildkit-cni-firewall");
  plugins.add("usual", "bridge");
  plugins.add("usual", "firewall");
  auto a = (plugins.dir / "a").string(), b = (plugins.dir / "b").string(),
       usual = (plugins.dir / "usual").string();
  std::string path = std::getenv("PATH");
  network_settings settings{"bridge", (plugins.dir / "none.json").string(), usual, 0, "br", "10.9.0.0/16"};
  SECTION("all of them") {
    variable with("PATH", a + ":" + b + ":" + path);
    auto made = network_for_mode(settings, plugins.dir / "net");
    REQUIRE(made.ok());
    CHECK((*made)->name() == "cni");
    CHECK(plugins.line() == "ADD buildkit-cni-bridge " + a + ":" + b + ":" + b);
    CHECK(plugins.line() == "ADD buildkit-cni-firewall " + a + ":" + b + ":" + b);
  }
  SECTION("one is missing") {
    variable with("PATH", a + ":" + path);
    REQUIRE(network_for_mode(settings, plugins.dir / "net").ok());
    CHECK(plugins.line() == "ADD bridge " + usual);
    settings.cni_binary_dir = (plugins.dir / "nowhere").string();
    auto none = network_for_mode(settings, plugins.dir / "net");
    REQUIRE_FALSE(none.ok());
    CHECK(none.error().message ==
          "failed to find CNI bridge \"" + settings.cni_binary_dir + "/bridge\" or buildkit-cni-bridge");
  }
  SECTION("mode auto takes the host's network, or the bridge where the environment says so") {
    settings.mode = "auto";
    CHECK((*network_for_mode(settings, plugins.dir / "net"))->name() == "host");
    variable no("BUILDKIT_NETWORK_BRIDGE_AUTO", "no word");
    CHECK((*network_for_mode(settings, plugins.dir / "net"))->name() == "host");
    variable yes("BUILDKIT_NETWORK_BRIDGE_AUTO", "1");
    CHECK((*network_for_mode(settings, plugins.dir / "net"))->name() == "cni");
  }
}
