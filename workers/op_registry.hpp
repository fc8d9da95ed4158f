// Which handler runs which op: one a kind of op, and one a source scheme. Filled once, then read by any
// thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "workers/op_handler.hpp"

namespace kiln::workers {

class op_registry {
 public:
  /// Handlers for exec, file, merge, diff and passthrough ops, and the local and git sources.
  explicit op_registry(worker_resources& resources);

  /// Registers a source for each of its schemes; a later one replaces an earlier one.
  void add(std::shared_ptr<source_handler> source);

  /// invalid_argument for an op without a body or with an unknown scheme; unimplemented for build ops,
  /// which the actors solve themselves.
  result<std::shared_ptr<op_handler>> handler(const pb::Op& op) const;
  /// The source that serves "scheme://…"; not_found otherwise.
  result<std::shared_ptr<source_handler>> source(std::string_view identifier) const;

 private:
  std::map<int, std::shared_ptr<op_handler>> ops_;  // by pb::Op::OpCase
  std::map<std::string, std::shared_ptr<source_handler>, std::less<>> sources_;
};

}  // namespace kiln::workers
