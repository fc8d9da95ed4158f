#include "exporters/sbom_layers.hpp"

#include "base/json_text.hpp"
#include "base/slash_path.hpp"
#include "configs/version.hpp"
#include "store/archive/codec.hpp"
#include "store/archive/unpack.hpp"

namespace kiln::exporters {

using json = nlohmann::ordered_json;

namespace {

bool is_whiteout(const std::string& path) { return path.compare(path.rfind('/') + 1, 4, ".wh.") == 0; }

std::string text(const json& j, const char* name) { return text_member(j, name); }

/// The list under a name, if that is what is there.
json* list(json& j, const char* name) {
  auto it = j.find(name);
  return it != j.end() && it->is_array() ? &*it : nullptr;
}

}  // namespace

result<std::optional<digest>> layer_files::find(const std::string& path, const job_context& job) {
  auto wanted = clean_absolute(path);
  for (;;) {
    if (auto at = found_.find(wanted); at != found_.end())
      return std::optional(layers_[at->second].blob.blob.digest);
    if (left_ == 0) return std::optional<digest>();
    const auto& layer = layers_[--left_];
    KILN_CHECK(exporter_.ensure(layer, job));
    KILN_TRY(auto blob, exporter_.blobs().read(layer.blob.blob.digest));
    auto tar = store::make_decompressor(std::move(blob));
    auto listed = store::list_tar(
        *tar,
        [&](const std::string& name) {
          // What a layer removes it does not have.
          if (auto entry = clean_absolute(name); !is_whiteout(entry)) found_.emplace(std::move(entry), left_);
        },
        job);
    if (!listed.ok())
      return std::move(listed).error().with_context("cannot list layer " + layer.blob.blob.digest.str());
  }
}

status add_layers(json& document,
                  const std::function<result<std::optional<digest>>(const std::string&)>& layer_of) {
  if (!document.is_object()) return {};
  auto version = text(document, "spdxVersion");
  if (version != "SPDX-2.1" && version != "SPDX-2.2" && version != "SPDX-2.3") return {};
  auto add = [&](json* files) -> status {
    if (!files) return {};
    for (auto& f : *files) {
      // A comment that is there is the scanner's own.
      if (!f.is_object() || !text(f, "comment").empty()) continue;
      KILN_TRY(auto layer, layer_of(text(f, "fileName")));
      if (layer) f["comment"] = "layerID: " + layer->str();
    }
    return {};
  };
  KILN_CHECK(add(list(document, "files")));
  if (auto* packages = list(document, "packages"))
    for (auto& p : *packages)
      if (p.is_object()) KILN_CHECK(add(list(p, "files")));
  auto& creation = document["creationInfo"];
  if (!creation.is_object()) creation = json::object();
  auto& creators = creation["creators"];
  if (!creators.is_array()) creators = json::array();
  creators.push_back(std::string("Tool: buildkit-") + configs::buildkit_version);
  return {};
}

}  // namespace kiln::exporters
