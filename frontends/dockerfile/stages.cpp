// Finding stages, their names, their platforms, and what they depend on.
#include <algorithm>
#include <functional>

#include "configs/frontends.hpp"
#include "frontends/dockerfile/converter.hpp"
#include "frontends/dockerfile/suggest.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

error invalid(std::string message) { return make_error(errc::invalid_argument, std::move(message)); }

constexpr std::string_view scratch = "scratch";

bool takes_a_step(const instruction& i) {
  return std::holds_alternative<add_instruction>(i) || std::holds_alternative<copy_instruction>(i) ||
         std::holds_alternative<run_instruction>(i) || std::holds_alternative<workdir_instruction>(i);
}

// A constant platform is fine if the stage is named after it.
void check_platform_flag(const stage& s, const expansion& platform, const llb::env_list& args,
                         const lint& checks) {
  if (platform.matched.size() == 1 && platform.unmatched.empty() &&
      platform.matched.contains("TARGETPLATFORM") && platform.text == args.get("TARGETPLATFORM").value_or(""))
    checks.report(rules::redundant_target_platform,
                  "Setting platform to predefined " + s.platform +
                      " in FROM is redundant as this is the default behavior",
                  s.location);
  if (!platform.matched.empty() || !platform.unmatched.empty()) return;
  auto p = parse_platform(platform.text);
  if (!p || s.name.find(p->os) != std::string::npos || s.name.find(p->architecture) != std::string::npos)
    return;
  checks.report(rules::from_platform_flag_const_disallowed,
                "FROM --platform flag should not use constant value " + quote(platform.text), s.location);
}

error suggest_any(error e, const std::set<std::string>& words, const std::vector<std::string>& options) {
  for (const auto& word : words) {
    auto before = e.message.size();
    e = with_suggestion(std::move(e), word, options, true);
    if (e.message.size() != before) break;
  }
  return e;
}

}  // namespace

bool converter::is_context_replaceable(const std::string& name) const {
  return !equal_fold(name, scratch) && !equal_fold(name, "context");
}

result<std::optional<kiln::platform>> converter::stage_platform(const stage& s, const lint& checks,
                                                                std::set<std::string>& used) {
  std::optional<kiln::platform> out;
  if (s.platform.empty()) return out;
  auto located = [&](error e) { return with_location(std::move(e), s.location); };
  auto match = words_.expand(s.platform, list_environment(global_args_));
  if (!match)
    return located(std::move(match).error().with_context("failed to process arguments for platform "));
  report_undefined_from(match->unmatched, s.location, checks);
  check_platform_flag(s, *match, global_args_, checks);
  auto names = list_environment(global_args_).names();
  if (match->text.empty())
    return located(
        suggest_any(invalid("empty platform value from expression " + s.platform), match->unmatched, names));
  auto parsed = parse_platform(match->text);
  if (!parsed)
    return located(suggest_any(std::move(parsed).error(), match->unmatched, names)
                       .with_context("failed to parse platform " + s.platform));
  used.insert(match->matched.begin(), match->matched.end());
  out = *std::move(parsed);
  return out;
}

// Whether the stage is an ordinary one, not replaced by a named context.
result<bool> converter::prepare_stage(const stage& definition, std::size_t index) {
  auto checks = checks_.with_comments(definition.comments);
  auto base = words_.expand(definition.base_name, list_environment(global_args_));
  if (!base) return with_location(std::move(base).error(), definition.location);
  report_undefined_from(base->unmatched, definition.location, checks);
  auto used = base->matched;
  if (base->text.empty())
    return with_location(invalid("base name (" + definition.base_name + ") should not be blank"),
                         definition.location);

  auto* s = owned_.emplace_back(std::make_unique<stage_state>()).get();
  s->definition = definition;
  s->definition.base_name = base->text;
  s->name = definition.name;
  s->used = global_usage_;
  KILN_TRY(s->platform, stage_platform(definition, checks, used));
  if (!definition.name.empty() && is_context_replaceable(definition.name)) {
    KILN_TRY(s->context,
             sources_.find_context(definition.name, s->platform ? s->platform : request_.target_platform));
    if (s->context) {
      add_stage(s);
      s->base = nullptr;
      return false;
    }
  }
  if (definition.name.empty()) s->name = "stage-" + std::to_string(index);
  add_stage(s);
  s->used.used_args.insert(used.begin(), used.end());
  s->step_total = s->definition.base_name != scratch && s->base == nullptr ? 1 : 0;
  for (const auto& i : definition.instructions) s->step_total += takes_a_step(i) ? 1 : 0;
  s->ignore_cache = options_.is_no_cache(definition.name);
  return true;
}

