#include "actors/build/export_pipeline.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "actors/build/build_request.hpp"
#include "actors/build/session_exporters.hpp"
#include "actors/build/verify_platforms.hpp"
#include "exporters/client_store.hpp"
#include "solver/error_details.hpp"

namespace kiln::actors {

export_spec export_pipeline::spec_of(std::size_t index) const {
  const auto& e = b_.request().exporters(static_cast<int>(index));
  return {e.type(),
          {e.attrs().begin(), e.attrs().end()},
          static_cast<int>(index),
          compatibility_of(b_.request())};
}

cache_entry export_pipeline::cache_of(std::size_t index) const {
  return cache_entry_of(b_.request().cache().exports(static_cast<int>(index)));
}

void export_pipeline::check(std::function<void()> then) {
  check_exporters([this, then = std::move(then)] { check_caches(then); });
}

void export_pipeline::check_exporters(std::function<void()> then) {
  if (names_.size() >= static_cast<std::size_t>(b_.request().exporters_size())) return then();
  auto worker = b_.worker();
  if (!worker.ok()) return b_.fail(std::move(worker).error());
  b_.self->request(*worker, caf::infinite, check_atom::value, spec_of(names_.size()))
      .then(
          [this, then = std::move(then)](const std::string& name) {
            names_.push_back(name);
            check_exporters(then);
          },
          [this](caf::error& e) { b_.fail(from_caf(e)); });
}

void export_pipeline::check_caches(std::function<void()> then) {
  if (b_.over) return;
  if (caches_.size() >= static_cast<std::size_t>(b_.request().cache().exports_size())) return then();
  auto worker = b_.worker();
  if (!worker.ok()) return b_.fail(std::move(worker).error());
  b_.self->request(*worker, caf::infinite, check_atom::value, cache_of(caches_.size()))
      .then(
          [this, then = std::move(then)](cache_export_kind& kind) {
            caches_.push_back(std::move(kind));
            check_caches(then);
          },
          [this](caf::error& e) { b_.fail(from_caf(e)); });
}

void export_pipeline::run(std::function<void(ctl::SolveResponse)> done) {
  done_ = std::move(done);
  values_ = what_.values();
  if (b_.request().enablesessionexporter()) return ask_for_more();
  run_all();
}

void export_pipeline::ask_for_more() {
  using specs = std::vector<export_spec>;
  std::vector<std::string> refs;  // by which the client may look at them
  for (const auto& [platform, ref] : what_.result().refs)
    if (!ref.empty()) refs.push_back(ref);
  b_.jobs.run<specs>(
      b_.self, *b_.options.calls,
      [directory = b_.options.sessions, session = b_.request().session(), metadata = what_.result().metadata,
       refs, first = b_.request().exporters_size(), stop = b_.channel->stop_token()] {
        return find_session_exporters(directory, session, metadata, refs, first, stop);
      },
      [this](result<specs> found) {
        if (!found.ok()) return b_.fail(std::move(found).error());
        for (const auto& spec : *found) {
          auto& e = *b_.options.request.add_exporters();
          e.set_type(spec.type);
          for (const auto& [key, value] : spec.attributes) (*e.mutable_attrs())[key] = value;
        }
        check_exporters([this] { run_all(); });
      });
}

export_request export_pipeline::request_of(std::size_t index) const {
  const auto& result = what_.result();
  export_request out;
  out.vertex = b_.tasks.digest_of("export " + std::to_string(index));
  out.spec = spec_of(index);
  for (std::size_t i = 0; i < result.refs.size(); ++i) {
    const auto& id = result.refs[i].first;
    out.parts.push_back({id, result.platform_of(id, b_.default_platform()), values_[i].ref, result.ready[i],
                         values_[i].owners});
  }
  out.multi_platform = result.multi;
  out.metadata = result.metadata;
  out.session = b_.request().session();
  out.sessions = b_.sessions();
  out.inline_cache =
      std::any_of(caches_.begin(), caches_.end(), [](const auto& kind) { return kind.is_inline; });
  if (out.inline_cache) out.trail = what_.trail();
  return out;
}

void export_pipeline::run_all() {
  if (b_.over) return;
  const auto& result = what_.result();
  auto count = static_cast<std::size_t>(b_.request().exporters_size());
  auto warnings =
      verify_platforms({b_.request().frontendattrs().begin(), b_.request().frontendattrs().end()},
                       result.metadata, result.multi, !result.multi && result.refs.front().second.empty());
  if (!warnings.ok()) return b_.fail(std::move(warnings).error());
  if (count == 0 && !warnings->empty()) {
    auto shown = b_.tasks.open("Verifying build result");
    b_.tasks.warn(*warnings, shown.digest());
    b_.tasks.close(shown, "");
  }
  requests_.clear();
  replies_.assign(count, {});
  if (count == 0) return finalize();
  auto worker = b_.worker();
  if (!worker.ok()) return b_.fail(std::move(worker).error());
  open_ = count;
  for (std::size_t i = 0; i < count; ++i) {
    requests_.push_back(request_of(i));
    auto shown = b_.tasks.open(names_[i], requests_[i].vertex);
    if (i == 0) b_.tasks.warn(*warnings, shown.digest());
    b_.self->request(*worker, caf::infinite, requests_[i], b_.progress())
        .then(
            [this, i, shown](export_reply& reply) {
              b_.tasks.close(shown, "");
              replies_[i] = std::move(reply);
              one_less();
            },
            [this, shown](caf::error& e) {
              auto why = from_caf(e);
              if (solver::lost_ref_of(why).empty()) return failed(shown, std::move(why));
              b_.tasks.close(shown, why.message);
              lost_ = std::move(why);
              one_less();
            });
  }
}

void export_pipeline::one_less() {
  if (--open_ > 0 || b_.over) return;
  if (!lost_) return finalize();
  begin_again(*std::exchange(lost_, std::nullopt));
}

void export_pipeline::begin_again(const error& lost) {
  if (!refs_.remake(lost)) return b_.fail(lost);
  refs_.evaluate(what_.result().ref_ids(), [this](result<std::vector<vertex_result>> all) {
    if (!all.ok()) return b_.fail(std::move(all).error());
    values_ = *std::move(all);
    run_all();
  });
}

void export_pipeline::failed(const ctl::Vertex& shown, error why) {
  b_.tasks.close(shown, why.message);
  b_.fail(std::move(why));
}

void export_pipeline::finalize() {
  auto worker = b_.worker();
  open_ = 1;  // this function: nothing is over before all has begun
  for (std::size_t i = 0; i < replies_.size(); ++i) {
    if (replies_[i].finalize == 0) continue;
    if (!worker.ok()) return b_.fail(worker.error());
    ++open_;
    auto shown = b_.tasks.open(names_[i], requests_[i].vertex);
    b_.self
        ->request(*worker, caf::infinite, finalize_atom::value, replies_[i].finalize, requests_[i],
                  b_.progress())
        .then(
            [this, i, shown](export_reply& reply) {
              b_.tasks.close(shown, "");
              for (auto& [key, value] : reply.response) replies_[i].response[key] = value;
              one_finalized();
            },
            [this, shown](caf::error& e) { failed(shown, from_caf(e)); });
  }
  for (std::size_t i = 0; i < caches_.size(); ++i) {
    if (caches_[i].is_inline) continue;
    if (!worker.ok()) return b_.fail(worker.error());
    ++open_;
    export_cache(i, *worker);
  }
  one_finalized();
}

void export_pipeline::export_cache(std::size_t index, const worker_actor& worker) {
  const auto& kind = caches_[index];
  auto shown = b_.tasks.open(kind.name, b_.tasks.digest_of("cache export " + std::to_string(index)));
  b_.self
      ->request(worker, caf::infinite,
                cache_export{shown.digest(), cache_of(index), what_.trail(), b_.sessions()}, b_.progress())
      .then(
          [this, shown](export_reply& reply) {
            b_.tasks.close(shown, "");
            cache_response_.merge(reply.response);
            one_finalized();
          },
          [this, shown, ignore = kind.ignore_error](caf::error& e) {
            if (!ignore) return failed(shown, from_caf(e));
            b_.tasks.close(shown, from_caf(e).message);
            one_finalized();
          });
}

void export_pipeline::one_finalized() {
  if (--open_ > 0 || b_.over) return;
  if (b_.request().enablesessionexporter()) return tell_client(response());
  done_(response());
}

ctl::SolveResponse export_pipeline::response() const {
  ctl::SolveResponse response;
  auto& out = *response.mutable_exporterresponse();
  // One answer for all exporters; later ones come first in it. The last word has the one whose image the
  // client itself enters into the index of a directory, by what is said here.
  std::vector<std::size_t> order(replies_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_partition(order.begin(), order.end(), [this](std::size_t i) {
    auto spec = spec_of(i);
    return !exporters::writes_to_client_store(spec.type, spec.attributes);
  });
  for (auto i : order)
    for (const auto& [key, value] : replies_[i].response) out[key] = value;
  for (const auto& [key, value] : what_.result().metadata)
    if (key.starts_with("frontend.")) out[key] = value;
  for (const auto& [key, value] : cache_response_)
    if (key.starts_with("cache.")) out[key] = value;
  return response;
}

void export_pipeline::tell_client(ctl::SolveResponse response) {
  std::map<std::string, std::string> told(response.exporterresponse().begin(),
                                          response.exporterresponse().end());
  b_.jobs.run<bool>(
      b_.self, *b_.options.calls,
      [directory = b_.options.sessions, session = b_.request().session(), told = std::move(told),
       stop = b_.channel->stop_token()]() -> result<bool> {
        KILN_CHECK(finalize_session_export(directory, session, told, stop));
        return true;
      },
      [this, response = std::move(response)](result<bool> agreed) mutable {
        if (!agreed.ok()) return b_.fail(std::move(agreed).error());
        done_(std::move(response));
      });
}

}  // namespace kiln::actors
