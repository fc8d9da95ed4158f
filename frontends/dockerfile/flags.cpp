#include "frontends/dockerfile/flags.hpp"

#include "frontends/dockerfile/suggest.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

status flag_set::parse(const std::vector<std::string>& args) {
  auto invalid = [](std::string message) { return make_error(errc::invalid_argument, std::move(message)); };
  for (const auto& arg : args) {
    if (arg == "--") return {};
    if (!arg.starts_with("--")) return invalid("arg should start with -- : " + arg);
    auto [full_name, text, has_value] = cut(arg, "=");
    auto name = full_name.substr(2);
    auto at = flags_.find(name);
    if (at == flags_.end()) {
      std::vector<std::string> known;
      for (const auto& [option, f] : flags_) known.push_back(option);
      return with_suggestion(invalid("unknown flag: " + full_name), name, known, true);
    }
    auto& f = at->second;
    if (f.used && f.type != kind::strings) return invalid("duplicate flag specified: " + full_name);
    f.used = true;
    if (f.type == kind::boolean) {
      if (has_value && text.empty()) return invalid("missing a value on flag: " + full_name);
      auto lower = to_lower(text);
      if (!lower.empty() && lower != "true" && lower != "false")
        return invalid("expecting boolean value for flag " + full_name + ", not: " + text);
      f.value = lower.empty() ? "true" : lower;
      continue;
    }
    if (!has_value) return invalid("missing a value on flag: " + full_name);
    if (f.type == kind::string) f.value = text;
    else f.values.push_back(text);
  }
  return {};
}

}  // namespace kiln::dockerfile
