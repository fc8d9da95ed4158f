// From a build's result to one that is ready to leave: all of it made, scanned when an SBOM is wanted and
// missing, with what the frontend and the daemon have to say about each part. Used on the build's actor only.
// Source: BuildKit solver/llbsolver/proc/sbom.go, proc/provenance.go.
#pragma once

#include <functional>
#include <vector>

#include "actors/build/build_context.hpp"
#include "actors/build/build_result.hpp"
#include "actors/build/build_sources.hpp"
#include "actors/build/ref_table.hpp"
#include "frontends/sbom.hpp"

namespace kiln::actors {

class result_attester {
 public:
  /// All of these must outlive this.
  result_attester(build_context& build, build_sources& sources, ref_table& refs, import_set& imports)
      : b_(build), sources_(sources), refs_(refs), imports_(imports) {}

  /// Runs `then` when the result is ready; fails the build otherwise. `keep_steps`: whoever comes later
  /// (caches, the history) wants the trail too. Once a build.
  void finish(build_result result, bool keep_steps, std::function<void()> then);

  const build_result& result() const { return result_; }
  /// What its refs came to, in their order.
  const std::vector<vertex_result>& values() const { return values_; }
  /// What the steps of this build came to.
  const cache_trail& trail() const { return trail_; }
  /// What provenance is made of.
  build_attestations::known_result known() const;

 private:
  void scan();
  void add_scans(const std::vector<attested_part>& parts, frontends::sbom_scanner scanner, int scope);
  /// Then everything that goes with the result is there.
  void evaluate_attestations();
  void gather_trail();
  /// What steps that came from the cache fetched when they ran, as far as their results remember it.
  void recall_captures();
  /// Gathers what the daemon has to say about each part.
  void attest();
  void attested(std::vector<std::vector<attestation>> own);

  build_context& b_;
  build_sources& sources_;
  ref_table& refs_;
  import_set& imports_;
  build_result result_;
  std::vector<vertex_result> values_;
  cache_trail trail_;
  bool keep_steps_ = false;
  std::function<void()> then_;
};

}  // namespace kiln::actors
