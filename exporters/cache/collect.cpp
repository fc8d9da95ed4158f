#include "exporters/cache/collect.hpp"

#include <algorithm>
#include <set>
#include <unordered_map>

#include <spdlog/spdlog.h>

#include "base/base64.hpp"
#include "base/time_text.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/image_writer.hpp"
#include "distribution/transport.hpp"
#include "messages/located_id.hpp"
#include "solver/cache_key.hpp"
#include "store/database/cache_keys.hpp"

namespace kiln::exporters {
namespace {

namespace rc = solver::remote_cache;

/// A step's result with the time it was made at; without one, its top layer's counts.
struct found_result {
  store::ref ref;
  std::int64_t created_at_ns = no_time;
};

class collector {
 public:
  collector(const cache_scope& scope, const cache_options& options, exporter_resources resources,
            const job_context& job)
      : scope_(scope),
        options_(options),
        store_(*resources.store),
        keys_(resources.store->keys()),
        fetch_(resources.fetch),
        layers_(*resources.store, resources.hosts, options.compression),
        job_(job),
        results_(scope.steps.size()) {}

  result<collected_cache> run(std::span<const std::size_t> roots) {
    for (std::size_t i = 0; i < scope_.steps.size(); ++i)
      for (const auto& key : scope_.steps[i].keys) step_of_.try_emplace(key, i);
    KILN_CHECK(choose(roots));
    std::vector<rc::exported_key> keys;
    KILN_CHECK(walk(roots, keys));
    out_.chains = rc::chains::of(keys);
    return std::move(out_);
  }

 private:
  // Which results go out.

  /// In mode min the topmost step that has layers may have them made for the export; what lies below it goes
  /// out only if its layers exist already, as those that the topmost one is built on do by then.
  status choose(std::span<const std::size_t> roots) {
    std::vector<char> seen(scope_.steps.size(), 0);
    std::vector<std::size_t> wave(roots.begin(), roots.end());
    while (!wave.empty()) {
      std::vector<std::size_t> fresh, next;
      for (auto s : wave)
        if (s < seen.size() && !std::exchange(seen[s], 1)) fresh.push_back(s);
      KILN_CHECK(make_layers(fresh));
      for (auto s : fresh)
        if (options_.mode == cache_mode::max || !results_[s])
          next.insert(next.end(), scope_.steps[s].inputs.begin(), scope_.steps[s].inputs.end());
      wave = std::move(next);
    }
    if (options_.mode == cache_mode::max) return {};
    std::vector<char> reached(scope_.steps.size(), 0);
    std::vector<std::size_t> stack(roots.begin(), roots.end());
    while (!stack.empty()) {
      auto s = stack.back();
      stack.pop_back();
      if (s >= reached.size() || std::exchange(reached[s], 1)) continue;
      if (!seen[s]) KILN_CHECK(take_existing_layers(s));
      stack.insert(stack.end(), scope_.steps[s].inputs.begin(), scope_.steps[s].inputs.end());
    }
    return {};
  }

  bool may_export(const cached_step& s) const { return !s.inputs.empty() && s.export_cache.value_or(true); }

  status make_layers(const std::vector<std::size_t>& steps) {
    std::vector<std::size_t> which;
    std::vector<found_result> found;
    std::vector<store::ref> refs;
    for (auto s : steps) {
      if (!may_export(scope_.steps[s])) continue;
      KILN_TRY(auto r, find(scope_.steps[s]));
      if (!r || !r->ref) continue;
      which.push_back(s);
      refs.push_back(r->ref);
      found.push_back(std::move(*r));
    }
    KILN_TRY(auto made, layers_.run(refs, job_));
    for (std::size_t i = 0; i < which.size(); ++i) take(which[i], found[i], std::move(made[i]));
    return {};
  }

  status take_existing_layers(std::size_t s) {
    if (!may_export(scope_.steps[s])) return {};
    KILN_TRY(auto r, find(scope_.steps[s]));
    if (!r || !r->ref) return {};
    auto infos = store_.layers().of(r->ref, job_);
    if (!infos.ok())
      return infos.error().code == errc::not_found ? status() : status(std::move(infos).error());
    std::vector<exported_layer> existing;
    for (auto& info : *infos) {
      const store::layer_blob* best = nullptr;
      for (const auto& b : info.blobs) {
        bool wanted = store::compression_of_media_type(b.blob.media_type) == options_.compression.kind;
        if (wanted || (best == nullptr && !options_.compression.force)) best = &b;
        if (wanted) break;
      }
      if (best == nullptr) return {};
      existing.push_back({*best, info.provider, info.description, info.created_at_ns});
    }
    take(s, *r, std::move(existing));
    return {};
  }

  void take(std::size_t s, const found_result& found, std::vector<exported_layer> layers) {
    if (layers.empty()) return;
    rc::layer_chain chain;
    chain.created_at_ns = found.created_at_ns == no_time ? layers.back().created_at_ns : found.created_at_ns;
    for (auto& l : layers) {
      descriptor d = l.blob.blob;
      d.platform.reset();
      d.annotations[rc::annotation_diff_id] = l.blob.diff_id.str();
      if (l.created_at_ns != 0) d.annotations[rc::annotation_created_at] = format_rfc3339(l.created_at_ns);
      out_.layers.try_emplace(d.digest, l);
      chain.layers.push_back(std::move(d));
    }
    out_.refs.push_back(found.ref);
    results_[s] = std::move(chain);
  }

