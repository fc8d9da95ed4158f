// File, merge and diff operations.
#include <algorithm>
#include <charconv>

#include "base/slash_path.hpp"
#include "frontends/llb/ops.hpp"

namespace kiln::llb {

namespace {

class file_vertex final : public vertex {
 public:
  file_vertex(op_info info, output base, std::vector<file_step> steps)
      : vertex(with_cap(std::move(info))), base_(base), steps_(std::move(steps)) {}

  // The base, then the sources from the last step to the first.
  std::vector<output> inputs() const override {
    std::vector<output> out;
    auto add = [&](const output& o) {
      auto real = resolve(o);
      if (real && std::find(out.begin(), out.end(), real) == out.end()) out.push_back(real);
    };
    add(base_);
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step)
      if (step->copy_source) add(*step->copy_source);
    return out;
  }

  result<std::string> encode(const encoder& e) const override {
    if (steps_.empty()) return make_error(errc::invalid_argument, "action is required");
    pb::Op op;
    op.mutable_constraints();
    auto base = input_index(op, e, base_);
    std::vector<std::int64_t> sources;
    for (const auto& step : steps_)
      sources.push_back(step.copy_source ? input_index(op, e, *step.copy_source) : -1);
    auto& file = *op.mutable_file();
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      auto& action = *file.add_actions();
      action = steps_[i].action;
      action.set_input(i == 0 ? base : op.inputs_size() + static_cast<std::int64_t>(i) - 1);
      action.set_secondaryinput(sources[i]);
      action.set_output(i + 1 == steps_.size() ? 0 : -1);
      bind_owner(action, base);
    }
    return op_bytes(std::move(op));
  }

 private:
  static op_info with_cap(op_info info) {
    info.caps.insert("file.base");
    return info;
  }

  static std::int64_t input_index(pb::Op& op, const encoder& e, const output& out) {
    if (!resolve(out)) return -1;
    auto input = e.input_of(out);
    for (int i = 0; i < op.inputs_size(); ++i)
      if (op.inputs(i).digest() == input.digest() && op.inputs(i).index() == input.index()) return i;
    *op.add_inputs() = input;
    return op.inputs_size() - 1;
  }

  // Names are looked up in the base's /etc/passwd.
  static void bind_owner(pb::FileAction& action, std::int64_t base) {
    pb::ChownOpt* owner = nullptr;
    if (action.has_copy() && action.copy().has_owner()) owner = action.mutable_copy()->mutable_owner();
    if (action.has_mkdir() && action.mkdir().has_owner()) owner = action.mutable_mkdir()->mutable_owner();
    if (action.has_mkfile() && action.mkfile().has_owner()) owner = action.mutable_mkfile()->mutable_owner();
    if (owner == nullptr) return;
    if (owner->has_user() && owner->user().has_byname())
      owner->mutable_user()->mutable_byname()->set_input(base);
    if (owner->has_group() && owner->group().has_byname())
      owner->mutable_group()->mutable_byname()->set_input(base);
  }

  output base_;
  std::vector<file_step> steps_;
};

class merge_vertex final : public vertex {
 public:
  merge_vertex(op_info info, std::vector<output> inputs)
      : vertex(std::move(info)), inputs_(std::move(inputs)) {}
  std::vector<output> inputs() const override { return inputs_; }
  result<std::string> encode(const encoder& e) const override {
    pb::Op op;
    op.mutable_constraints();
    for (const auto& input : inputs_) {
      op.mutable_merge()->add_inputs()->set_input(op.inputs_size());
      *op.add_inputs() = e.input_of(input);
    }
    return op_bytes(std::move(op));
  }

 private:
  std::vector<output> inputs_;
};

