#include "actors/build/build_result.hpp"

#include <algorithm>

#include "actors/build/build_request.hpp"
#include "base/base64.hpp"
#include "base/json_text.hpp"

namespace kiln::actors {

build_result build_result::of(const gw::Result& r) {
  build_result out;
  out.multi = r.has_refs() || r.has_refsdeprecated();
  if (r.has_refs()) {
    for (const auto& [key, ref] : r.refs().refs()) out.refs.emplace_back(key, ref.id());
  } else if (r.has_refsdeprecated()) {
    for (const auto& [key, id] : r.refsdeprecated().refs()) out.refs.emplace_back(key, id);
  } else {
    out.refs.emplace_back("", r.has_ref() ? r.ref().id() : r.refdeprecated());
  }
  out.metadata = {r.metadata().begin(), r.metadata().end()};
  out.platforms = result_platforms(out.metadata);
  auto rank = [&out](const std::string& id) {
    return std::find_if(out.platforms.begin(), out.platforms.end(),
                        [&](const auto& p) { return p.first == id; }) -
           out.platforms.begin();
  };
  std::sort(out.refs.begin(), out.refs.end(), [&](const auto& a, const auto& b) {
    return std::pair(rank(a.first), a.first) < std::pair(rank(b.first), b.first);
  });
  out.attestations = attestations_of(r);
  return out;
}

std::vector<std::string> build_result::ref_ids() const {
  std::vector<std::string> out;
  for (const auto& [key, id] : refs) out.push_back(id);
  return out;
}

platform build_result::platform_of(const std::string& id, const platform& otherwise) const {
  auto known = std::find_if(platforms.begin(), platforms.end(), [&](const auto& p) { return p.first == id; });
  if (known != platforms.end()) return known->second;
  if (!multi && platforms.size() == 1) return platforms.front().second;
  if (auto parsed = parse_platform(id); !id.empty() && parsed.ok()) return *parsed;
  return otherwise;
}

std::vector<attested_part> build_result::parts(const platform& otherwise) const {
  std::vector<attested_part> out;
  for (const auto& [id, ref] : refs) {
    attested_part part{id, ref, platform_of(id, otherwise)};
    if (id.empty() && platforms.size() == 1) part.id = platforms.front().first;
    if (part.id.empty()) part.id = format_platform(normalize(part.platform));
    out.push_back(std::move(part));
  }
  return out;
}

std::vector<std::string> ids_of(const gw::Result& r) {
  std::vector<std::string> out;
  if (r.has_refs()) {
    for (const auto& [key, ref] : r.refs().refs()) out.push_back(ref.id());
  } else if (r.has_refsdeprecated()) {
    for (const auto& [key, id] : r.refsdeprecated().refs()) out.push_back(id);
  } else {
    out.push_back(r.has_ref() ? r.ref().id() : r.refdeprecated());
  }
  return out;
}

void to_deprecated(gw::Result& r) {
  if (r.has_refs()) {
    gw::RefMapDeprecated old;
    for (const auto& [key, ref] : r.refs().refs()) (*old.mutable_refs())[key] = ref.id();
    *r.mutable_refsdeprecated() = std::move(old);
  } else if (r.has_ref()) {
    r.set_refdeprecated(std::string(r.ref().id()));
  }
}

result<gw::Result> final_result(const std::string& exporter_attributes, const gw::SolveResponse& solved) {
  auto invalid = [](const std::string& what) {
    return make_error(errc::invalid_argument, "ExporterAttr of a final Solve: " + what);
  };
  auto attributes = parse_json(exporter_attributes);
  if (!attributes.ok()) return invalid(attributes.error().message);
  if (!attributes->is_object() && !attributes->is_null()) return invalid("not a JSON object");
  gw::Result out;
  for (auto& [name, value] : attributes->items()) {
    auto bytes = value.is_string() ? base64_decode(text_value(value)) : std::nullopt;
    if (!bytes && !value.is_null()) return invalid(name + " is not base64 text");
    (*out.mutable_metadata())[name] = bytes.value_or("");
  }
  for (const auto& [name, value] : solved.result().metadata()) (*out.mutable_metadata())[name] = value;
  auto ids = ids_of(solved.result());
  bool one = !solved.result().has_refs() && !solved.result().has_refsdeprecated();
  out.mutable_ref()->set_id(!solved.ref().empty() ? solved.ref() : one ? ids.front() : std::string());
  return out;
}

}  // namespace kiln::actors