  /// The step's own result, else the newest one known under its keys.
  result<std::optional<found_result>> find(const cached_step& s) {
    struct candidate {
      std::string id;
      std::int64_t created_at_ns;
      const imported_cache* import;
    };
    std::vector<candidate> candidates;
    for (const auto& key : s.keys) {
      for (const auto& r : keys_.results(key)) candidates.push_back({r.id, r.created_at_ns, nullptr});
      for (const auto& import : scope_.imports)
        for (const auto& r : import->results(key))
          candidates.push_back({r.id, r.created_at_ns, import.get()});
    }
    std::stable_sort(candidates.begin(), candidates.end(), [&](const candidate& a, const candidate& b) {
      bool own_a = a.import == nullptr && a.id == s.ref, own_b = b.import == nullptr && b.id == s.ref;
      if (own_a != own_b) return own_a;
      return a.created_at_ns > b.created_at_ns;
    });
    if (!s.ref.empty() && (candidates.empty() || candidates.front().id != s.ref)) {
      auto own = open(s.ref);
      if (own.ok()) return std::optional(found_result{*std::move(own)});
    }
    for (const auto& c : candidates) {
      KILN_CHECK(job_.check());
      auto ref = c.import == nullptr ? open(c.id) : c.import->load(c.id, store_, job_);
      if (ref.ok()) return std::optional(found_result{*std::move(ref), c.created_at_ns});
      if (c.import != nullptr)
        spdlog::debug("cache export: result {} of import {} not loaded: {}", c.id, c.import->id(),
                      ref.error().message);
    }
    return std::optional<found_result>();
  }

  /// A result of this node, or of another one.
  result<store::ref> open(const std::string& id) {
    return is_remote(id) && fetch_ ? fetch_(id, job_) : store_.get(id);
  }

  // Which keys lead there.

  status walk(std::span<const std::size_t> roots, std::vector<rc::exported_key>& out) {
    std::set<std::string> seen;
    std::vector<std::string> stack;
    auto reach = [&](const std::string& key) {
      if (!solver::is_random(key) && seen.insert(key).second) stack.push_back(key);
    };
    for (auto s : roots)
      for (const auto& key : scope_.steps[s].keys) reach(key);
    while (!stack.empty()) {
      if (seen.size() > configs::max_cache_records)
        return make_error(errc::resource_exhausted, "cache export of more than " +
                                                        std::to_string(configs::max_cache_records) + " keys");
      rc::exported_key key;
      key.id = std::move(stack.back());
      stack.pop_back();
      std::set<rc::key_origin> origins;
      keys_.for_each_backlink(key.id, [&](const cache_link& l, std::string_view parent) {
        origins.insert({std::string(parent), l.input, l.selector, solver::root_key(l.digest, l.output)});
      });
      for (const auto& import : scope_.imports)
        for (auto& o : import->graph().origins(key.id)) origins.insert(std::move(o));
      key.origins.assign(origins.begin(), origins.end());
      for (const auto& o : key.origins) reach(o.parent);
      if (auto step = step_of_.find(key.id); step != step_of_.end()) key.result = results_[step->second];
      out.push_back(std::move(key));
    }
    return {};
  }

  const cache_scope& scope_;
  const cache_options& options_;
  store::ref_store& store_;
  store::cache_keys& keys_;
  const decltype(exporter_resources::fetch) fetch_;
  layer_exporter layers_;
  const job_context& job_;
  std::unordered_map<std::string, std::size_t> step_of_;
  std::vector<std::optional<rc::layer_chain>> results_;
  collected_cache out_;
};

}  // namespace

cache_content collected_cache::content(store::ref_store& store) const {
  cache_content out;
  out.records = chains.marshal();
  out.ensure = [this, &store](const descriptor& d, const job_context& job) -> status {
    auto layer = layers.find(d.digest);
    if (layer == layers.end()) return make_error(errc::internal, "missing blob " + d.digest.str());
    return layer_exporter(store, nullptr, {}).ensure(layer->second, job);
  };
  return out;
}

result<collected_cache> collect_cache(const cache_scope& scope, const cache_options& options,
                                      exporter_resources resources, const job_context& job) {
  return collector(scope, options, resources, job).run(scope.results);
}

result<std::string> inline_cache_of(const cache_scope& scope, std::size_t result_index,
                                    std::span<const store::layer_blob> image, exporter_resources resources,
                                    const job_context& job) {
  if (result_index >= scope.results.size()) return std::string();
  step preparing(job, "preparing layers for inline cache");
  cache_options options;
  KILN_TRY(auto collected, collector(scope, options, resources, job).run({&scope.results[result_index], 1}));
  std::vector<rc::chains::image_layer> layers;
  for (const auto& l : image) layers.push_back({l.blob.digest, l.diff_id});
  auto records = collected.chains.inline_records(layers);
  if (records.empty()) return std::string();
  return "\"" + base64_encode(records) + "\"";
}

result<std::map<std::string, std::string>> export_cache(cache_exporter& exporter, const cache_scope& scope,
                                                        exporter_resources resources,
                                                        const job_context& job) {
  std::optional<collected_cache> collected;
  {
    step preparing(job, "preparing build cache for export");
    KILN_TRY(collected, collect_cache(scope, exporter.options(), resources, job));
  }
  auto content = collected->content(*resources.store);
  if (content.records.config.layers.empty()) {
    step skipping(job, "skipping cache export for empty result");
    return std::map<std::string, std::string>{};
  }
  step sending(job, "sending cache export");
  return exporter.run(content, job);
}

}  // namespace kiln::exporters
