#include "workers/sources/http_downloads.hpp"

#include <algorithm>

#include "base/json_text.hpp"
#include "configs/store.hpp"

namespace kiln::workers {

namespace {

constexpr std::size_t max_versions = 16;  // of one URL

std::vector<download> parse_downloads(std::string_view text) {
  std::vector<download> out;
  auto list = json_or_null(text);
  if (!list.is_array()) return out;
  for (const auto& j : list) {
    download d;
    d.ref = text_member(j, "ref");
    auto sum = digest::parse(text_member(j, "checksum"));
    if (d.ref.empty() || !sum.ok()) continue;
    d.checksum = *sum;
    d.etag = text_member(j, "etag");
    d.modified = integer_member(j, "modified");
    d.filename = text_member(j, "filename");
    out.push_back(std::move(d));
  }
  return out;
}

nlohmann::json as_json(const download& d) {
  nlohmann::json j{
      {"ref", d.ref}, {"checksum", d.checksum.str()}, {"etag", d.etag}, {"filename", d.filename}};
  if (d.modified) j["modified"] = *d.modified;
  return j;
}

}  // namespace

http_downloads::http_downloads(store::ref_store& store)
    : store_(store),
      values_(store.values(), "http-downloads", store::limits::remembered_values, [&store](auto text) {
        auto known = parse_downloads(text);
        return std::any_of(known.begin(), known.end(), [&](const auto& d) { return store.has(d.ref); });
      }) {}

std::vector<download> http_downloads::of(const http_reference& w) const {
  return parse_downloads(values_.get(w.hash()).value_or(""));
}

void http_downloads::add(const http_reference& w, const download& d) {
  std::lock_guard lock(mutex_);
  auto list = nlohmann::json::array({as_json(d)});
  for (const auto& old : of(w))
    if (old.ref != d.ref && list.size() < max_versions && store_.get(old.ref).ok())
      list.push_back(as_json(old));
  (void)values_.set(w.hash(), json_text(list));
}

}  // namespace kiln::workers
