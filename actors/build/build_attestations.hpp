// What a build says about itself: which attestations were asked for, which request made which ref, what each
// ref was made from; at the end, the attestations of its result. No actor; used by one. Source: BuildKit
// control/control.go (Solve), solver/llbsolver/provenance.go, proc/provenance.go.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/usage_samples.hpp"
#include "configs/usage.hpp"
#include "exporters/provenance/predicate.hpp"
#include "exporters/provenance/request_log.hpp"
#include "frontends/attestations.hpp"
#include "messages/actor_interfaces.hpp"
#include "messages/solve_types.hpp"

namespace kiln::actors {

/// What provenance takes from the daemon.
struct provenance_settings {
  std::shared_ptr<exporters::definition_origins> origins = std::make_shared<exporters::definition_origins>();
  std::string environment;  // JSON object of the daemon's provenance.d; empty: none
};

/// The definition of a build's ref; null when there is none.
using definition_lookup = std::function<std::shared_ptr<const pb::Definition>(const std::string& ref)>;

/// One platform of a build's result.
struct attested_part {
  std::string id;   // of its platform, as the frontend names it
  std::string ref;  // of the build; empty: scratch
  kiln::platform platform;
};

class build_attestations {
 public:
  explicit build_attestations(provenance_settings settings)
      : settings_(std::move(settings)), log_(settings_.origins) {
    history_.capture_usage = true;
  }

  /// invalid_argument when attestations are asked for that there are not.
  status begin(const ctl::SolveRequest& request, std::int64_t created_ns);
  /// Whether the result needs to know its steps.
  bool wants_provenance() const { return provenance_.has_value(); }

  /// The scanner to run over a result that comes without an SBOM.
  const std::optional<frontends::sbom_options>& wanted_sbom() const { return sbom_; }

  // Requests: scope 0 is the build's own.
  exporters::request_log& requests() { return log_; }
  /// A source that a frontend or client looked at.
  void looked_at(int scope, const gw::ResolveSourceMetaRequest& asked,
                 const gw::ResolveSourceMetaResponse& reply);

  /// Looks at what the machine uses, from time to time while the build runs.
  usage_samples& machine_usage() { return machine_usage_; }

  /// What a definition says, as far as attestations are concerned.
  struct loaded_ref {
    exporters::capture ops;            // of all but sources
    std::vector<std::string> sources;  // digests of their vertices
    struct proxied_step {
      std::string vertex, op, name;  // its digest, that in the definition, its command
    };
    std::vector<proxied_step> proxied;            // those that had a proxy
    std::map<std::string, std::string> vertices;  // digest in the definition → digest of the vertex
  };
  /// Pure: a job's work, where the definition is large.
  static std::shared_ptr<const loaded_ref> read(const graph_spec& spec);
  /// A ref's definition was loaded as this.
  void loaded(const std::string& ref, std::shared_ptr<const loaded_ref> what) {
    loaded_[ref] = std::move(what);
  }
  /// A frontend's result is handed on: its refs may become inputs elsewhere.
  void handed_on(const gw::Result& result, const definition_lookup& definition);

  /// All that is known of a result at one moment, on its own: what is made of it is a job's work.
  struct known_part {
    exporters::request_log::provenance_of_ref provenance;
    std::shared_ptr<const pb::Definition> definition;  // null: scratch
    std::shared_ptr<const loaded_ref> loaded;          // null: not loaded
    std::map<std::string, std::string> usage;          // of its steps: see exporters::build_facts
  };
  struct known_result {
    std::vector<known_part> parts;
    exporters::build_facts facts;
    std::optional<exporters::provenance_options> wanted;
    exporters::provenance_options history;
  };
  known_result look(const std::vector<attested_part>& parts, const std::vector<cache_step>& steps,
                    const definition_lookup& definition, const platform& builder) const;

  /// The daemon's own attestations, one list a part. `record_of`: the record that one of these cache keys
  /// leads to; empty when there is none. Pure but for that.
  using record_lookup = std::function<std::string(const std::vector<std::string>& keys)>;
  static result<std::vector<std::vector<attestation>>> make(const known_result& known,
                                                            const std::vector<cache_step>& steps,
                                                            const record_lookup& record_of);
  /// What the history keeps of a build, whatever was asked for: whole provenance (SLSA 1), one predicate a
  /// part; empty where there is nothing to tell of. Pure. Source: BuildKit solver/llbsolver/history.go.
  static result<std::vector<std::string>> describe(const known_result& known);

 private:
  using steps_by_vertex = std::map<std::string, const cache_step*>;
  /// Of those that provenance asks about: sources, and steps with a proxy.
  static steps_by_vertex telling(const std::vector<cache_step>& steps);
  exporters::build_facts facts(const platform& builder) const;
  /// Facts of one part, as of now. For a job.
  static exporters::build_facts facts_of(const known_result& known, const known_part& part);
  std::optional<exporters::capture> captured(const std::string& ref, const steps_by_vertex& steps) const;

  provenance_settings settings_;
  exporters::request_log log_;
  std::optional<exporters::provenance_options> provenance_;
  std::optional<frontends::sbom_options> sbom_;
  exporters::provenance_options history_;
  std::string invocation_;
  std::int64_t created_ns_ = 0;
  int compatibility_version_ = 0;
  usage_samples machine_usage_{configs::usage_interval, configs::build_usage_samples};
  std::map<std::string, std::shared_ptr<const loaded_ref>> loaded_;
};

/// Attestations of a frontend's result: platform id → attestation and the ref of the build it is in.
using frontend_attestations = std::map<std::string, std::vector<std::pair<attestation, std::string>>>;
attestation attestation_of(const gw::Attestation& from);
frontend_attestations attestations_of(const gw::Result& result);
bool has_sbom(const frontend_attestations& all);

}  // namespace kiln::actors
