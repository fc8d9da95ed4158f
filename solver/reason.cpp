#include "solver/reason.hpp"

#include <algorithm>

#include "base/shortened.hpp"
#include "base/json_text.hpp"

namespace kiln::solver {

namespace {

std::string quoted(const std::string& name) {
  constexpr std::size_t shown_max = 60;  // characters of a name in a line
  return "\"" + shortened(name, shown_max) + "\"";
}

}  // namespace

std::optional<std::string> explain(miss_cause cause, const step_record& now,
                                   const std::optional<step_record>& previous) {
  switch (cause) {
    case miss_cause::ignored: return "not cached: the build asked for no cache here";
    case miss_cause::forced: return "not cached: an input was built without cache";
    case miss_cause::evicted: return "rebuilt: the cached result was removed";
    case miss_cause::no_match: break;
  }
  if (!previous || previous->inputs.size() != now.inputs.size()) return std::nullopt;
  std::vector<std::size_t> changed;
  for (std::size_t i = 0; i < now.inputs.size(); ++i)
    if (now.inputs[i].key != previous->inputs[i].key) changed.push_back(i);

  if (now.op_digest == previous->op_digest) {
    if (changed.empty()) return "rebuilt: the cached result was removed";
    std::string out = "rebuilt: ";
    for (std::size_t n = 0; n < changed.size(); ++n) {
      const auto& input = now.inputs[changed[n]];
      if (n > 0) out += n + 1 == changed.size() ? " and " : ", ";
      out += (input.by_content ? "the content of " : "the result of ") + quoted(input.name);
    }
    return out + " changed";
  }
  // Another definition over the same inputs is the same step, edited; otherwise it is another step.
  if (changed.empty() && !now.inputs.empty()) return "rebuilt: the definition of this step changed";
  return std::nullopt;
}

std::string step_position(std::string_view vertex_name, std::string_view platform) {
  if (vertex_name.starts_with('['))
    if (auto end = vertex_name.find(']'); end != std::string_view::npos)
      vertex_name = vertex_name.substr(0, end + 1);
  return std::string(vertex_name) + "\n" + std::string(platform);
}

std::string encode(const step_record& record) {
  nlohmann::json inputs = nlohmann::json::array();
  for (const auto& i : record.inputs) inputs.push_back({{"n", i.name}, {"k", i.key}, {"c", i.by_content}});
  nlohmann::json out{{"op", record.op_digest}, {"in", inputs}};
  return json_text(out);
}

result<step_record> decode_step_record(std::string_view text) {
  auto json = json_or_null(text);
  if (!json.is_object() || !json.contains("op") || !json["op"].is_string() || !json.contains("in") ||
      !json["in"].is_array())
    return make_error(errc::data_loss, "malformed step record");
  step_record out;
  out.op_digest = text_value(json["op"]);
  for (const auto& i : json["in"]) {
    if (!i.is_object()) return make_error(errc::data_loss, "malformed step record");
    const auto* by_content = member_of(i, "c");
    out.inputs.push_back({text_member(i, "n"), text_member(i, "k"), by_content && true_value(*by_content)});
  }
  return out;
}

}  // namespace kiln::solver