status converter::build_stages(const std::vector<stage>& stages) {
  for (std::size_t i = 0; i < stages.size(); ++i) {
    KILN_TRY(bool ordinary, prepare_stage(stages[i], i));
    (void)ordinary;
  }
  return {};
}

void converter::add_stage(stage_state* s) {
  stages_.push_back(s);
  if (auto at = by_name_.find(s->definition.base_name); at != by_name_.end()) {
    s->base = at->second;
    s->used = at->second->used;
  }
  if (!s->definition.name.empty()) by_name_[to_lower(s->definition.name)] = s;
}

stage_state* converter::find_stage(const std::string& name) const {
  auto at = by_name_.find(to_lower(name));
  return at == by_name_.end() ? nullptr : at->second;
}

std::vector<std::string> converter::stage_names() const {
  std::vector<std::string> out;
  for (const auto* s : stages_)
    if (!s->name.empty()) out.push_back(s->name);
  return out;
}

result<stage_state*> converter::find_target() {
  if (options_.target.empty()) return stages_.back();
  if (auto* s = find_stage(options_.target)) return s;
  return with_suggestion(invalid("target stage " + quote(options_.target) + " could not be found"),
                         options_.target, stage_names(), true);
}

stage_state* converter::external_stage(const std::string& base_name, const line_ranges& where) {
  auto* s = owned_.emplace_back(std::make_unique<stage_state>()).get();
  s->definition.base_name = base_name;
  s->definition.location = where;
  s->unregistered = true;
  return s;
}

result<step> converter::make_step(instruction what) {
  step out{std::move(what), {}, false};
  if (auto* copy = std::get_if<copy_instruction>(&out.what); copy != nullptr && !copy->from.empty()) {
    KILN_TRY(auto expanded, words_.expand(copy->from, list_environment()));
    if (expanded.text != copy->from)
      return invalid(
          "variable expansion is not supported for --from, define a new stage with FROM using ARG from "
          "global scope as a workaround");
    if (auto index = parse_int(copy->from)) {
      if (*index < 0 || *index >= static_cast<std::int64_t>(stages_.size()))
        return invalid("invalid stage index " + std::to_string(*index));
      out.sources = {stages_[static_cast<std::size_t>(*index)]};
    } else {
      auto* s = find_stage(copy->from);
      out.sources = {s != nullptr ? s : external_stage(copy->from, copy->location)};
    }
  }
  if (auto* run = std::get_if<run_instruction>(&out.what)) {
    for (const auto& mount : run->mounts) {
      auto from = mount.from.empty() ? std::string(scratch) : mount.from;
      auto* s = find_stage(from);
      out.sources.push_back(s != nullptr ? s : external_stage(from, {}));
    }
  }
  return out;
}

status converter::connect_stages() {
  // External stages are appended on the way and have no instructions.
  auto written = stages_;
  for (auto* s : written) {
    for (const auto& i : s->definition.instructions) {
      KILN_TRY(auto next, make_step(i));
      for (auto* source : next.sources) {
        s->add_dep(source, base_of(next.what).location);
        if (source->unregistered) add_stage(source);
      }
      s->steps.push_back(std::move(next));
    }
  }
  KILN_CHECK(refuse_cycles());
  if (stages_.size() == 1) stages_.front()->name.clear();
  return {};
}

