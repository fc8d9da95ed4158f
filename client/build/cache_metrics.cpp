#include "client/build/cache_metrics.hpp"

#include <fmt/format.h>

namespace kiln::client {
namespace {

// "[stage 1/2] FROM …"
bool names_base_image(const std::string& name) {
  return name.starts_with('[') && name.find("] FROM") != std::string::npos;
}

bool is_users(const std::string& name) {
  return !name.starts_with("[internal]") && !name.starts_with("[auth]") &&
         !name.starts_with("importing cache") && !name.starts_with("exporting ");
}

}  // namespace

void cache_metrics::update(const solve_status& status) {
  for (const auto& v : status.vertices) {
    auto [it, fresh] = vertices_.try_emplace(v.digest);
    if (fresh) it->second.name = v.name;
    it->second.base_image = it->second.base_image || names_base_image(v.name);
    it->second.cached = it->second.cached || v.cached;
    it->second.completed = it->second.completed || v.completed.has_value();
  }
}

std::string cache_metrics::render(std::int64_t duration_ms) const {
  std::int64_t total = 0, completed = 0, user_total = 0, user_cached = 0, user_completed = 0,
               user_cacheable = 0, from = 0, miss = 0;
  std::string out;
  for (const auto& [digest, v] : vertices_) {
    ++total;
    completed += v.completed;
    if (!is_users(v.name)) continue;
    ++user_total;
    user_cacheable += !v.base_image;
    user_cached += v.cached;
    user_completed += v.completed;
    from += v.base_image;
    if (!v.cached && !v.base_image) {
      ++miss;
      out += fmt::format("cache miss: {}\n", v.name);
    }
  }
  return out +
         fmt::format(
             "{{\"total\":{},\"completed\":{},\"user_total\":{},\"user_cached\":{},\"user_completed\":{},"
             "\"user_cacheable\":{},\"from\":{},\"miss\":{},\"client_duration_ms\":{}}}\n",
             total, completed, user_total, user_cached, user_completed, user_cacheable, from, miss,
             duration_ms);
}

}  // namespace kiln::client
