#include "client/commands/go_template.hpp"

#include <fmt/format.h>

#include "client/commands/template_functions.hpp"
#include "client/commands/template_nodes.hpp"

namespace kiln::client {

namespace {

using node = template_node;
using node_ptr = std::shared_ptr<node>;

class evaluator {
 public:
  explicit evaluator(const go_value& root) : root_(root) {}

  status list(const std::vector<node_ptr>& nodes, const go_value& dot) {
    for (const auto& n : nodes) KILN_CHECK(one(*n, dot));
    return {};
  }
  std::string take() { return std::move(out_); }

 private:
  status one(const node& n, const go_value& dot) {
    if (n.what == node::kind::text) {
      out_ += n.text;
      return {};
    }
    KILN_TRY(auto value, pipeline(n.pipeline, dot));
    switch (n.what) {
      case node::kind::action: out_ += to_text(value); return {};
      case node::kind::branch_if: return list(truth(value) ? n.children : n.otherwise, dot);
      case node::kind::branch_with: return truth(value) ? list(n.children, value) : list(n.otherwise, dot);
      default: return range(n, value, dot);
    }
  }

  status range(const node& n, const go_value& value, const go_value& dot) {
    if (value.is_zero()) return list(n.otherwise, dot);
    if (const auto* items = std::get_if<go_value::array>(&value.data)) {
      for (const auto& item : *items) KILN_CHECK(list(n.children, item));
      return {};
    }
    if (const auto* entries = std::get_if<go_value::map>(&value.data)) {
      for (const auto& e : entries->entries) KILN_CHECK(list(n.children, e.value));
      return {};
    }
    return template_error(fmt::format("range can't iterate over {}", to_text(value)));
  }

  result<go_value> pipeline(const std::vector<node::command>& commands, const go_value& dot) {
    go_value last;
    for (std::size_t i = 0; i < commands.size(); ++i) {
      const auto& command = commands[i];
      if (command[0].what == node::operand::kind::function) {
        std::vector<go_value> args;
        for (std::size_t k = 1; k < command.size(); ++k) {
          KILN_TRY(auto arg, operand(command[k], dot));
          args.push_back(std::move(arg));
        }
        if (i > 0) args.push_back(std::move(last));
        KILN_TRY(last, call_template_function(command[0].function, args));
      } else {
        if (command.size() > 1 || i > 0) return template_error("can't give argument to non-function");
        KILN_TRY(last, operand(command[0], dot));
      }
    }
    return last;
  }

  result<go_value> operand(const node::operand& o, const go_value& dot) {
    using kind = node::operand::kind;
    switch (o.what) {
      case kind::dot: return dot;
      case kind::literal: return o.literal;
      case kind::field: return walk(dot, o.path);
      case kind::root: return walk(root_, o.path);
      case kind::function: return call_template_function(o.function, {});
      case kind::pipeline: {
        KILN_TRY(auto value, pipeline(o.inner->pipeline, dot));
        return walk(value, o.path);
      }
    }
    return go_value();
  }

  result<go_value> walk(const go_value& from, const std::vector<std::string>& path) {
    const go_value* at = &from;
    for (const auto& name : path) {
      const auto* next = at->find(name);
      if (!next && std::holds_alternative<go_value::map>(at->data)) return go_value();
      if (!next) return template_error(fmt::format("can't evaluate field {}", name));
      at = next;
    }
    return *at;
  }

  const go_value& root_;
  std::string out_;
};

}  // namespace

result<go_template> go_template::parse(std::string_view text) {
  if (text == "json") text = "{{json .}}";
  go_template out;
  KILN_TRY(out.root_, parse_template(text));
  return out;
}

result<std::string> go_template::render(const go_value& value) const {
  evaluator e(value);
  KILN_CHECK(e.list(root_->children, value));
  return e.take();
}

}  // namespace kiln::client
