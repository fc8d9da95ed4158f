#include "actors/history/history_filter.hpp"

#include <optional>
#include <string_view>

#include "base/duration.hpp"
#include "base/time_text.hpp"
#include "messages/filter.hpp"

namespace kiln::actors {

namespace {

std::int64_t ns_of(const google::protobuf::Timestamp& t) { return t.seconds() * 1'000'000'000 + t.nanos(); }

constexpr std::int64_t second = 1'000'000'000;

/// Terms of one filter; commas inside double quotes do not separate.
std::vector<std::string> split_terms(std::string_view text) {
  std::vector<std::string> out(1);
  bool quoted = false;
  for (char c : text) {
    if (c == '"') quoted = !quoted;
    if (c == ',' && !quoted) {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
  return out;
}

/// A comparison of times or durations; nothing when the term is none.
result<std::optional<history_predicate>> comparison(const std::string& term, std::int64_t now_ns) {
  for (std::string_view sign : {">=", "<=", ">", "<"}) {
    auto at = term.find(sign);
    if (at == std::string::npos) continue;
    auto key = term.substr(0, at), value = term.substr(at + sign.size());
    bool is_time = key == "startedAt" || key == "completedAt";
    if (!is_time && key != "duration") return std::optional<history_predicate>();
    std::int64_t limit = 0;
    auto duration = parse_duration(value);
    if (duration.ok()) {
      limit = is_time ? (now_ns - *duration) / second : *duration;
    } else if (!is_time) {
      return make_error(errc::invalid_argument, "invalid duration " + value);
    } else if (auto time = parse_rfc3339(value)) {
      limit = *time / second;
    } else {
      return make_error(errc::invalid_argument, "invalid time " + value);
    }
    return std::optional<history_predicate>([key, sign, limit](const ctl::BuildHistoryRecord& r) {
      std::int64_t found = 0;
      if (key == "startedAt") found = r.createdat().seconds();
      if (key == "completedAt") found = r.completedat().seconds();
      if (key == "duration" && r.has_completedat()) found = ns_of(r.completedat()) - ns_of(r.createdat());
      if (sign == ">=") return found >= limit;
      if (sign == "<=") return found <= limit;
      return sign == ">" ? found > limit : found < limit;
    });
  }
  return std::optional<history_predicate>();
}

std::optional<std::string> field_of(const ctl::BuildHistoryRecord& r, std::span<const std::string> path) {
  if (path.empty()) return std::nullopt;
  if (path[0] == "ref") return r.ref().empty() ? std::nullopt : std::optional(r.ref());
  if (path[0] == "status") {
    if (!r.has_completedat()) return "running";
    if (!r.has_error()) return "completed";
    // As upstream: what a frontend or a client was told has no better sign. Source:
    // solver/llbsolver/history/filter.go.
    return r.error().message().find("context canceled") != std::string::npos ? "canceled" : "error";
  }
  if (path[0] == "repository") {
    if (auto v = r.frontendattrs().find("vcs:source"); v != r.frontendattrs().end()) return v->second;
    auto context = r.frontendattrs().find("context");
    if (context == r.frontendattrs().end()) return std::nullopt;
    auto remote = context->second.substr(0, context->second.find('#'));
    bool git = remote.ends_with(".git") || remote.starts_with("git@") || remote.starts_with("git://") ||
               remote.starts_with("ssh://");
    return git ? std::optional(remote) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

result<history_predicate> parse_history_filters(const std::vector<std::string>& filters,
                                                std::int64_t now_ns) {
  std::vector<history_predicate> any;
  for (const auto& text : filters) {
    std::vector<history_predicate> all;
    std::string rest;
    for (const auto& term : split_terms(text)) {
      KILN_TRY(auto compare, comparison(term, now_ns));
      if (compare) {
        all.push_back(*std::move(compare));
      } else {
        rest += (rest.empty() ? "" : ",") + term;
      }
    }
    if (!rest.empty()) {
      auto parsed = filter::parse({rest});
      if (!parsed.ok())
        return std::move(parsed).error().with_context("failed to parse history filters " + text);
      all.push_back([f = *std::move(parsed)](const ctl::BuildHistoryRecord& r) {
        return f.matches([&](std::span<const std::string> path) { return field_of(r, path); });
      });
    }
    any.push_back([all = std::move(all)](const ctl::BuildHistoryRecord& r) {
      for (const auto& p : all)
        if (!p(r)) return false;
      return true;
    });
  }
  return history_predicate([any = std::move(any)](const ctl::BuildHistoryRecord& r) {
    if (any.empty()) return true;
    for (const auto& p : any)
      if (p(r)) return true;
    return false;
  });
}

}  // namespace kiln::actors
