#include "actors/build/build_request.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include "base/json_text.hpp"
#include "base/text.hpp"
#include "configs/compatibility.hpp"
#include "configs/solving.hpp"
#include "exporters/attributes.hpp"
#include "exporters/cache/cache_exporter.hpp"
#include "solver/source_policy.hpp"

namespace kiln::actors {

namespace {

error invalid(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

void translate_legacy(ctl::SolveRequest& r) {
  if (r.exporters_size() == 0 && !r.exporterdeprecated().empty()) {
    auto& e = *r.add_exporters();
    e.set_type(r.exporterdeprecated());
    *e.mutable_attrs() = r.exporterattrsdeprecated();
    r.clear_exporterdeprecated();
    r.clear_exporterattrsdeprecated();
  }
  auto& cache = *r.mutable_cache();
  if (!cache.exportrefdeprecated().empty()) {
    auto& e = *cache.add_exports();
    e.set_type("registry");
    *e.mutable_attrs() = cache.exportattrsdeprecated();
    (*e.mutable_attrs())["ref"] = cache.exportrefdeprecated();
    cache.clear_exportrefdeprecated();
    cache.clear_exportattrsdeprecated();
  }
  for (const auto& ref : cache.importrefsdeprecated()) {
    auto& e = *cache.add_imports();
    e.set_type("registry");
    (*e.mutable_attrs())["ref"] = ref;
  }
  cache.clear_importrefsdeprecated();
}

/// In upstream's words and with its code, by which clients tell that the daemon is too old.
status check_compatibility(std::int64_t version) {
  namespace known = configs::compatibility;
  if (version == 0 || known::is_known(version)) return {};
  auto wrong = "unsupported compatibility-version " + std::to_string(version);
  if (version > known::current)
    return make_error(errc::unknown,
                      wrong + ": upgrade buildkit (max supported: " + std::to_string(known::current) + ")");
  return make_error(errc::unknown, wrong + " (supported: [" + std::to_string(known::v0_13) + " " +
                                       std::to_string(known::v0_15) + " " + std::to_string(known::v0_31) +
                                       "])");
}

status check_cache_exports(ctl::CacheOptions& cache) {
  using identity = std::pair<std::string, std::map<std::string, std::string>>;
  std::set<identity> seen;
  std::vector<std::string> duplicates;
  google::protobuf::RepeatedPtrField<ctl::CacheOptionsEntry> kept;
  for (const auto& e : cache.exports()) {
    if (!exporters::is_cache_exporter(e.type()))
      return invalid("unknown cache exporter: \"" + e.type() + "\"");
    identity id{e.type(), {e.attrs().begin(), e.attrs().end()}};
    if (e.type() == "registry") id.second = {{"ref", id.second["ref"]}};
    bool fresh = seen.insert(id).second;
    if (e.type() == "inline") {
      bool another =
          std::any_of(kept.begin(), kept.end(), [](const auto& k) { return k.type() == "inline"; });
      if (!another) *kept.Add() = e;
    } else if (!fresh) {
      duplicates.push_back(e.type());
    } else {
      *kept.Add() = e;
    }
  }
  if (!duplicates.empty()) return invalid("duplicate cache exports [" + join(duplicates, " ") + "]");
  *cache.mutable_exports() = std::move(kept);
  return {};
}

}  // namespace

status prepare(ctl::SolveRequest& r) {
  translate_legacy(r);
  namespace cfg = configs::solving;
  auto bounded = [](int count, const char* what, int count_max) -> status {
    if (count <= count_max) return {};
    return invalid("invalid request with " + std::to_string(count) + " " + what + ": at most " +
                   std::to_string(count_max) + " are allowed");
  };
  KILN_CHECK(bounded(r.exporters_size(), "exporters", cfg::exporters_max));
  KILN_CHECK(bounded(r.cache().exports_size(), "cache exports", cfg::cache_options_max));
  KILN_CHECK(bounded(r.cache().imports_size(), "cache imports", cfg::cache_options_max));
  KILN_CHECK(check_compatibility(r.compatibilityversion()));
  // Other values are for the frontend to make a time of ("context", a stage).
  if (auto epoch = r.frontendattrs().find("build-arg:SOURCE_DATE_EPOCH"); epoch != r.frontendattrs().end())
    if (exporters::parse_epoch(epoch->first, epoch->second).ok())
      for (auto& e : *r.mutable_exporters()) e.mutable_attrs()->insert({"source-date-epoch", epoch->second});
  KILN_CHECK(check_cache_exports(*r.mutable_cache()));
  KILN_CHECK(solver::validate(r.sourcepolicy()));
  return {};
}

int compatibility_of(const ctl::SolveRequest& r) {
  auto version = static_cast<int>(r.compatibilityversion());
  return version == 0 ? configs::compatibility::current : version;
}

void shorten_frontend(std::string& frontend, std::map<std::string, std::string>& options) {
  if (frontend != "gateway.v0") return;
  auto source = options.find("source");
  if (source == options.end() || source->second != "dockerfile.v0") return;
  for (const auto& [key, value] : options)
    if (key == "context:dockerfile.v0" || key.starts_with("context:dockerfile.v0::")) return;
  frontend = "dockerfile.v0";
  options.erase(source);
}

std::vector<std::pair<std::string, platform>> result_platforms(
    const std::map<std::string, std::string>& metadata) {
  std::vector<std::pair<std::string, platform>> out;
  auto text = metadata.find("refs.platforms");
  if (text == metadata.end()) return out;
  auto json = json_or_null(text->second);
  if (!json.is_object() || !json.contains("Platforms") || !json["Platforms"].is_array()) return out;
  for (const auto& entry : json["Platforms"]) {
    if (!entry.is_object() || !entry.contains("ID") || !entry["ID"].is_string()) continue;
    platform p;
    if (entry.contains("Platform") && entry["Platform"].is_object()) {
      const auto& fields = entry["Platform"];
      auto field = [&](const char* name) { return text_member(fields, name); };
      p.os = field("os");
      p.architecture = field("architecture");
      p.variant = field("variant");
      p.os_version = field("os.version");
      if (fields.contains("os.features") && fields["os.features"].is_array())
        for (const auto& f : fields["os.features"])
          if (f.is_string()) p.os_features.push_back(text_value(f));
    }
    out.emplace_back(text_value(entry["ID"]), std::move(p));
  }
  return out;
}

}  // namespace kiln::actors
