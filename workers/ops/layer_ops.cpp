// The ops that only combine refs: merge, diff and passthrough. No bytes move here.
// Source: solver/llbsolver/ops/{merge,diff,passthrough}.go.
#include "workers/ops/ops.hpp"

namespace kiln::workers {

namespace {

// A ref by op input index; scratch for -1.
result<store::ref> input_at(std::span<const store::ref> inputs, std::int64_t index) {
  if (index == -1) return store::ref{};
  if (index < 0 || index >= static_cast<std::int64_t>(inputs.size())) {
    return make_error(errc::invalid_argument, "invalid input index " + std::to_string(index));
  }
  return inputs[static_cast<std::size_t>(index)];
}

class layer_handler : public op_handler {
 public:
  explicit layer_handler(worker_resources& resources) : refs_(*resources.refs) {}
  result<solver::cache_map> cache_map(const op_request& request, int, const job_context&) override {
    return solver::cache_map_of(request.op, request.platform);
  }

 protected:
  store::ref_store& refs_;
};

class merge_handler final : public layer_handler {
 public:
  using layer_handler::layer_handler;
  result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref> inputs,
                                      const job_context&) override {
    std::vector<store::ref> parts;
    for (const auto& input : request.op.merge().inputs()) {
      KILN_TRY(auto part, input_at(inputs, input.input()));
      if (part) parts.push_back(std::move(part));
    }
    if (parts.empty()) return std::vector<store::ref>{store::ref{}};
    KILN_TRY(auto merged, refs_.merge(parts, {.description = request.name}));
    return std::vector<store::ref>{std::move(merged)};
  }
};

class diff_handler final : public layer_handler {
 public:
  using layer_handler::layer_handler;
  result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref> inputs,
                                      const job_context&) override {
    const pb::DiffOp& op = request.op.diff();
    if (!op.has_lower() || !op.has_upper())
      return make_error(errc::invalid_argument, "diff needs lower and upper");
    KILN_TRY(auto lower, input_at(inputs, op.lower().input()));
    KILN_TRY(auto upper, input_at(inputs, op.upper().input()));
    if (!lower && !upper) return std::vector<store::ref>{store::ref{}};
    if (!lower) return std::vector<store::ref>{std::move(upper)};
    KILN_TRY(auto difference, refs_.diff(lower, upper, {.description = request.name}));
    return std::vector<store::ref>{std::move(difference)};
  }
};

class passthrough_handler final : public layer_handler {
 public:
  using layer_handler::layer_handler;
  result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref> inputs,
                                      const job_context&) override {
    std::vector<store::ref> outputs;
    for (std::int64_t index : request.op.passthrough().outputs()) {
      if (index < 0)
        return make_error(errc::invalid_argument, "invalid passthrough output " + std::to_string(index));
      KILN_TRY(auto output, input_at(inputs, index));
      outputs.push_back(std::move(output));
    }
    return outputs;
  }
};

}  // namespace

std::shared_ptr<op_handler> make_merge_handler(worker_resources& r) {
  return std::make_shared<merge_handler>(r);
}
std::shared_ptr<op_handler> make_diff_handler(worker_resources& r) {
  return std::make_shared<diff_handler>(r);
}
std::shared_ptr<op_handler> make_passthrough_handler(worker_resources& r) {
  return std::make_shared<passthrough_handler>(r);
}

}  // namespace kiln::workers
