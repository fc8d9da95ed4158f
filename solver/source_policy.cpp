#include "solver/source_policy.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include <re2/re2.h>

#include "base/text.hpp"
#include "messages/outside_fields.hpp"

namespace kiln::solver {

namespace {

namespace sp = moby::buildkit::v1::sourcepolicy;

constexpr std::size_t conversions_max = 20;
constexpr int pattern_bytes_max = 4096;
constexpr int groups_max = 100;

/// Not "quoted": the standard library's function of that name would be taken for it wherever <iomanip> is
/// included.
std::string in_quotes(const std::string& text) { return "\"" + text + "\""; }

/// RE2: its time is linear in the text, whatever the pattern.
result<std::unique_ptr<RE2>> compile(const std::string& pattern) {
  if (pattern.size() > pattern_bytes_max)
    return make_error(errc::invalid_argument, "source policy: pattern is too long");
  auto re = std::make_unique<RE2>(pattern, RE2::Quiet);
  if (!re->ok())
    return make_error(errc::invalid_argument, "invalid regex " + in_quotes(pattern) + ": " + re->error());
  return re;
}

/// A wildcard as a pattern: each `*` is a group.
std::string wildcard_pattern(const std::string& text) {
  std::string out = "^";
  for (std::size_t at = 0; at < text.size();) {
    auto star = text.find('*', at);
    if (star == std::string::npos) star = text.size();
    out += RE2::QuoteMeta(text.substr(at, star - at));
    if (star < text.size()) out += "(.*)";
    at = star + 1;
  }
  return out + "$";
}

/// What a match left behind: the text and its groups, for `$1`, `${1}` and `${name}`.
struct matched {
  std::vector<std::string> groups;
  const RE2* pattern = nullptr;

