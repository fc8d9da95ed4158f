#include "actors/build/llb_bridge.hpp"

#include <utility>

#include "actors/build/build_request.hpp"
#include "actors/build/build_result.hpp"
#include "configs/solving.hpp"
#include "configs/version.hpp"
#include "solver/caps.hpp"
#include "solver/error_details.hpp"
#include "solver/source_policy.hpp"

namespace kiln::actors {

void llb_bridge::solve(gw::SolveRequest r, int scope, continuation<gw::SolveResponse> done) {
  if (auto s = b_.refuse_late(); !s.ok()) return done(std::move(s).error());
  auto policies = sources_.policies_with(r.sourcepolicies());
  if (!policies.ok()) return done(std::move(policies).error());
  if (r.has_definition() && r.definition().def_size() > 0) {
    if (auto s = refs_.room_for(r.definition()); !s.ok()) return done(std::move(s).error());
    gw::Result out;
    out.mutable_ref()->set_id(refs_.add(r.definition(), *std::move(policies), scope, imports_.begin(r)));
    *out.mutable_ref()->mutable_def() = r.definition();
    return reply(r, std::move(out), std::move(done));
  }
  if (!r.frontend().empty()) {
    std::map<std::string, std::string> options(r.frontendopt().begin(), r.frontendopt().end());
    std::map<std::string, pb::Definition> inputs(r.frontendinputs().begin(), r.frontendinputs().end());
    auto name = r.frontend();
    return run_frontend(std::move(name), std::move(options), std::move(inputs), scope,
                        [this, r = std::move(r), done](result<gw::Result> solved) {
                          if (!solved.ok()) return done(std::move(solved).error());
                          reply(r, *std::move(solved), done);
                        });
  }
  gw::Result nothing;
  nothing.mutable_ref();
  reply(r, std::move(nothing), std::move(done));
}

void llb_bridge::reply(const gw::SolveRequest& question, gw::Result solved,
                       continuation<gw::SolveResponse> done) {
  auto ids = ids_of(solved);
  auto give = [this, array = question.allowresultarrayref(), whole = question.allowresultreturn(), done,
               solved = std::move(solved)](status s) {
    if (!s.ok()) return done(std::move(s).error());
    gw::SolveResponse out;
    *out.mutable_result() = solved;
    refs_.add_definitions(*out.mutable_result());
    b_.attestations.handed_on(solved, refs_.definitions());
    if (solved.has_refs() && !whole)
      return done(make_error(errc::unknown, "solve did not return default result"));
    if (!whole) out.set_ref(solved.ref().id());
    if (!array) to_deprecated(*out.mutable_result());
    done(std::move(out));
  };
  if (!question.evaluate()) return give({});
  refs_.evaluate(std::move(ids), [give](result<std::vector<vertex_result>> all) {
    give(all.ok() ? status{} : status(std::move(all).error()));
  });
}

void llb_bridge::run_frontend(std::string name, std::map<std::string, std::string> options,
                              std::map<std::string, pb::Definition> inputs, int parent,
                              continuation<gw::Result> done) {
  auto& requests = b_.attestations.requests();
  if (requests.depth(parent) >= configs::solving::sub_solve_depth_max)
    return done(make_error(errc::resource_exhausted, "frontends call each other too deeply"));
  shorten_frontend(name, options);
  std::shared_ptr<frontends::frontend> frontend = b_.options.frontend ? b_.options.frontend(name) : nullptr;
  if (!frontend) return done(make_error(errc::not_found, "invalid frontend: " + name));
  auto scope = requests.open(parent, {name, options, inputs});
  auto host = std::make_shared<bridge_host>(b_.channel, b_.worker_record, b_.platforms,
                                            b_.request().session(), scope);
  auto source = options.find("source");
  auto detail = solver::frontend_detail(name, source == options.end() ? "" : source->second);
  frontends::frontend_request request{std::move(options), std::move(inputs)};
  b_.jobs.run<gw::Result>(
      b_.self, b_.options.frontend_threads->at(static_cast<std::size_t>(requests.depth(parent))),
      [frontend, host, request = std::move(request)]() { return frontend->solve(*host, request); },
      [done = std::move(done), detail = std::move(detail)](result<gw::Result> solved) {
        if (solved.ok()) return done(std::move(solved));
        auto failure = std::move(solved).error();
        failure.details.push_back(detail);
        done(std::move(failure));
      });
}

gw::PongResponse llb_bridge::ping() const {
  gw::PongResponse out;
  auto add = [](auto& caps, std::string_view id) {
    auto& cap = *caps.Add();
    cap.set_id(std::string(id));
    cap.set_enabled(true);
  };
  for (auto id : solver::gateway_capabilities()) add(*out.mutable_frontendapicaps(), id);
  for (auto id : solver::llb_capabilities()) add(*out.mutable_llbcaps(), id);
  auto& worker = *out.add_workers();
  worker.set_id(b_.worker_record.id());
  *worker.mutable_labels() = b_.worker_record.labels();
  *worker.mutable_platforms() = b_.worker_record.platforms();
  return out;
}

void llb_bridge::resolve_image_config(gw::ResolveImageConfigRequest r, int scope,
                                      continuation<gw::ResolveImageConfigResponse> done) {
  sources_.resolve(std::move(r), scope, std::move(done));
}

void llb_bridge::resolve_source_meta(gw::ResolveSourceMetaRequest r, int scope,
                                     continuation<gw::ResolveSourceMetaResponse> done) {
  sources_.resolve(std::move(r), scope, std::move(done));
}

void llb_bridge::read_file(gw::ReadFileRequest r, continuation<gw::ReadFileResponse> done) {
  refs_.look<gw::ReadFileResponse>(r.ref(), r, std::move(done));
}

void llb_bridge::read_dir(gw::ReadDirRequest r, continuation<gw::ReadDirResponse> done) {
  refs_.look<gw::ReadDirResponse>(r.ref(), r, std::move(done));
}

void llb_bridge::stat_file(gw::StatFileRequest r, continuation<gw::StatFileResponse> done) {
  refs_.look<gw::StatFileResponse>(r.ref(), r, std::move(done));
}

void llb_bridge::evaluate(gw::EvaluateRequest r, continuation<gw::EvaluateResponse> done) {
  refs_.evaluate(r.ref(), [done](result<vertex_result> value) {
    if (!value.ok()) return done(std::move(value).error());
    done(gw::EvaluateResponse{});
  });
}

void llb_bridge::warn(gw::WarnRequest r, continuation<gw::WarnResponse> done) {
  ctl::StatusResponse out;
  auto& w = *out.add_warnings();
  w.set_vertex(r.digest());
  w.set_level(r.level());
  w.set_short_(r.short_());
  *w.mutable_detail() = r.detail();
  w.set_url(r.url());
  if (r.has_info()) *w.mutable_info() = r.info();
  *w.mutable_ranges() = r.ranges();
  b_.log.add(std::move(out));
  done(gw::WarnResponse{});
}

void llb_bridge::stand_in(std::string image, std::string name, int scope, continuation<bool> done) {
  pb::SourceOp source;
  source.set_identifier("docker-image://" + image);
  sources_.judge(source, scope, [this, source, image, name, done](result<pb::SourceOp> judged) {
    if (!judged.ok()) return done(std::move(judged).error());
    bool same = solver::same_source(*judged, source);
    if (same)
      b_.tasks.close(b_.tasks.open("[internal] " + image + " is not pulled: the built-in " + name +
                                   ", version " + configs::dockerfile_version + ", works in its place"),
                     "");
    done(same);
  });
}

void llb_bridge::lend(container_inputs wanted, continuation<container_inputs> done) {
  refs_.evaluate_present(std::move(wanted.refs), [this, done](result<std::vector<vertex_result>> values) {
    if (!values.ok()) return done(std::move(values).error());
    container_inputs out;
    for (auto& value : *values) out.refs.push_back(std::move(value.ref));
    out.sessions = b_.sessions();
    out.network_host = b_.granted.has("network.host");
    out.security_insecure = b_.granted.has("security.insecure");
    auto policies = sources_.policies_with({});
    if (!policies.ok()) return done(std::move(policies).error());
    out.proxy = b_.proxy(*policies);
    done(std::move(out));
  });
}

}  // namespace kiln::actors
