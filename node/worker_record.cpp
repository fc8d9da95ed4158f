#include "node/worker_record.hpp"

#include <unistd.h>

#include "actors/cluster/cluster.hpp"
#include "actors/cluster/step_scheduler.hpp"
#include "base/text.hpp"
#include "configs/version.hpp"
#include "messages/platform.hpp"

namespace kiln::node {

namespace types = moby::buildkit::v1::types;

namespace {

void set_labels(types::WorkerRecord& record, const configs::daemon_config& config,
                const worker_facts& facts) {
  auto& labels = *record.mutable_labels();
  const std::string prefix = "org.mobyproject.buildkit.worker.";
  labels[prefix + "executor"] = "oci";
  labels[prefix + "hostname"] = host_name();
  labels[prefix + "network"] = facts.network;
  labels[prefix + "oci.process-mode"] = config.oci.no_process_sandbox ? "no-sandbox" : "sandbox";
  labels[prefix + "selinux.enabled"] = "false";
  labels[prefix + "snapshotter"] = facts.snapshotter;
  if (!config.oci.apparmor_profile.empty()) labels[prefix + "apparmor.profile"] = config.oci.apparmor_profile;
  if (!facts.node.empty()) {
    labels[actors::node_label] = facts.node;
    if (!config.insecure_entitlements.empty())
      labels[actors::entitlements_label] = join(config.insecure_entitlements, ",");
  }
  for (const auto& [key, value] : config.oci.labels) labels[key] = value;
}

void add(types::WorkerRecord& record, const prune_rule& rule) {
  auto& out = *record.add_gcpolicy();
  out.set_all(rule.all);
  out.set_keepduration(rule.keep_duration_ns);
  out.set_reservedspace(rule.reserved_space);
  out.set_maxusedspace(rule.max_used_space);
  out.set_minfreespace(rule.min_free_space);
  for (const auto& filter : rule.filters) out.add_filters(filter);
}

}  // namespace

std::string host_name() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

result<types::WorkerRecord> worker_record(const configs::daemon_config& config, const worker_facts& facts) {
  types::WorkerRecord record;
  record.set_id(facts.id);
  set_labels(record, config, facts);
  for (const auto& text : config.oci.platforms) {
    KILN_TRY(auto p, parse_platform(text));
    to_proto(p, *record.add_platforms());
  }
  for (const auto& rule : facts.gc_policy) add(record, rule);
  auto& version = *record.mutable_buildkitversion();
  version.set_package(configs::buildkit_package);
  version.set_version(configs::buildkit_version);
  version.set_revision(configs::version);
  version.set_dockerfileversion(configs::dockerfile_version);
  return record;
}

}  // namespace kiln::node
