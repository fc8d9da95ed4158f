#include "frontends/dockerfile/subrequests.hpp"

#include <algorithm>
#include <mutex>

#include <google/protobuf/util/json_util.h>

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "frontends/dockerfile/source_details.hpp"
#include "frontends/dockerfile/text.hpp"
#include "solver/go_json.hpp"

namespace kiln::dockerfile {

namespace gw = moby::buildkit::v1::frontend;
using nlohmann::ordered_json;

namespace {

constexpr int indent = 2;  // blanks

/// A message as Go's encoding/json has its struct.
ordered_json go_struct(const google::protobuf::Message& message) {
  return json_or_null<ordered_json>(solver::go_json(message));
}

ordered_json location_json(const line_ranges& ranges, int source_index = 0) {
  pb::Location location;
  location.set_sourceindex(source_index);
  for (const auto& range : to_proto(ranges)) *location.add_ranges() = range;
  return go_struct(location);
}

void put(ordered_json& object, const char* key, const std::string& value) {
  if (!value.empty()) object[key] = value;
}

gw::Result answer(const std::string& version, const ordered_json& json,
                  const std::optional<std::string>& text) {
  gw::Result out;
  auto& metadata = *out.mutable_metadata();
  metadata["result.json"] = go_json(json, indent);
  if (text) metadata["result.txt"] = *text;
  metadata["version"] = version;
  return out;
}

// Columns as Go's text/tabwriter lays them out: cells end in a tab; the last cell of a line is not padded.
std::string columns(const std::vector<std::vector<std::string>>& rows, std::size_t padding) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows)
    for (std::size_t i = 0; i + 1 < row.size(); ++i) {
      if (widths.size() <= i) widths.resize(i + 1);
      widths[i] = std::max(widths[i], row[i].size() + padding);
    }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out += std::string(widths[i] - row[i].size(), ' ');
    }
    out += '\n';
  }
  return out;
}

struct request_definition {
  const char* name;
  const char* version;
  const char* description;
  bool takes_target;
};

constexpr request_definition outline_definition{"frontend.outline", "1.0.0",
                                                "List all parameters current build target supports", true};
constexpr request_definition targets_definition{"frontend.targets", "1.0.0",
                                                "List all targets current build supports", false};
constexpr request_definition describe_definition{"frontend.subrequests.describe", "1.0.0",
                                                 "List available subrequest types", false};

ordered_json named(const char* name, const char* description) {
  ordered_json out;
  out["name"] = name;
  out["description"] = description;
  return out;
}

result<gw::Result> describe() {
  auto list = ordered_json::array();
  std::vector<std::vector<std::string>> rows{{"NAME", "VERSION", "DESCRIPTION"}};
  for (const auto& d : {outline_definition, targets_definition, describe_definition}) {
    ordered_json item;
    item["name"] = d.name;
    item["version"] = d.version;
    item["type"] = "rpc";
    item["description"] = d.description;
    item["opts"] =
        std::string_view(d.name) == "frontend.targets" ? ordered_json::array() : ordered_json(nullptr);
    if (d.takes_target) item["opts"] = ordered_json::array({named("target", "Target build stage")});
    item["inputs"] = nullptr;
    item["metadata"] = ordered_json::array({named("result.json", ""), named("result.txt", "")});
    item["refs"] = nullptr;
    list.push_back(std::move(item));
    std::string name(d.name);
    rows.push_back({name.substr(std::string_view("frontend.").size()), d.version, d.description});
  }
  return answer(describe_definition.version, list, columns(rows, 1));
}

result<gw::Result> outline_answer(const convert_request& request) {
  KILN_TRY(auto o, outline_of(request));
  ordered_json json = ordered_json::object();
  put(json, "name", o.name);
  put(json, "description", o.description);
  std::string text;
  if (!o.name.empty() || !o.description.empty()) {
    std::vector<std::vector<std::string>> rows{{"TARGET:", o.name.empty() ? "(default)" : o.name}};
    if (!o.description.empty()) rows.push_back({"DESCRIPTION:", o.description});
    text += columns(rows, 1) + "\n";
  }
  if (!o.args.empty()) {
    std::vector<std::vector<std::string>> rows{{"BUILD ARG", "VALUE", "DESCRIPTION"}};
    auto& list = json["args"] = ordered_json::array();
    for (const auto& a : o.args) {
      ordered_json item;
      item["name"] = a.name;
      put(item, "description", a.description);
      put(item, "value", a.value);
      if (!a.location.empty()) item["location"] = location_json(a.location);
      list.push_back(std::move(item));
      rows.push_back({a.name, a.value, a.description});
    }
    text += columns(rows, 3) + "\n";
  }
  auto uses = [&](const char* key, const char* title, const std::vector<outline_use>& all) {
    if (all.empty()) return;
    std::vector<std::vector<std::string>> rows{{title, "REQUIRED"}};
    auto& list = json[key] = ordered_json::array();
    for (const auto& u : all) {
      ordered_json item;
      item["name"] = u.name;
      if (u.required) item["required"] = true;
      if (!u.location.empty()) item["location"] = location_json(u.location);
      list.push_back(std::move(item));
      rows.push_back({u.name, u.required ? "true" : ""});
    }
    text += columns(rows, 3) + "\n";
  };
  uses("secrets", "SECRET", o.secrets);
  uses("ssh", "SSH", o.ssh);
  json["sources"] = ordered_json::array({base64_encode(request.file->data)});
  return answer(outline_definition.version, json, text);
}