class diff_vertex final : public vertex {
 public:
  diff_vertex(op_info info, output lower, output upper)
      : vertex(std::move(info)), lower_(lower), upper_(upper) {}
  std::vector<output> inputs() const override {
    std::vector<output> out{lower_};
    if (resolve(upper_)) out.push_back(upper_);
    return out;
  }
  result<std::string> encode(const encoder& e) const override {
    pb::Op op;
    op.mutable_constraints();
    auto add = [&](const output& o) -> std::int64_t {
      if (!resolve(o)) return -1;
      *op.add_inputs() = e.input_of(o);
      return op.inputs_size() - 1;
    };
    op.mutable_diff()->mutable_lower()->set_input(add(lower_));
    op.mutable_diff()->mutable_upper()->set_input(add(upper_));
    return op_bytes(std::move(op));
  }

 private:
  output lower_, upper_;
};

pb::UserOpt user_option(std::string_view text) {
  pb::UserOpt out;
  std::int32_t id = 0;
  auto digits = text.starts_with('+') ? text.substr(1) : text;
  auto [end, err] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
  if (text == "root") out.set_byid(0);
  else if (err == std::errc{} && end == digits.data() + digits.size())
    out.set_byid(static_cast<std::uint32_t>(id));
  else if (!text.empty()) out.mutable_byname()->set_name(std::string(text));
  else out.set_byid(0);
  return out;
}

}  // namespace

pb::ChownOpt chown_option(const std::string& spec) {
  pb::ChownOpt out;
  auto colon = spec.find(':');
  *out.mutable_user() = user_option(std::string_view(spec).substr(0, colon));
  if (colon != std::string::npos)
    *out.mutable_group() = user_option(std::string_view(spec).substr(colon + 1));
  return out;
}

pb::ChownOpt chown_option(std::uint32_t uid, std::uint32_t gid) {
  pb::ChownOpt out;
  out.mutable_user()->set_byid(uid);
  out.mutable_group()->set_byid(gid);
  return out;
}

std::string normalize_file_path(const std::string& parent, const std::string& path, bool keep_slash) {
  auto p = clean_path(path);
  if (!p.starts_with('/')) p = clean_path("/" + parent + "/" + p);
  if (keep_slash) {
    if (path.ends_with('/') && !p.ends_with('/')) {
      p += '/';
    } else if (path.ends_with("/.")) {
      if (p != "/") p += '/';
      p += '.';
    }
  }
  return p;
}

file_step mkdir_step(std::string path, int mode, bool parents, std::optional<pb::ChownOpt> owner,
                     std::optional<std::int64_t> created_ns) {
  file_step step;
  auto& mkdir = *step.action.mutable_mkdir();
  mkdir.set_path(std::move(path));
  mkdir.set_mode(mode & 0777);
  mkdir.set_makeparents(parents);
  if (owner) *mkdir.mutable_owner() = *owner;
  mkdir.set_timestamp(created_ns.value_or(-1));
  return step;
}

file_step mkfile_step(std::string path, int mode, std::string data) {
  file_step step;
  auto& mkfile = *step.action.mutable_mkfile();
  mkfile.set_path(std::move(path));
  mkfile.set_mode(mode & 0777);
  mkfile.set_data(std::move(data));
  mkfile.set_timestamp(-1);
  return step;
}

output file(graph& g, output base, std::vector<file_step> steps, op_info info) {
  return {g.make<file_vertex>(std::move(info), base, std::move(steps)), 0};
}

output merge(graph& g, const std::vector<output>& inputs, op_info info) {
  std::vector<output> kept;
  for (const auto& input : inputs)
    if (input) kept.push_back(input);
  if (kept.empty()) return {};
  if (kept.size() == 1) return kept[0];
  info.caps.insert("mergeop");
  return {g.make<merge_vertex>(std::move(info), std::move(kept)), 0};
}

output diff(graph& g, output lower, output upper, op_info info) {
  if (!lower) return upper;
  info.caps.insert("diffop");
  return {g.make<diff_vertex>(std::move(info), lower, upper), 0};
}

}  // namespace kiln::llb
