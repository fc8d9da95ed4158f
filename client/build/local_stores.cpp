#include "client/build/local_stores.hpp"

#include <cstdio>
#include <filesystem>

#include <fmt/format.h>

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "base/numbers.hpp"
#include "base/quoting.hpp"
#include "base/text.hpp"
#include "client/build/oci_index.hpp"
#include "client/warning.hpp"

namespace kiln::client {
namespace {

using nlohmann::json;

constexpr std::size_t manifest_bytes_max = 64 << 20;

void warn_of_import(const std::string& directory, const std::string& why) {
  warn(fmt::format("local cache import at {} skipped: {}", directory, why));
}

std::string value_or(const string_map& attrs, const char* key, std::string fallback) {
  auto it = attrs.find(key);
  return it == attrs.end() ? fallback : it->second;
}

status make_directory(const std::string& path, std::string_view flag) {
  std::error_code err;
  std::filesystem::create_directories(path, err);
  if (err) return make_error(errc::invalid_argument, fmt::format("{} {}: {}", flag, path, err.message()));
  return {};
}

// False when the import cannot be used; then a warning was printed.
bool resolve_import(cache_request& import, blob_directory& store) {
  const auto& directory = import.attrs["src"];
  auto digest_text = value_or(import.attrs, "digest", "");
  if (digest_text.empty()) {
    auto found = oci_index(directory).find(value_or(import.attrs, "tag", "latest"));
    if (!found.ok()) return warn_of_import(directory, found.error().message), false;
    if (!*found)
      return warn_of_import(directory, "no digest found for tag " + value_or(import.attrs, "tag", "latest")),
             false;
    digest_text = **found;
    import.attrs["digest"] = digest_text;
  }
  auto d = digest::parse(digest_text);
  if (!d.ok()) return warn_of_import(directory, d.error().message), false;
  if (auto facts = store.info(*d); !facts.ok())
    return warn_of_import(directory,
                          fmt::format("digest {} unavailable: {}", digest_text, facts.error().message)),
           false;
  return true;
}

// The digests that a manifest or index names; of anything else none.
std::vector<std::string> named_by(const blob_directory& store, const std::string& digest_text) {
  std::vector<std::string> out;
  auto d = digest::parse(digest_text);
  if (!d.ok()) return out;
  auto info = store.info(*d);
  if (!info.ok() || info->size > static_cast<std::int64_t>(manifest_bytes_max)) return out;
  auto text = store.read_all(*d, manifest_bytes_max);
  if (!text.ok() || !text->starts_with('{')) return out;
  auto parsed = json_or_null(*text);
  auto add = [&](const json& descriptor) {
    if (auto named = text_member(descriptor, "digest"); !named.empty()) out.push_back(std::move(named));
  };
  if (const auto* config = member_of(parsed, "config")) add(*config);
  for (const char* name : {"layers", "manifests"})
    if (const auto* list = member_of(parsed, name); list && list->is_array())
      for (const auto& descriptor : *list) add(descriptor);
  return out;
}

// Every digest that can be reached from the roots. Indexes may name indexes as deeply as they like.
std::set<std::string> reachable(const blob_directory& store, std::vector<std::string> roots) {
  std::set<std::string> out;
  while (!roots.empty()) {
    auto next = std::move(roots.back());
    roots.pop_back();
    if (!out.insert(next).second) continue;
    for (auto& named : named_by(store, next)) roots.push_back(std::move(named));
  }
  return out;
}

status reset_store(blob_directory& store) {
  KILN_TRY(auto roots, oci_index(store.path()).digests());
  auto referenced = reachable(store, {roots.begin(), roots.end()});
  for (const auto& blob : store.list())
    if (!referenced.contains(blob.digest.str()))
      if (auto removed = store.remove(blob.digest); !removed.ok())
        fmt::print(stderr, "WARNING: reset: {}\n", removed.error().message);
  return {};
}

}  // namespace

result<local_stores> open_local_stores(const build_request& request) {
  local_stores out;
  for (const auto& e : request.cache_exports) {
    if (e.type != "local") continue;
    auto directory = value_or(e.attrs, "dest", "");
    KILN_CHECK(make_directory(directory, "--export-cache"));
    if (auto reset = value_or(e.attrs, "reset", ""); !reset.empty() && !parse_bool(reset))
      return make_error(errc::invalid_argument, "--export-cache: failed to parse reset attribute: " + reset);
    auto store = std::make_shared<blob_directory>(directory);
    store->remove_stale_ingests();
    out.by_id["local:" + directory] = std::move(store);
  }
  for (auto import : request.cache_imports) {
    if (import.type == "local") {
      auto directory = value_or(import.attrs, "src", "");
      auto store = std::make_shared<blob_directory>(directory);
      if (!resolve_import(import, *store)) continue;
      out.by_id.try_emplace("local:" + directory, store);
    }
    out.usable_imports.push_back(std::move(import));
  }
  for (const auto& [name, directory] : request.oci_layouts) {
    std::error_code err;
    if (!std::filesystem::is_directory(directory, err))
      return make_error(
          errc::invalid_argument,
          fmt::format("invalid oci-layout: oci-layout context at {} failed to initialize: not a directory",
                      directory));
    out.by_id["oci:" + name] = std::make_shared<blob_directory>(directory);
  }
  for (const auto& e : request.exports) {
    if (e.where != export_request::destination::store) continue;
    KILN_CHECK(make_directory(e.path, "--output"));
    auto store = std::make_shared<blob_directory>(e.path);
    store->remove_stale_ingests();
    // The daemon knows one name for them all.
    if (!out.by_id.try_emplace("export", std::move(store)).second)
      return make_error(errc::invalid_argument, "oci store key \"export\" already exists");
  }
  return out;
}

status update_store_indexes(const local_stores& stores, const build_request& request,
                            const string_map& response) {
  auto find = [&](const char* key) { return value_or(response, key, ""); };
  if (auto manifest = find("cache.manifest"); !manifest.empty())
    for (const auto& e : request.cache_exports) {
      if (e.type != "local") continue;
      auto directory = value_or(e.attrs, "dest", "");
      KILN_CHECK(oci_index(directory).put_tag(manifest, value_or(e.attrs, "tag", "latest")));
      if (parse_bool(value_or(e.attrs, "reset", "false")).value_or(false))
        if (auto it = stores.by_id.find("local:" + directory); it != stores.by_id.end())
          KILN_CHECK(reset_store(*it->second));
    }
  auto encoded = find("containerimage.descriptor");
  auto decoded = base64_decode(encoded);
  if (encoded.empty() || !decoded) return {};
  for (const auto& e : request.exports) {
    if (e.where != export_request::destination::store) continue;
    oci_index index(e.path);
    // The response is of all outputs together: a name is this one's only if it was to have one.
    if (auto names = find("image.name"); !names.empty() && e.attrs.contains("name")) {
      for (const auto& name : split(names, ',')) KILN_CHECK(index.put_name(*decoded, name));
    } else {
      KILN_CHECK(index.put_tag(*decoded, "latest"));
    }
  }
  return {};
}

std::string cache_imports_json(const std::vector<cache_request>& imports) {
  std::string out = "[";
  for (const auto& import : imports) {
    if (out.size() > 1) out += ",";
    std::string attrs;
    for (const auto& [key, value] : import.attrs)
      attrs += fmt::format("{}{}:{}", attrs.empty() ? "" : ",", go_json_string(key), go_json_string(value));
    out += fmt::format("{{\"Type\":{},\"Attrs\":{{{}}}}}", go_json_string(import.type), attrs);
  }
  return out + "]";
}

}  // namespace kiln::client
