#include "workers/proxy/recorder.hpp"

#include <set>

#include "configs/proxy.hpp"

namespace kiln::workers::proxy {

bool recorder::has_room(std::size_t count, std::size_t bytes) {
  if (count < configs::proxy::requests_max && bytes_ + bytes <= configs::proxy::recorded_bytes_max) {
    bytes_ += bytes;
    return true;
  }
  is_full_ = true;
  return false;
}

void recorder::request(const std::string& method, const std::string& url, int status,
                       const std::string& why) {
  std::lock_guard lock(mutex_);
  if (has_room(lines_.size(), method.size() + url.size() + why.size()))
    lines_.push_back({method, url, why, status});
}

void recorder::redirect(const std::string& url, const std::string& target) {
  std::lock_guard lock(mutex_);
  if (url != target && has_room(redirects_.size(), url.size() + target.size())) redirects_[url] = target;
}

void recorder::material(const std::string& url, const std::string& digest) {
  std::lock_guard lock(mutex_);
  if (has_room(captured_.materials.size(), url.size() + digest.size()))
    captured_.materials.push_back({url, digest});
}

void recorder::gap(const std::string& method, const std::string& url, const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (has_room(captured_.gaps.size(), method.size() + url.size() + reason.size()))
    captured_.gaps.push_back({method, url, reason});
}

proxy_capture recorder::captured() const {
  std::lock_guard lock(mutex_);
  auto out = captured_;
  std::map<std::string, std::string> digests;
  for (const auto& m : out.materials) digests[m.url] = m.digest;
  for (const auto& [url, target] : redirects_) {
    if (digests.contains(url)) continue;
    std::set<std::string> seen{url};
    auto at = target;
    while (!digests.contains(at) && seen.insert(at).second)
      if (auto next = redirects_.find(at); next != redirects_.end()) at = next->second;
    if (auto found = digests.find(at); found != digests.end()) out.materials.push_back({url, found->second});
  }
  if (is_full_) out.gaps.push_back({"", "", "too_many_requests"});
  return out;
}

std::string recorder::summary() const {
  std::lock_guard lock(mutex_);
  if (lines_.empty()) return {};
  std::string out = "proxy network requests:\n";
  for (const auto& l : lines_) {
    out += "- " + l.method + " " + l.url;
    if (l.status != 0) out += " -> " + std::to_string(l.status);
    if (!l.why.empty()) out += ": " + l.why;
    out += "\n";
  }
  if (is_full_) out += "- and more than can be told\n";
  return out;
}

}  // namespace kiln::workers::proxy