result<gw::Result> targets_answer(const convert_request& request) {
  KILN_TRY(auto parsed, parse(request.file->data));
  KILN_TRY(auto file, parse_instructions(parsed, lint()));
  ordered_json json;
  auto& list = json["targets"] = file.stages.empty() ? ordered_json(nullptr) : ordered_json::array();
  std::vector<std::vector<std::string>> rows{{"TARGET", "DESCRIPTION"}};
  for (std::size_t i = 0; i < file.stages.size(); ++i) {
    const auto& s = file.stages[i];
    bool is_default = i + 1 == file.stages.size();
    ordered_json item = ordered_json::object();
    put(item, "name", s.name);
    if (is_default) item["default"] = true;
    put(item, "description", s.description);
    put(item, "base", s.base_name);
    put(item, "platform", s.platform);
    item["location"] = location_json(s.location);
    list.push_back(std::move(item));
    auto name = s.name;
    if (is_default) name += name.empty() ? "(default)" : " (default)";
    rows.push_back({name, s.description});
  }
  json["sources"] = ordered_json::array({base64_encode(request.file->data)});
  return answer(targets_definition.version, json, columns(rows, 1));
}

struct finding {
  const lint_rule* rule;
  std::string message;
  line_ranges where;
};

result<gw::Result> lint_answer(const convert_request& original) {
  std::vector<finding> findings;
  std::mutex mutex;
  auto request = original;
  request.warn = [&](const lint_rule& rule, const std::string& message, const line_ranges& where) {
    std::lock_guard lock(mutex);
    findings.push_back({&rule, message, where});
  };
  auto outcome = check(request);
  ordered_json json;
  auto& list = json["warnings"] = findings.empty() ? ordered_json(nullptr) : ordered_json::array();
  for (const auto& f : findings) {
    ordered_json item;
    item["ruleName"] = f.rule->name;
    put(item, "description", std::string(f.rule->description));
    put(item, "url", std::string(f.rule->url));
    put(item, "detail", f.message);
    item["location"] = location_json(f.where);
    list.push_back(std::move(item));
  }
  json["sources"] = ordered_json::array({go_struct(request.file->info())});
  if (!outcome) {
    auto e = split_location(std::move(outcome).error());
    auto& build_error = json["buildError"];
    build_error["message"] = e.plain.message;
    build_error["location"] =
        e.places.empty() ? ordered_json::object() : location_json(merge_ranges(e.places));
  }
  auto sorted = findings;
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    if (a.where.empty() && b.where.empty()) return a.rule->name < b.rule->name;
    if (a.where.empty() || b.where.empty()) return a.where.empty() && !b.where.empty();
    return a.where.front().start < b.where.front().start;
  });
  std::string text;
  for (const auto& f : sorted) {
    text += "\nWARNING: " + std::string(f.rule->name);
    if (!f.rule->url.empty()) text += " - " + std::string(f.rule->url);
    text += "\n" + f.message + "\n" + print_snippet(request.file->info(), to_proto(f.where));
  }
  auto out = answer("1.0.0", json, text);
  (*out.mutable_metadata())["result.statuscode"] =
      findings.empty() && !json.contains("buildError") ? "0" : "1";
  return out;
}

// Protobuf's own JSON form, for whole operations.
ordered_json proto_json(const google::protobuf::Message& message) {
  std::string text;
  auto status = google::protobuf::util::MessageToJsonString(message, &text);
  auto out = status.ok() ? json_or_null<ordered_json>(text) : ordered_json();
  return out.is_null() ? ordered_json::object() : out;
}

result<gw::Result> llb_answer(const convert_request& request) {
  KILN_TRY(auto converted, convert(request));
  KILN_TRY(auto definition, converted.marshal());
  std::map<std::string, ordered_json> ops, metadata;
  for (const auto& bytes : definition.def()) {
    pb::Op op;
    op.ParseFromString(bytes);
    ops[sha256(bytes).str()] = proto_json(op);
  }
  for (const auto& [digest, md] : definition.metadata()) metadata[digest] = go_struct(md);
  ordered_json json;
  json["def"] = ordered_json::object();
  for (auto& [digest, op] : ops) json["def"][digest] = std::move(op);
  json["metadata"] = ordered_json::object();
  for (auto& [digest, md] : metadata) json["metadata"][digest] = std::move(md);
  json["source"] = proto_json(definition.source());
  return answer("0.1.0", json, std::nullopt);
}

}  // namespace

result<gw::Result> answer_subrequest(const std::string& id, const convert_request& request) {
  if (id == describe_definition.name) return describe();
  if (id == outline_definition.name) return outline_answer(request);
  if (id == targets_definition.name) return targets_answer(request);
  if (id == "frontend.lint") return lint_answer(request);
  if (id == "frontend.convertllb") return llb_answer(request);
  auto e = make_error(errc::unimplemented, "unsupported request " + id);
  e.details.push_back(
      {"github.com/moby/buildkit/errdefs.Subrequest+json", go_json(ordered_json{{"name", id}})});
  return e;
}

}  // namespace kiln::dockerfile
