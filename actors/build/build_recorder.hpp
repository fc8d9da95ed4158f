// A build's place in the history: told when it begins and how it ended, with its log, its failure and what
// its result was made from as documents. Used on the build's actor only. Source: BuildKit
// solver/llbsolver/history.go.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "actors/build/build_context.hpp"
#include "actors/build/build_result.hpp"

namespace kiln::actors {

class build_recorder {
 public:
  /// `build` must outlive this.
  explicit build_recorder(build_context& build) : b_(build) {}

  void begin(std::int64_t created_ns);
  /// Whether the history is to know this build.
  bool records() const { return begun_; }

  /// What the history wants to know of a result, beside the log.
  struct made {
    bool multi = false;
    std::vector<std::string> parts;  // platform ids; empty when single
    build_attestations::known_result known;
    std::vector<export_reply> exports;
    std::map<std::string, std::string> metadata;  // of the result, as the frontend gave it
  };
  /// Keeps the documents, tells the history, then runs `then`. A document that cannot be kept is logged. The
  /// log must be closed.
  void end(const result<ctl::SolveResponse>& outcome, made what, std::function<void()> then);
  /// The build's actor goes: tells the history at once.
  void break_off(const error& why);

 private:
  struct document {
    enum { log, failure, provenance } kind = log;
    std::string part;  // platform id, of provenance; empty when single
    std::string bytes;
    ctl::Descriptor descriptor;
  };
  /// The log; what clients may want to know of a failure beyond its text. Pure.
  static std::vector<document> documents_of(const build_log::statuses& log,
                                            const result<ctl::SolveResponse>& outcome);
  /// What successful parts were made from. Pure.
  static std::vector<document> provenance_of(const made& what);
  void publish(ctl::BuildHistoryEventType type, const std::optional<result<ctl::SolveResponse>>& outcome,
               const made& what, const std::vector<document>& documents);

  build_context& b_;
  bool begun_ = false;
  std::int64_t created_ns_ = 0;
};

}  // namespace kiln::actors
