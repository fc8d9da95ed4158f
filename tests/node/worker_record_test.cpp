#include "node/worker_record.hpp"

#include <catch2/catch.hpp>

using namespace kiln;

namespace {

node::worker_facts alone() {
  node::worker_facts facts;
  facts.id = "w1";
  facts.network = "host";
  facts.snapshotter = "overlayfs";
  return facts;
}

}  // namespace

TEST_CASE("a worker tells what it is, and its garbage collection rule by rule") {
  auto facts = alone();
  facts.gc_policy = {{.filters = {"type==regular"}, .keep_duration_ns = 5, .max_used_space = 7},
                     {.all = true, .reserved_space = 1, .min_free_space = 2}};
  configs::daemon_config config;
  config.oci.labels["kiln.color"] = "red";
  config.oci.platforms = {"linux/arm64", "linux/amd64"};
  auto record = node::worker_record(config, facts);
  REQUIRE(record.ok());
  CHECK(record->id() == "w1");
  CHECK(record->labels().at("org.mobyproject.buildkit.worker.snapshotter") == "overlayfs");
  CHECK(record->labels().at("org.mobyproject.buildkit.worker.network") == "host");
  CHECK(record->labels().at("kiln.color") == "red");
  CHECK_FALSE(record->labels().contains("kiln.node"));
  REQUIRE(record->platforms_size() == 2);
  CHECK(record->platforms(0).architecture() == "arm64");
  REQUIRE(record->gcpolicy_size() == 2);
  CHECK(record->gcpolicy(0).filters(0) == "type==regular");
  CHECK(record->gcpolicy(0).keepduration() == 5);
  CHECK(record->gcpolicy(0).maxusedspace() == 7);
  CHECK_FALSE(record->gcpolicy(0).all());
  CHECK(record->gcpolicy(1).all());
  CHECK(record->gcpolicy(1).reservedspace() == 1);
  CHECK(record->gcpolicy(1).minfreespace() == 2);
}

TEST_CASE("in a cluster a worker also tells its node and what its configuration lets steps do") {
  auto facts = alone();
  facts.node = "n1";
  configs::daemon_config config;
  auto record = node::worker_record(config, facts);
  REQUIRE(record.ok());
  CHECK(record->labels().at("kiln.node") == "n1");
  CHECK_FALSE(record->labels().contains("kiln.entitlements"));
  config.insecure_entitlements = {"network.host", "security.insecure"};
  CHECK(node::worker_record(config, facts)->labels().at("kiln.entitlements") ==
        "network.host,security.insecure");
}

TEST_CASE("a platform that is none is an error of the configuration") {
  configs::daemon_config config;
  config.oci.platforms = {"a/b/c/d/e"};
  CHECK_FALSE(node::worker_record(config, alone()).ok());
}
