#include "workers/op_registry.hpp"

#include "workers/ops/ops.hpp"
#include "workers/sources/local.hpp"
#include "workers/worker_resources.hpp"

namespace kiln::workers {

op_registry::op_registry(worker_resources& resources) {
  ops_[pb::Op::kExec] = make_exec_handler(resources);
  ops_[pb::Op::kFile] = make_file_handler(resources);
  ops_[pb::Op::kMerge] = make_merge_handler(resources);
  ops_[pb::Op::kDiff] = make_diff_handler(resources);
  ops_[pb::Op::kPassthrough] = make_passthrough_handler(resources);
  add(make_local_source(resources));
}

void op_registry::add(std::shared_ptr<source_handler> source) {
  for (const auto& scheme : source->schemes()) sources_[scheme] = source;
}

result<std::shared_ptr<source_handler>> op_registry::source(std::string_view identifier) const {
  std::size_t end = identifier.find("://");
  if (end == std::string_view::npos) {
    return make_error(errc::invalid_argument,
                      "failed to parse source identifier \"" + std::string(identifier) + "\"");
  }
  auto it = sources_.find(identifier.substr(0, end));
  if (it == sources_.end()) {
    return make_error(errc::not_found, "unknown source scheme " + std::string(identifier.substr(0, end)));
  }
  return it->second;
}

result<std::shared_ptr<op_handler>> op_registry::handler(const pb::Op& op) const {
  if (op.op_case() == pb::Op::kSource) {
    KILN_TRY(auto found, source(op.source().identifier()));
    return std::shared_ptr<op_handler>(std::move(found));
  }
  auto it = ops_.find(op.op_case());
  if (it != ops_.end()) return it->second;
  if (op.op_case() == pb::Op::kBuild) return make_error(errc::unimplemented, "build ops are solved, not run");
  return make_error(errc::invalid_argument, "could not resolve op: it has no known body");
}

}  // namespace kiln::workers
