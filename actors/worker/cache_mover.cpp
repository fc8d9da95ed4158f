#include "actors/worker/cache_mover.hpp"

#include <string_view>
#include <utility>

#include <spdlog/spdlog.h>

#include "actors/solve/key_store.hpp"
#include "actors/progress.hpp"
#include "actors/worker/cache_scope.hpp"
#include "base/quoting.hpp"
#include "exporters/cache/cache_exporter.hpp"
#include "exporters/cache/cache_importer.hpp"
#include "exporters/cache/collect.hpp"

namespace kiln::actors {

namespace {

/// A pattern for descriptions of the cache mount `id` (`… with id "<id>"`).
std::string regex_of(const std::string& id) {
  std::string out = "with id \"";
  for (char c : id) {
    if (std::string_view("\\.+*?()|[]{}^$\"").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out + "\"$";
}

}  // namespace

caf::result<cache_export_kind> cache_mover::check(const cache_entry& e) const {
  auto made = exporters::make_cache_exporter(e.type, e.attributes, w_.options->cache_resources);
  if (!made.ok()) return to_caf(made.error());
  return cache_export_kind{(*made)->name(), (*made)->is_inline(), (*made)->options().ignore_error};
}

caf::result<bool> cache_mover::import(cache_import& r, const progress_actor& progress) {
  using cache_ptr = std::shared_ptr<exporters::imported_cache>;
  if (!w_.options->imports) return to_caf(make_error(errc::unimplemented, "this daemon imports no caches"));
  return jobs_.start<bool, cache_ptr>(
      *w_.calls, false,
      [o = w_.options, r, progress](std::stop_token stop) -> result<cache_ptr> {
        KILN_TRY(auto importer,
                 exporters::make_cache_importer(r.entry.type, r.entry.attributes, o->cache_resources));
        progress_sender sink(progress, r.vertex);
        auto loaded = importer->load(context_of(*o, stop, r.sessions, sink));
        if (loaded.ok() || loaded.error().code == errc::cancelled) return loaded;
        return std::move(loaded).error().with_context("failed to configure " + r.entry.type +
                                                      " cache importer");
      },
      [this, id = r.id](cache_ptr cache, const caf::actor_addr& who) -> result<bool> {
        cache->set_table_id(id);
        w_.options->imports->put(id, std::move(cache));
        imports_of_[who].insert(id);
        return true;
      });
}

caf::result<run_reply> cache_mover::load(import_load& r, const progress_actor& progress) {
  auto cache = w_.options->imports ? w_.options->imports->find(r.id) : nullptr;
  if (!cache) return to_caf(make_error(errc::not_found, "cache import " + r.id + " has ended"));
  return jobs_.start<run_reply, store::ref>(
      *w_.calls, false,
      [o = w_.options, r, cache, progress](std::stop_token stop) -> result<store::ref> {
        progress_sender sink(progress, r.vertex);
        return cache->load(r.result, *o->store, context_of(*o, stop, r.sessions, sink));
      },
      [this](store::ref ref, const caf::actor_addr& who) -> result<run_reply> {
        pins_.keep(who, ref);
        return run_reply{{ref ? ref.id() : ""}};
      });
}

caf::result<export_reply> cache_mover::export_cache(cache_export& r, const progress_actor& progress) {
  using entries = std::map<std::string, std::string>;
  return jobs_.start<export_reply, entries>(
      *w_.calls, false,
      [o = w_.options, r, progress](std::stop_token stop) mutable -> result<entries> {
        KILN_TRY(auto exporter,
                 exporters::make_cache_exporter(r.entry.type, r.entry.attributes, o->cache_resources));
        progress_sender sink(progress, r.vertex);
        auto job = context_of(*o, stop, r.sessions, sink);
        return exporters::export_cache(*exporter, scope_of(r.trail, o->imports.get()), o->cache_resources,
                                       job);
      },
      [](entries response, const caf::actor_addr&) -> result<export_reply> {
        return export_reply{std::move(response), {}, 0};
      });
}

void cache_mover::remember(cache_records& facts) {
  if (*facts_waiting_ >= configs::cluster::facts_waiting_max) return;
  ++*facts_waiting_;
  std::shared_ptr<void> waiting(nullptr, [count = facts_waiting_](void*) { --*count; });
  w_.io->submit([o = w_.options, facts = std::move(facts), waiting] {
    if (auto s = o->store->keys().add(facts); !s.ok())
      spdlog::warn("keys of a peer's build not kept: {}", s.error().message);
  });
}

caf::result<bool> cache_mover::prune(prune_caches& r) {
  return jobs_.start<bool, bool>(
      *w_.io, false,
      [o = w_.options, r](std::stop_token) -> result<bool> {
        if (o->detach_cache)
          for (const auto& [id, on_input] : r.ids) KILN_CHECK(o->detach_cache(id));
        prune_rule rule;
        rule.all = true;
        for (const auto& [id, on_input] : r.ids)
          rule.filters.push_back("type==exec.cachemount,description~=" + go_json_string(regex_of(id)));
        KILN_CHECK(o->store->space().prune(rule, [](const store::usage_record&) {}));
        return true;
      },
      [](bool done, const caf::actor_addr&) -> result<bool> { return done; });
}

void cache_mover::drop(const caf::actor_addr& who) {
  auto found = imports_of_.find(who);
  if (found == imports_of_.end()) return;
  for (const auto& id : found->second) w_.options->imports->erase(id);
  imports_of_.erase(found);
}

}  // namespace kiln::actors
