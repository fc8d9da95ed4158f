// Base images and the contexts that replace them: asked for in parallel, used in order.
#include "base/parallel.hpp"
#include "configs/frontends.hpp"
#include "frontends/dockerfile/converter.hpp"
#include "frontends/dockerfile/suggest.hpp"
#include "frontends/dockerfile/text.hpp"
#include "messages/image_reference.hpp"

namespace kiln::dockerfile {

struct converter::pending_base {
  stage_state* stage = nullptr;
  bool reachable = false;
  std::string original_name;
  image_reference reference;
  kiln::platform platform;
  std::optional<named_context> replacement;  // of the base image
  finishers finish;
  std::optional<result<loaded_context>> context;
  std::optional<result<resolved_image>> image;
};

namespace {

std::vector<std::string> common_image_names() {
  std::vector<std::string> out;
  for (std::string name : {"alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"}) {
    out.push_back(name);
    out.push_back("docker.io/library" + name);
    out.push_back(name + ":latest");
    out.push_back("docker.io/library" + name + ":latest");
  }
  return out;
}

// Old images do not say which layers they have; their history does.
bool has_no_layers(const image_config& image) {
  if (image.diff_ids && !image.diff_ids->empty()) return false;
  for (const auto& h : image.history)
    if (!h.empty_layer) return false;
  return true;
}

}  // namespace

status converter::begin_base(stage_state& s, bool reachable, pending_base& out) {
  out.stage = &s;
  out.reachable = reachable;
  out.original_name = s.definition.base_name;
  auto ref = parse_image_reference(s.definition.base_name);
  if (!ref)
    return std::move(ref).error().with_context("failed to parse stage name " + quote(s.definition.base_name));
  out.reference = *std::move(ref);
  out.platform = s.platform.value_or(target_platform_);
  s.definition.base_name = out.reference.tagged().str();
  if (reachable && !s.context && is_context_replaceable(s.definition.base_name)) {
    KILN_TRY(out.replacement, sources_.find_context(s.definition.base_name, out.platform));
  }
  return {};
}

// Runs in a thread of its own; touches nothing but `base`.
void converter::load_base(pending_base& base) {
  auto& s = *base.stage;
  context_request request;
  request.finish = &base.finish;
  request.follow_paths = [stage = base.stage] { return follow_paths_of(*stage->paths); };
  if (s.context) {
    request.platform = s.platform ? s.platform : request_.target_platform;
    base.context.emplace(sources_.load_context(*s.context, request));
  } else if (base.replacement) {
    request.platform = base.platform;
    base.context.emplace(sources_.load_context(*base.replacement, request));
  } else {
    std::string label = "[";
    if (options_.multi_platform) label += format_platform(base.platform) + " ";
    label += "internal] load metadata for " + s.definition.base_name;
    base.image.emplace(sources_.resolve_image(s.definition.base_name, base.platform, label));
  }
}

kiln::platform converter::detect_platform(const image_config& image, const kiln::platform& target) const {
  auto fits = [&](const kiln::platform& p) {
    return p.os == image.platform.os && p.architecture == image.platform.architecture;
  };
  if (fits(target)) return target;
  for (const auto& p : build_platforms_)
    if (fits(p)) return p;
  return target;
}

void converter::use_image(stage_state& s, const std::string& original_name, const kiln::platform& platform,
                          bool is_scratch, bool reachable) {
  if (is_scratch) {
    s.state = {};
  } else {
    llb::op_info info;
    info.command(s.definition.code);
    info.name(prefix(s, "FROM " + s.definition.base_name, platform, list_environment()));
    info.platform = platform;
    info.locations = locations(s.definition.location);
    s.state = {};
    s.state.out = llb::image(graph_, s.definition.base_name, options_.image_resolve_mode, std::move(info));
    s.state.platform = normalize(platform);
    const auto& actual = s.image.platform;
    if (reachable && (platform.os != actual.os || platform.architecture != actual.architecture))
      checks_.report(rules::invalid_base_image_platform,
                     "Base image " + original_name + " was pulled with platform " +
                         quote(format_platform(normalize(actual))) + ", expected " +
                         quote(format_platform(normalize(platform))) + " for current build",
                     s.definition.location);
  }
  s.platform = platform;
}

status converter::finish_base(pending_base& base) {
  auto& s = *base.stage;
  finishers_.insert(finishers_.end(), base.finish.begin(), base.finish.end());
  if (s.unregistered) s.dispatched = true;
  if (!base.reachable) {
    use_image(s, base.original_name, base.platform, false, false);
    return {};
  }
  if (base.context) {
    KILN_TRY(auto loaded, *std::move(base.context));
    if (s.context) {
      s.dispatched = true;
      s.state = std::move(loaded.state);
      if (!loaded.image) return {};
      s.image = *std::move(loaded.image);
      s.image.created.clear();
      if (!s.image.platform.os.empty() && !s.image.platform.architecture.empty())
        s.platform = s.image.platform;
      return {};
    }
    s.image = loaded.image ? *std::move(loaded.image) : empty_image(base.platform);
    s.base_image = s.image;
    s.image.created.clear();
    s.state = std::move(loaded.state);
    s.state.platform = normalize(base.platform);
    s.platform = base.platform;
    return {};
  }
  auto resolved = *std::move(base.image);
  if (!resolved) {
    auto options = stage_names();
    for (auto& name : common_image_names()) options.push_back(std::move(name));
    return with_suggestion(std::move(resolved).error().with_context(base.original_name), base.original_name,
                           options, true);
  }
  if (base.reference.str() != resolved->reference) {
    auto ref = parse_image_reference(resolved->reference);
    if (!ref) return std::move(ref).error().with_context("failed to parse ref " + quote(resolved->reference));
    base.reference = *std::move(ref);
  }
  auto image = parse_image_config(resolved->config);
  if (!image) return std::move(image).error().with_context("failed to parse image config");
  s.base_image = *image;
  s.image = *std::move(image);
  s.image.created.clear();
  if (!s.platform && implicit_target_) base.platform = detect_platform(s.image, base.platform);
  if (!resolved->digest.empty()) base.reference.digest = digest::trusted(resolved->digest);
  s.definition.base_name = base.reference.str();
  use_image(s, base.original_name, base.platform, has_no_layers(s.image), true);
  return {};
}

status converter::resolve_bases(const std::set<stage_state*>& reachable_stages) {
  std::vector<std::unique_ptr<pending_base>> bases;
  for (auto* s : stages_) {
    bool reachable = all_stages_ || reachable_stages.contains(s);
    if (s->base != nullptr || s->dispatched || s->resolved) continue;
    s->resolved = reachable;
    if (s->definition.base_name == "scratch" && !s->context) {
      s->state = {};
      s->image = empty_image(target_platform_);
      s->platform = target_platform_;
      if (s->unregistered) s->dispatched = true;
      continue;
    }
    auto base = std::make_unique<pending_base>();
    if (auto begun = begin_base(*s, reachable, *base); !begun)
      return with_location(std::move(begun).error(), s->definition.location);
    bases.push_back(std::move(base));
  }
  parallel_for("frontend", bases.size(), configs::frontend_parallel_bases, [&](std::size_t i) {
    if (bases[i]->reachable) load_base(*bases[i]);
  });
  for (auto& base : bases)
    if (auto done = finish_base(*base); !done)
      return with_location(std::move(done).error(), base->stage->definition.location);
  return {};
}

}  // namespace kiln::dockerfile
