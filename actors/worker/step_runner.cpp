#include "actors/worker/step_runner.hpp"

#include <optional>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "actors/build/proxy_judge.hpp"
#include "actors/solve/graph_spec.hpp"
#include "actors/progress.hpp"
#include "actors/worker/step_progress.hpp"
#include "configs/definition.hpp"
#include "configs/solving.hpp"
#include "solver/cache_map.hpp"
#include "solver/error_details.hpp"
#include "workers/ref_files.hpp"
#include "workers/sources/resolutions.hpp"

namespace kiln::actors {

namespace {

std::vector<std::string> ids_of(const std::vector<store::ref>& refs) {
  std::vector<std::string> out;
  for (const auto& r : refs) out.push_back(r ? r.id() : "");
  return out;
}

key_reply reply_of(solver::cache_map map) {
  key_reply out{map.op_digest, {}, map.more, map.origin, map.pin};
  for (auto& d : map.dependencies)
    out.dependencies.push_back({std::move(d.selector), d.content_based, std::move(d.content)});
  return out;
}

status bring_to_disk(const worker_options& o, const std::vector<store::ref>& refs, const job_context& job) {
  for (const auto& r : refs)
    if (r) {
      auto mounts = o.store->files().mounts(r, job);
      if (!mounts.ok()) return std::move(mounts).error();
    }
  return {};
}

}  // namespace

step_runner::build_memory step_runner::memory_of(const std::string& build) const {
  const auto& builds = w_.options->builds;
  return builds && !build.empty() ? builds->find(build) : nullptr;
}

workers::op_request step_runner::request_of(const op_spec& spec, build_memory build) {
  return {spec.vertex, spec.op, spec.metadata, spec.platform, spec.cache_mount_namespace, std::move(build)};
}

caf::result<types::WorkerRecord> step_runner::describe() {
  using record = types::WorkerRecord;
  if (!w_.options->update) return w_.options->record;
  return jobs_.start<record, record>(
      *w_.io, false,
      [o = w_.options](std::stop_token) -> result<record> {
        auto now = o->record;
        o->update(now);
        return now;
      },
      [](record now, const caf::actor_addr&) -> result<record> { return now; });
}

caf::result<key_reply> step_runner::key(key_request& r, const progress_actor& progress) {
  // What needs nothing but a small op is answered here and now.
  if (!r.op.op.has_source() && r.op.op.ByteSizeLong() <= configs::definition::quick_op_bytes) {
    auto map = solver::cache_map_of(r.op.op, r.op.platform);
    if (!map.ok()) return to_caf(map.error());
    return reply_of(*std::move(map));
  }
  return jobs_.start<key_reply, solver::cache_map>(
      *w_.calls, false,
      [o = w_.options, r, progress,
       build = memory_of(build_of(r.op))](std::stop_token stop) -> result<solver::cache_map> {
        KILN_TRY(auto handler, o->handler(r.op.op));
        progress_sender sink(progress, r.op.vertex);
        return handler->cache_map(request_of(r.op, build), r.index, context_of(*o, stop, r.sessions, sink));
      },
      [](solver::cache_map map, const caf::actor_addr&) -> result<key_reply> {
        return reply_of(std::move(map));
      });
}

caf::result<run_reply> step_runner::run(run_request& r, const progress_actor& progress) {
  bool slot = r.op.op.has_source() || r.op.op.has_exec() || r.op.op.has_file();
  struct ran {
    std::vector<store::ref> outputs;
    std::vector<std::int64_t> bytes;
    std::optional<error> failure;
    workers::failure_snapshot left;
    std::string usage;
    std::string proxied;
  };
  return jobs_.start<run_reply, ran>(
      *w_.ops, slot,
      [o = w_.options, r, progress, build = memory_of(build_of(r.op))](std::stop_token stop) -> result<ran> {
        if (o->admit) KILN_CHECK(o->admit(r.op.op));
        KILN_TRY(auto handler, o->handler(r.op.op));
        // What needs its inputs on disk has begun once they are there.
        bool on_disk = r.op.op.has_exec() || r.op.op.has_file();
        using own = step_progress::own;
        auto owners = owners_here(*o, r.owners, context_of(*o, stop, r.sessions, null_progress()));
        step_progress sink(*o->store, progress, r.op.vertex, owners, on_disk ? own::untold : own::told);
        auto job = context_of(*o, stop, r.sessions, sink);
        KILN_TRY(auto inputs, open_refs(*o, r.inputs, job));
        if (on_disk) {
          KILN_CHECK(bring_to_disk(*o, inputs, job));
          sink.begin();
        }
        ran out;
        auto request = request_of(r.op, build);
        request.name = r.op.name;
        request.left = &out.left;
        request.usage = &out.usage;
        workers::proxied_step proxied;
        if (r.op.proxy.on) {
          KILN_TRY(proxied.may, proxy_judge(r.op.proxy, o->sessions, o->source, r.sessions));
          request.proxied = &proxied;
        }
        auto outputs = handler->run(request, inputs, job);
        if (!outputs.ok()) {
          if (!out.left.any) return std::move(outputs).error();
          out.failure = std::move(outputs).error();
          out.failure->details.push_back(solver::solve_detail(r.op.op, r.op.metadata, ids_of(out.left.inputs),
                                                              ids_of(out.left.mounts),
                                                              {.action = out.left.action}));
          return out;
        }
        out.outputs = *std::move(outputs);
        out.proxied = std::move(proxied.captured);
        // A walk over what was written: only where there are nodes it could have to move to.
        if (o->fetch)
          for (const auto& output : out.outputs)
            out.bytes.push_back(o->store->space().own_size(output).value_or(-1));
        return out;
      },
      [this](ran done, const caf::actor_addr& who) -> result<run_reply> {
        if (done.failure) {
          // Kept for whoever asked, as results are.
          for (const auto* refs : {&done.left.inputs, &done.left.mounts})
            for (const auto& r : *refs) pins_.keep(who, r);
          return *std::move(done.failure);
        }
        for (const auto& output : done.outputs) pins_.keep(who, output);
        return run_reply{ids_of(done.outputs), std::move(done.bytes), std::move(done.usage),
                         std::move(done.proxied)};
      });
}

caf::result<digest> step_runner::checksum(checksum_request& r, const progress_actor& progress) {
  return jobs_.start<digest, digest>(
      *w_.calls, false,
      [o = w_.options, r, progress](std::stop_token stop) -> result<digest> {
        auto owners = owners_here(*o, r.owners, context_of(*o, stop, r.sessions, null_progress()));
        step_progress sink(*o->store, progress, r.vertex, owners, step_progress::own::untold);
        auto job = context_of(*o, stop, r.sessions, sink);
        KILN_TRY(auto ref, open_ref(*o, r.ref, job));
        return o->checksum(ref, r.selectors, job);
      },
      [](digest d, const caf::actor_addr&) -> result<digest> { return d; });
}

caf::result<gw::ResolveSourceMetaResponse> step_runner::resolve(session_group& sessions,
                                                                gw::ResolveSourceMetaRequest& r,
                                                                const progress_actor& progress) {
  using reply = gw::ResolveSourceMetaResponse;
  auto build = memory_of(build_name(w_.self->current_sender()));
  return jobs_.start<reply, reply>(
      *w_.calls, false,
      [o = w_.options, sessions, r, progress, build](std::stop_token stop) -> result<reply> {
        KILN_TRY(auto source, o->source(r.source().identifier()));
        progress_sender sink(progress, r.logname());  // the vertex that shows it
        return source->resolve_meta(r, build, context_of(*o, stop, sessions, sink));
      },
      [](reply found, const caf::actor_addr&) -> result<reply> { return found; });
}

template <class Reply>
caf::result<Reply> step_runner::with_tree(ref_scope& scope,
                                          std::function<result<Reply>(const std::filesystem::path&)> look) {
  return jobs_.start<Reply, Reply>(
      *w_.calls, false,
      [o = w_.options, scope, look = std::move(look)](std::stop_token stop) -> result<Reply> {
        auto job = context_of(*o, stop, scope.sessions, null_progress());
        KILN_TRY(auto ref, open_ref(*o, scope.ref, job));
        KILN_TRY(auto mounts, o->store->files().mounts(ref, job));
        KILN_TRY(auto mounted, store::mounted::make(*o->store, mounts));
        auto out = look(mounted.path());
        if (auto s = mounted.unmount(); !s.ok()) spdlog::warn("reading {}: {}", scope.ref, s.error().message);
        return out;
      },
      [](Reply reply, const caf::actor_addr&) -> result<Reply> { return reply; });
}

caf::result<gw::ReadFileResponse> step_runner::read(ref_scope& scope, gw::ReadFileRequest& r) {
  return with_tree<gw::ReadFileResponse>(scope, [r](const std::filesystem::path& root) {
    return workers::read_file(root, r, configs::solving::read_file_bytes_max);
  });
}

caf::result<gw::ReadDirResponse> step_runner::read(ref_scope& scope, gw::ReadDirRequest& r) {
  return with_tree<gw::ReadDirResponse>(
      scope, [r](const std::filesystem::path& root) { return workers::read_dir(root, r); });
}

caf::result<gw::StatFileResponse> step_runner::read(ref_scope& scope, gw::StatFileRequest& r) {
  return with_tree<gw::StatFileResponse>(
      scope, [r](const std::filesystem::path& root) { return workers::stat_file(root, r); });
}

}  // namespace kiln::actors
