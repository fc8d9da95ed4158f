#include "gateway/control_requests.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <map>

#include "messages/rpc_status.hpp"

namespace kiln::gateway {

namespace ctl = moby::buildkit::v1;

namespace {

constexpr auto epoch_arg = "build-arg:SOURCE_DATE_EPOCH";
constexpr auto epoch_attr = "source-date-epoch";

std::map<std::string, std::string> attrs_of(const ctl::CacheOptionsEntry& entry) {
  return {entry.attrs().begin(), entry.attrs().end()};
}

bool same_target(const ctl::CacheOptionsEntry& a, const ctl::CacheOptionsEntry& b) {
  if (a.type() != b.type()) return false;
  if (a.type() == "registry") {
    auto ref = [](const ctl::CacheOptionsEntry& e) {
      auto it = e.attrs().find("ref");
      return it == e.attrs().end() ? std::string{} : it->second;
    };
    return ref(a) == ref(b);
  }
  return attrs_of(a) == attrs_of(b);
}

status refuse_duplicates(ctl::CacheOptions& cache) {
  google::protobuf::RepeatedPtrField<ctl::CacheOptionsEntry> kept;
  std::string duplicates;
  for (auto& entry : *cache.mutable_exports()) {
    auto known = std::any_of(kept.begin(), kept.end(), [&](const auto& k) {
      return entry.type() == "inline" ? k.type() == "inline" : same_target(k, entry);
    });
    if (!known) {
      kept.Add()->Swap(&entry);
    } else if (entry.type() != "inline") {
      duplicates += (duplicates.empty() ? "" : " ") + entry.type();
    }
  }
  if (!duplicates.empty()) return make_error(errc::unknown, "duplicate cache exports [" + duplicates + "]");
  cache.mutable_exports()->Swap(&kept);
  return {};
}

void fix_text(std::string* text) {
  if (!is_valid_utf8(*text)) *text = valid_utf8(*text);
}

}  // namespace

status normalize_solve_request(ctl::SolveRequest& request) {
  auto& cache = *request.mutable_cache();
  if (!cache.exportrefdeprecated().empty()) {
    auto* entry = cache.add_exports();
    entry->set_type("registry");
    *entry->mutable_attrs() = cache.exportattrsdeprecated();
    (*entry->mutable_attrs())["ref"] = cache.exportrefdeprecated();
    cache.clear_exportrefdeprecated();
    cache.clear_exportattrsdeprecated();
  }
  for (const auto& ref : cache.importrefsdeprecated()) {
    auto* entry = cache.add_imports();
    entry->set_type("registry");
    (*entry->mutable_attrs())["ref"] = ref;
  }
  cache.clear_importrefsdeprecated();
  if (request.exporters_size() == 0 && !request.exporterdeprecated().empty()) {
    auto* exporter = request.add_exporters();
    exporter->set_type(request.exporterdeprecated());
    *exporter->mutable_attrs() = request.exporterattrsdeprecated();
  }
  request.clear_exporterdeprecated();
  request.clear_exporterattrsdeprecated();
  if (auto it = request.frontendattrs().find(epoch_arg); it != request.frontendattrs().end())
    for (auto& exporter : *request.mutable_exporters())
      exporter.mutable_attrs()->insert({epoch_attr, it->second});
  return refuse_duplicates(cache);
}

std::vector<ctl::StatusResponse> split_status(ctl::StatusResponse&& whole, std::size_t bytes_max) {
  for (auto& v : *whole.mutable_vertexes()) {
    fix_text(v.mutable_name());
    fix_text(v.mutable_error());
  }
  for (auto& s : *whole.mutable_statuses()) {
    fix_text(s.mutable_id());
    fix_text(s.mutable_name());
  }
  for (auto& w : *whole.mutable_warnings()) fix_text(w.mutable_url());
  std::vector<ctl::StatusResponse> parts;
  if (whole.ByteSizeLong() <= bytes_max) {
    parts.push_back(std::move(whole));
    return parts;
  }
  std::size_t used = 0;
  parts.emplace_back();
  auto room_for = [&](std::size_t bytes) -> ctl::StatusResponse& {
    if (used > 0 && used + bytes > bytes_max) {
      parts.emplace_back();
      used = 0;
    }
    used += bytes;
    return parts.back();
  };
  for (auto& v : *whole.mutable_vertexes()) room_for(v.ByteSizeLong()).add_vertexes()->Swap(&v);
  for (auto& s : *whole.mutable_statuses()) room_for(s.ByteSizeLong()).add_statuses()->Swap(&s);
  for (auto& log : *whole.mutable_logs()) {
    if (log.ByteSizeLong() <= bytes_max) {
      room_for(log.ByteSizeLong()).add_logs()->Swap(&log);
      continue;
    }
    std::string bytes;
    bytes.swap(*log.mutable_msg());
    for (std::size_t at = 0; at < bytes.size(); at += bytes_max) {
      auto n = std::min(bytes_max, bytes.size() - at);
      auto* piece = room_for(n).add_logs();
      *piece = log;
      piece->set_msg(bytes.substr(at, n));
    }
  }
  for (auto& w : *whole.mutable_warnings()) room_for(w.ByteSizeLong()).add_warnings()->Swap(&w);
  return parts;
}

std::string rfc3339_nano_now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  std::array<char, 64> text;
  auto n = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text.data() + n, text.size() - n, ".%09ldZ", now.tv_nsec);
  return text.data();
}

}  // namespace kiln::gateway
