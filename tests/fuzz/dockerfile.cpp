// The Dockerfile frontend. Sections of the input: the Dockerfile, options (NAME=value lines), .dockerignore,
// config of every image. What it solves is loaded as the solver would, and what it says of the image goes
// through the exporter.
#include "exporters/image_config.hpp"
#include "frontends/frontend.hpp"
#include "solver/cache_map.hpp"
#include "solver/graph.hpp"
#include "tests/frontends/fake_host.hpp"
#include "tests/fuzz/support/input.hpp"

namespace kiln::fuzz {
namespace {

constexpr std::string_view separator = "\n====\n";

void offer_image(frontends::test::fake_host& host, const std::string& config) {
  host.add_image("*", config.empty()
                          ? frontends::test::image_json(R"({"Env":["PATH=/bin"],"WorkingDir":"/"})")
                          : config);
  auto& image = host.images["*"];
  host.source_meta.mutable_image()->set_digest(image.digest);
  host.source_meta.mutable_image()->set_config(image.config);
}

void load(const pb::Definition& definition) {
  auto nothing = solver::entitlements::grant({}, {});
  solver::load_options options;
  options.granted = &*nothing;
  auto g = solver::load(definition, options);
  if (!g.ok()) return;
  for (const auto& v : g->vertices) (void)solver::cache_map_of(v.op, v.platform);
}

}  // namespace

void try_input(std::string_view bytes) {
  input in(bytes);
  frontends::test::fake_host host;
  host.locals["dockerfile"]["Dockerfile"] = in.section(separator);
  frontends::frontend_request request;
  auto lines = in.section(separator);
  for (input options(lines); !options.empty();) {
    auto [name, value] = assignment(options.line());
    request.options[name] = value;
  }
  host.locals["context"][".dockerignore"] = in.section(separator);
  host.locals["context"]["a"] = "a";
  offer_image(host, in.rest());

  auto built = frontends::make_dockerfile_frontend()->solve(host, request);
  for (const auto& solve : host.solves) load(solve.definition());
  if (!built.ok()) return;
  for (const auto& [name, value] : built->metadata())
    if (name.find("config") != std::string::npos) (void)exporters::patch_image_config(value, {});
}

}  // namespace kiln::fuzz
