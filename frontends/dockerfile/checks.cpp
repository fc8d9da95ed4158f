// Build checks that need the whole file.
#include <algorithm>

#include "frontends/dockerfile/converter.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

struct case_count {
  int lower = 0, upper = 0;
  void add(const std::string& keyword) {
    if (keyword == to_lower(keyword)) ++lower;
    else if (keyword == to_upper(keyword)) ++upper;
  }
};

void check_keyword(const std::string& keyword, bool want_lower, const line_ranges& where,
                   const lint& checks) {
  if (keyword == (want_lower ? to_lower(keyword) : to_upper(keyword))) return;
  checks.report(rules::consistent_instruction_casing,
                "Command '" + keyword + "' should match the case of the command majority (" +
                    (want_lower ? "lowercase" : "uppercase") + ")",
                where);
}

// Whether one of the words is a part of the name between underscores.
bool has_word(const std::string& name, std::initializer_list<std::string_view> words) {
  auto parts = split(to_lower(name), '_');
  return std::any_of(parts.begin(), parts.end(), [&](const std::string& part) {
    return std::find(words.begin(), words.end(), part) != words.end();
  });
}

}  // namespace

void check_stage_names(const std::vector<stage>& stages, const lint& checks) {
  std::set<std::string> seen;
  for (const auto& s : stages) {
    if (s.name.empty()) continue;
    if (s.name == "context" || s.name == "scratch")
      checks.report(rules::reserved_stage_name,
                    "Stage name should not use the same name as reserved stage " + quote(s.name), s.location);
    if (!seen.insert(s.name).second)
      checks.report(rules::duplicate_stage_name,
                    "Duplicate stage name " + quote(s.name) + ", stage names should be unique", s.location);
  }
}

void check_casing(const std::vector<stage>& stages, const lint& checks) {
  case_count count;
  for (const auto& s : stages) {
    count.add(s.keyword);
    for (const auto& i : s.instructions) count.add(base_of(i).name);
  }
  bool want_lower = count.lower > count.upper;
  for (const auto& s : stages) {
    check_keyword(s.keyword, want_lower, s.location, checks);
    for (const auto& i : s.instructions)
      check_keyword(base_of(i).name, want_lower, base_of(i).location, checks);
  }
}

bool is_secret_name(const std::string& key) {
  return has_word(key, {"apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd",
                        "secret", "token"}) &&
         !has_word(key, {"public", "file", "version"});
}

}  // namespace kiln::dockerfile