  std::string group(const std::string& name) const {
    if (!name.empty() && name.find_first_not_of("0123456789") == std::string::npos) {
      auto n = name.size() < 4 ? std::stoul(name) : groups.size();
      return n < groups.size() ? groups[n] : "";
    }
    if (!pattern) return "";
    auto found = pattern->NamedCapturingGroups().find(name);
    if (found == pattern->NamedCapturingGroups().end()) return "";
    return groups[static_cast<std::size_t>(found->second)];
  }
  std::string expand(const std::string& format) const {
    std::string out;
    for (std::size_t i = 0; i < format.size(); ++i) {
      if (format[i] != '$' || i + 1 == format.size()) {
        out += format[i];
        continue;
      }
      if (format[i + 1] == '$') {
        out += '$';
        ++i;
        continue;
      }
      bool braced = format[i + 1] == '{';
      auto from = i + (braced ? 2 : 1), to = from;
      while (to < format.size() &&
             (std::isalnum(static_cast<unsigned char>(format[to])) || format[to] == '_'))
        ++to;
      bool whole = to > from && (!braced || (to < format.size() && format[to] == '}'));
      if (!whole) {
        out += '$';
        continue;
      }
      out += group(format.substr(from, to - from));
      i = braced ? to : to - 1;
    }
    return out;
  }
};

bool run(const RE2& re, const std::string& text, matched& out) {
  auto count = std::min(re.NumberOfCapturingGroups(), groups_max) + 1;
  std::vector<re2::StringPiece> pieces(static_cast<std::size_t>(count));
  if (!re.Match(text, 0, text.size(), RE2::UNANCHORED, pieces.data(), count)) return false;
  for (const auto& p : pieces) out.groups.emplace_back(p.data() ? std::string(p.data(), p.size()) : "");
  out.pattern = &re;
  return true;
}

result<bool> constraints_hold(const sp::Selector& selector, const pb::SourceOp& source) {
  for (const auto& c : selector.constraints()) {
    auto found = source.attrs().find(c.key());
    auto value = found == source.attrs().end() ? std::string() : found->second;
    switch (c.condition()) {
      case sp::EQUAL:
        if (value != c.value()) return false;
        break;
      case sp::NOTEQUAL:
        if (value == c.value()) return false;
        break;
      case sp::MATCHES: {
        KILN_TRY(auto re, compile(c.value()));
        if (!RE2::PartialMatch(value, *re)) return false;
        break;
      }
      default:
        return make_error(errc::invalid_argument, "unknown attr condition: " + std::to_string(c.condition()));
    }
  }
  return true;
}

/// Whether a rule is about the source, and with `destination` what it makes of its identifier.
result<bool> applies(const sp::Selector& selector, const pb::SourceOp& source, const std::string& format,
                     std::string& destination) {
  KILN_TRY(auto hold, constraints_hold(selector, source));
  if (!hold) return false;
  const auto& identifier = source.identifier();
  destination = format;
  bool same = selector.identifier() == identifier;
  if (selector.match_type() == sp::EXACT) return same;
  if (selector.match_type() != sp::REGEX && selector.match_type() != sp::WILDCARD)
    return make_error(errc::invalid_argument, "unknown match type: " + std::to_string(selector.match_type()));
  bool regex = selector.match_type() == sp::REGEX;
  KILN_TRY(auto re, compile(regex ? selector.identifier() : wildcard_pattern(selector.identifier())));
  matched m;
  if (!run(*re, identifier, m)) {
    if (same) destination = identifier;
    return same;
  }
  destination = m.expand(format);
  if (regex) {
    // The part that matched is replaced, the rest stays.
    auto at = identifier.find(m.groups[0]);
    if (at != std::string::npos && !m.groups[0].empty())
      destination = identifier.substr(0, at) + destination + identifier.substr(at + m.groups[0].size());
  }
  return true;
}

/// Whether the rule's conversion made another source of it.
result<bool> convert(const sp::Rule& rule, const std::string& destination, pb::SourceOp& source,
                     source_form& form) {
  auto converted = source;
  if (!destination.empty()) converted.set_identifier(destination);
  for (const auto& [key, value] : rule.updates().attrs()) (*converted.mutable_attrs())[key] = value;
  KILN_CHECK(form.rewrite(converted, &source));
  if (same_source(source, converted)) return false;
  source = std::move(converted);
  return true;
}

/// "rule 2 (CONVERT docker-image://*)": as those who wrote the policy find it.
std::string shown(const sp::Rule& rule, int index) {
  return "rule " + std::to_string(index + 1) + " (" + sp::PolicyAction_Name(rule.action()) + " " +
         rule.selector().identifier() + ")";
}

/// One policy over the source as it is; true when it was converted.
result<bool> apply_one(const source_policy& policy, pb::SourceOp& source, source_form& form,
                       std::vector<std::string>& conversions) {
  std::string denied_by;
  for (int index = 0; index < policy.rules_size(); ++index) {
    const auto& rule = policy.rules(index);
    std::string destination;
    auto format =
        rule.updates().identifier().empty() ? rule.selector().identifier() : rule.updates().identifier();
    auto hit = applies(rule.selector(), source, format, destination);
    if (!hit.ok())
      return std::move(hit).error().with_context("error matching source policy: " + shown(rule, index) +
                                                 " for source " + in_quotes(source.identifier()));
    if (!*hit) continue;
    switch (rule.action()) {
      case sp::ALLOW: denied_by.clear(); break;
      case sp::DENY: denied_by = shown(rule, index); break;
      case sp::CONVERT: {
        if (!rule.has_updates())
          return make_error(errc::invalid_argument, "error mutating source policy: " + shown(rule, index) +
                                                        ": missing destination for convert rule");
        auto former = source.identifier();
        auto converted = convert(rule, destination, source, form);
        if (!converted.ok())
          return std::move(converted).error().with_context(
              "error mutating source policy: " + shown(rule, index) + " makes of source " +
              in_quotes(former));
        if (!*converted) break;
        conversions.push_back(shown(rule, index) + " makes " + in_quotes(source.identifier()) + " of " +
                              in_quotes(former));
        return true;
      }
      default:
        return make_error(errc::invalid_argument, "source policy: rule " + std::to_string(rule.action()) +
                                                      " " + rule.selector().identifier() + ": unknown type " +
                                                      in_quotes(source.identifier()));
    }
  }
  if (!denied_by.empty())
    return make_error(errc::permission_denied,
                      "source " + in_quotes(source.identifier()) +
                          " denied by policy: source denied by policy: " + denied_by);
  return false;
}

}  // namespace

status validate(const source_policy& policy) {
  for (const auto& rule : policy.rules())
    if (!rule.has_selector()) return make_error(errc::invalid_argument, "invalid nil selector in policy");
  if (auto s = check_fields(policy); !s.ok()) return std::move(s).error().with_context("source policy");
  return {};
}

bool same_source(const pb::SourceOp& a, const pb::SourceOp& b) {
  if (a.identifier() != b.identifier() || a.attrs_size() != b.attrs_size()) return false;
  return std::all_of(a.attrs().begin(), a.attrs().end(), [&](const auto& attribute) {
    auto found = b.attrs().find(attribute.first);
    return found != b.attrs().end() && found->second == attribute.second;
  });
}

status apply(const std::vector<source_policy>& policies, pb::SourceOp& source, source_form& form,
             const pb::SourceOp* former, std::vector<std::string>* conversions) {
  KILN_CHECK(form.rewrite(source, former));
  std::vector<std::string> made;
  bool converted = true;
  while (converted && made.size() <= conversions_max) {
    converted = false;
    for (const auto& policy : policies) {
      auto outcome = apply_one(policy, source, form, made);
      if (!outcome.ok()) {
        // Nobody wrote the source that this tells of where rules before made it.
        auto e = std::move(outcome).error();
        if (!made.empty()) e.message += "; before that " + join(made, ", ");
        return e;
      }
      if ((converted = *outcome)) break;
    }
  }
  if (converted)
    return make_error(errc::failed_precondition,
                      "too many mutations on a single source: too many operations, at last " + made.back());
  if (conversions != nullptr) conversions->insert(conversions->end(), made.begin(), made.end());
  return {};
}

}  // namespace kiln::solver