status converter::refuse_cycles() const {
  struct step {
    const stage_state* stage;
    std::size_t next = 0;  // of its dependencies
  };
  std::set<const stage_state*> visited, open;
  for (const auto* first : stages_) {
    if (!visited.insert(first).second) continue;
    std::vector<step> path{{first}};  // and not the thread's stack: a file may have very many stages
    open.insert(first);
    while (!path.empty()) {
      auto& [stage, next] = path.back();
      if (next == stage->deps.size()) {
        open.erase(stage);
        path.pop_back();
        continue;
      }
      const auto* dep = stage->deps[next++].first;
      if (open.contains(dep)) {
        auto e = invalid("circular dependency detected on stage: " + first->name);
        for (const auto& s : path) e = with_location(std::move(e), s.stage->deps[s.next - 1].second);
        return e;
      }
      if (!visited.insert(dep).second) continue;
      open.insert(dep);
      path.push_back({dep});
    }
  }
  return {};
}

void converter::inherit(stage_state& s) {
  if (s.base == nullptr) return;
  const auto& base = *s.base;
  s.state = base.state;
  s.platform = base.platform;
  s.image = base.image;
  s.image.onbuild.clear();
  s.base_image = base.base_image;
  s.paths = base.paths;
  s.workdir_set = base.workdir_set;
  s.build_args.insert(s.build_args.end(), base.build_args.begin(), base.build_args.end());
}

result<bool> converter::add_triggers(stage_state& s, const std::vector<std::string>& triggers) {
  bool new_deps = false;
  if (triggers.size() > configs::dockerfile_max_triggers)
    return invalid("the base image has " + std::to_string(triggers.size()) +
                   " ONBUILD instructions, and no more than " +
                   std::to_string(configs::dockerfile_max_triggers) + " are taken");
  std::vector<step> steps;
  for (const auto& trigger : triggers) {
    KILN_TRY(auto file, parse(trigger));
    if (file.nodes.size() != 1) return invalid("onbuild trigger should be a single expression");
    auto& n = file.nodes.front();
    const auto& where = s.definition.location;
    n.start_line = where.empty() ? 0 : where.front().start;
    n.end_line = where.empty() ? 0 : where.back().end;
    KILN_TRY(auto i, parse_instruction(n));
    KILN_TRY(auto next, make_step(std::move(i)));
    next.is_onbuild = true;
    new_deps |= !next.sources.empty();
    for (auto* source : next.sources) {
      s.add_dep(source, base_of(next.what).location);
      if (source->unregistered) add_stage(source);
    }
    steps.push_back(std::move(next));
  }
  s.step_total += static_cast<int>(steps.size());
  s.steps.insert(s.steps.begin(), std::make_move_iterator(steps.begin()),
                 std::make_move_iterator(steps.end()));
  return new_deps;
}

result<std::set<stage_state*>> converter::resolve_stages(stage_state* target) {
  for (;;) {
    std::set<stage_state*> reachable;
    std::vector<stage_state*> todo{target};
    while (!todo.empty()) {
      auto* next = todo.back();
      todo.pop_back();
      if (next == nullptr || !reachable.insert(next).second) continue;
      todo.push_back(next->base);
      for (const auto& [dep, where] : next->deps) todo.push_back(dep);
    }
    KILN_CHECK(resolve_bases(reachable));
    bool new_deps = false;
    auto known = stages_;  // triggers append
    for (auto* s : known) {
      if (!reachable.contains(s)) continue;
      inherit(*s);
      auto triggers = s->image.onbuild;
      if (s->base != nullptr && !s->onbuild_done) {
        for (const auto& inherited : s->base->steps)
          if (const auto* i = std::get_if<onbuild_instruction>(&inherited.what))
            triggers.push_back(i->expression);
        s->onbuild_done = true;
      }
      if (triggers.empty()) continue;
      auto added = add_triggers(*s, triggers);
      if (!added) return set_location(std::move(added).error(), s->definition.location);
      new_deps |= *added;
      s->image.onbuild.clear();
    }
    if (!new_deps) return reachable;
  }
}

}  // namespace kiln::dockerfile
