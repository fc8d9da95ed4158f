#include "solver/error_details.hpp"

#include <algorithm>

#include "base/json_text.hpp"
#include "base/quoting.hpp"
#include "configs/definition.hpp"
#include "errdefs.pb.h"
#include "solver/exact_json.hpp"
#include "solver/go_json.hpp"

namespace kiln::solver {

using nlohmann::ordered_json;

namespace {

/// Visits every ref id in the details that describe a failed solve; they are told in JSON.
void for_each_ref(error& e, const std::function<void(std::string& id)>& visit) {
  for (auto& detail : e.details) {
    if (detail.type_url != solve_detail_type) continue;
    auto solve = json_or_null<ordered_json>(detail.value);
    if (!solve.is_object()) continue;
    for (const char* field : {"inputIDs", "mountIDs"}) {
      auto list = solve.find(field);
      if (list == solve.end() || !list->is_array()) continue;
      for (auto& id : *list)
        if (auto* text = id.get_ptr<std::string*>(); text && !text->empty()) visit(*text);
    }
    detail.value = json_text(solve);
  }
}

}  // namespace

error_detail vertex_detail(const kiln::digest& vertex) {
  return {std::string(vertex_detail_type), "{\"digest\":" + go_json_string(vertex.str()) + "}"};
}

error_detail frontend_detail(const std::string& name, const std::string& source) {
  std::string text = "{\"name\":" + go_json_string(name);
  if (!source.empty()) text += ",\"source\":" + go_json_string(source);
  return {std::string(frontend_detail_type), text + "}"};
}

error_detail source_detail(const pb::SourceInfo& info, const pb::Location& location) {
  std::string ranges;
  for (const auto& r : location.ranges()) ranges += (ranges.empty() ? "" : ",") + go_json(r);
  std::string text = "{\"info\":" + go_json(info);
  if (!ranges.empty()) text += ",\"ranges\":[" + ranges + "]";
  return {std::string(source_detail_type), text + "}"};
}

error_detail solve_detail(const pb::Op& op, const pb::OpMetadata& metadata,
                          std::span<const std::string> input_ids, std::span<const std::string> mount_ids,
                          solve_subject subject) {
  ::errdefs::Solve solve;
  for (const auto& id : input_ids) solve.add_inputids(id);
  for (const auto& id : mount_ids) solve.add_mountids(id);
  if (op.ByteSizeLong() <= configs::definition::told_op_bytes_max) *solve.mutable_op() = op;
  *solve.mutable_description() = metadata.description();
  if (subject.content_input >= 0) solve.mutable_cache()->set_index(subject.content_input);
  if (subject.action >= 0) solve.mutable_file()->set_index(subject.action);
  return {std::string(solve_detail_type), proto_json(solve)};
}

error unsupported_feature(int compatibility_version, const std::string& feature) {
  auto version = std::to_string(compatibility_version);
  auto e = make_error(errc::unknown, "unsupported compatibility-version " + version + " feature " + feature);
  e.details.push_back({std::string(compatibility_detail_type),
                       "{\"version\":" + version + ",\"feature\":" + go_json_string(feature) + "}"});
  return e;
}

void rename_refs(error& e, const std::function<std::string(const std::string&)>& rename) {
  for_each_ref(e, [&](std::string& id) { id = rename(id); });
}

std::vector<std::string> refs_of(const error& e) {
  std::vector<std::string> out;
  auto copy = e;
  for_each_ref(copy, [&](const std::string& id) { out.push_back(id); });
  return out;
}

namespace {

/// Its text; empty when the error has no such detail.
std::string detail_of(const error& e, std::string_view type_url) {
  for (const auto& d : e.details)
    if (d.type_url == type_url) return d.value;
  return {};
}

}  // namespace

error lost_ref(const std::string& ref, std::string_view why) {
  auto e = make_error(errc::data_loss, "ref " + ref + " is lost: " + std::string(why));
  e.details.push_back({std::string(lost_ref_detail_type), ref});
  return e;
}

std::string lost_ref_of(const error& e) { return detail_of(e, lost_ref_detail_type); }

error replaced_image(const std::string& image, const std::string& source) {
  auto e =
      make_error(errc::failed_precondition, "ref mutated by policy to non-image: " + image + " -> " + source);
  e.details.push_back({std::string(replaced_image_detail_type), source});
  return e;
}

std::string replaced_image_of(const error& e) { return detail_of(e, replaced_image_detail_type); }

bool has_detail(const error& e, std::string_view type_url) {
  return std::any_of(e.details.begin(), e.details.end(),
                     [&](const error_detail& d) { return d.type_url == type_url; });
}

}  // namespace kiln::solver
