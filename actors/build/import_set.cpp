#include "actors/build/import_set.hpp"

#include <algorithm>
#include <utility>

#include <spdlog/spdlog.h>

#include "exporters/cache/cache_importer.hpp"

namespace kiln::actors {

void import_set::begin_own() {
  if (!b_.request().has_definition() && b_.request().frontendattrs().contains("cache-imports")) return;
  for (const auto& import : b_.request().cache().imports()) own_.push_back(begin(cache_entry_of(import)));
}

std::vector<std::string> import_set::begin(const gw::SolveRequest& question) {
  std::vector<std::string> names;
  for (const auto& import : question.cacheimports()) names.push_back(begin(cache_entry_of(import)));
  return names;
}

std::string import_set::begin(cache_entry entry) {
  auto name = exporters::cache_import_id(entry.type, entry.attributes);
  auto [at, fresh] = caches_.try_emplace(name);
  if (!fresh) return name;
  auto shown = b_.tasks.open("importing cache manifest from " + name);
  auto ended = [this, name, shown](const std::string& id, const std::string& failure) {
    b_.tasks.close(shown, failure);
    if (!failure.empty())
      spdlog::info("build {}: cache {} not imported: {}", b_.request().ref(), name, failure);
    caches_[name] = {true, id};
    for (auto& retry : std::exchange(waiting_, {})) retry();
  };
  auto worker = b_.worker();
  if (!worker.ok()) return ended("", worker.error().message), name;
  auto id = b_.request().ref() + "/" + name;
  b_.self
      ->request(*worker, caf::infinite, cache_import{id, shown.digest(), std::move(entry), b_.sessions()},
                b_.progress())
      .then([ended, id](bool) { ended(id, ""); }, [ended](caf::error& e) { ended("", from_caf(e).message); });
  return name;
}

void import_set::when_ended(std::vector<std::string> names,
                            std::function<void(std::vector<std::string>)> work) {
  names.insert(names.end(), own_.begin(), own_.end());
  wait(std::move(names), std::move(work));
}

void import_set::wait(std::vector<std::string> names, std::function<void(std::vector<std::string>)> work) {
  if (std::any_of(names.begin(), names.end(), [&](const auto& n) { return !caches_.at(n).ended; })) {
    waiting_.push_back([this, names = std::move(names), work = std::move(work)]() mutable {
      wait(std::move(names), std::move(work));
    });
    return;
  }
  std::vector<std::string> found;
  for (const auto& name : names)
    if (const auto& id = caches_.at(name).id; !id.empty()) found.push_back(id);
  work(std::move(found));
}

std::vector<std::string> import_set::ids() const {
  std::vector<std::string> out;
  for (const auto& [name, cache] : caches_)
    if (!cache.id.empty()) out.push_back(cache.id);
  return out;
}

}  // namespace kiln::actors
