#include "configs/setting.hpp"

#include <algorithm>

#include "base/duration.hpp"
#include "base/text.hpp"
#include "configs/units.hpp"

namespace kiln::configs::settings {

namespace {

using wanted = std::optional<std::string>;

template <class T>
wanted take(const raw_value& raw, T& into, const char* otherwise) {
  auto* value = std::get_if<T>(&raw);
  if (!value) return otherwise;
  into = *value;
  return {};
}

/// "a, b or c".
std::string either(const std::vector<std::string_view>& of) {
  std::string out;
  for (std::size_t i = 0; i < of.size(); ++i)
    out += (i == 0 ? "" : i + 1 == of.size() ? " or " : ", ") + std::string(of[i]);
  return out;
}

bool is_one(const std::vector<std::string_view>& of, std::string_view text) {
  return std::find(of.begin(), of.end(), text) != of.end();
}

std::string between(std::int64_t least, std::int64_t most) {
  return std::to_string(least) + " to " + std::to_string(most);
}

/// A whole number, written as one or given as text by a flag.
std::optional<std::int64_t> whole(const raw_value& raw) {
  if (auto* number = std::get_if<std::int64_t>(&raw)) return *number;
  auto* text = std::get_if<std::string>(&raw);
  if (!text || text->empty() || text->size() > 12 ||
      text->find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  return std::stoll(*text);
}

std::string joined(const std::vector<std::string>& texts) { return join(texts, ", "); }

}  // namespace

wanted plain<bool>::assign(const raw_value& raw) const { return take(raw, value, "true or false"); }

wanted plain<std::optional<bool>>::assign(const raw_value& raw) const {
  bool given = false;
  auto fault = take(raw, given, "true or false");
  if (!fault) value = given;
  return fault;
}

wanted plain<std::string>::assign(const raw_value& raw) const { return take(raw, value, "a string"); }

wanted plain<std::vector<std::string>>::assign(const raw_value& raw) const {
  return take(raw, value, "an array of strings");
}

std::string plain<std::vector<std::string>>::shown() const { return joined(value); }

wanted plain<std::map<std::string, std::string>>::assign(const raw_value& raw) const {
  if (auto* table = std::get_if<std::map<std::string, std::string>>(&raw)) {
    for (const auto& [name, text] : *table) value[name] = text;
    return {};
  }
  auto* pairs = std::get_if<std::vector<std::string>>(&raw);
  if (!pairs) return "a table of strings";
  for (const auto& pair : *pairs) {
    auto equals = pair.find('=');
    if (equals == std::string::npos || equals == 0) return "name=text, not \"" + pair + "\"";
    value[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return {};
}

wanted number::assign(const raw_value& raw) const {
  auto given = whole(raw);
  if (!given || *given < least || *given > most) return "a number from " + between(least, most);
  value = static_cast<int>(*given);
  return {};
}

std::string number::range() const { return between(least, most); }

wanted owner_id::assign(const raw_value& raw) const {
  auto given = whole(raw);
  if (!given || *given < 0 || *given > most) return "a number from " + between(0, most);
  value = *given;
  return {};
}

std::string owner_id::range() const { return between(0, most); }

wanted choice::assign(const raw_value& raw) const {
  std::string text;
  if (auto* given = std::get_if<std::string>(&raw)) text = *given;
  if (auto* given = std::get_if<bool>(&raw)) text = *given ? "true" : "false";
  if (!is_one(of, text)) return either(of) + ", not \"" + text + "\"";
  value = text;
  return {};
}

std::string choice::range() const { return either(of); }

wanted choices::assign(const raw_value& raw) const {
  auto* given = std::get_if<std::vector<std::string>>(&raw);
  if (!given) return "an array of strings";
  for (const auto& text : *given)
    if (!is_one(of, text)) return either(of) + ", not \"" + text + "\"";
  value = *given;
  return {};
}

std::string choices::range() const { return either(of); }
std::string choices::shown() const { return joined(value); }

wanted duration::assign(const raw_value& raw) const {
  constexpr std::int64_t second_ns = 1'000'000'000;
  std::optional<std::int64_t> given;
  if (auto* seconds = std::get_if<std::int64_t>(&raw);
      seconds && *seconds >= 0 && *seconds <= std::numeric_limits<std::int64_t>::max() / second_ns)
    given = *seconds * second_ns;
  if (auto* text = std::get_if<std::string>(&raw))
    if (auto parsed = parse_duration(*text); parsed.ok()) given = *parsed;
  if (!given) return "a duration such as \"48h\" or a number of seconds";
  if (*given < least.count() || *given > most.count()) return "a duration of " + range();
  value_ns = *given;
  return {};
}

std::string duration::range() const {
  auto from = format_duration(least.count());
  return most == std::chrono::nanoseconds::max() ? from + " or more"
                                                 : from + " to " + format_duration(most.count());
}

std::string duration::shown() const { return value_ns == 0 ? "" : format_duration(value_ns); }

wanted disk_space::assign(const raw_value& raw) const {
  constexpr std::int64_t some_disk = 1'000'000'000'000;  // shares of it are checked, not kept
  auto text = std::holds_alternative<std::int64_t>(raw)  ? std::to_string(std::get<std::int64_t>(raw))
              : std::holds_alternative<std::string>(raw) ? std::get<std::string>(raw)
                                                         : std::string();
  if (!parse_disk_space(text, some_disk).ok())
    return "a size: bytes, \"512MB\", \"1.5g\" or \"10%\" of the disk";
  if (!older_name || value.empty()) value = text;
  return {};
}

wanted keep_storage::assign(const raw_value& raw) const {
  constexpr std::int64_t megabyte = 1'000'000;
  static constexpr const char* form_wanted = "Reserved[,Free[,Maximum]] in MB";
  auto* text = std::get_if<std::string>(&raw);
  if (!text) return form_wanted;
  auto parts = split(*text, ',');
  std::string* targets[] = {&reserved, &free, &maximum};
  if (parts.size() > std::size(targets)) return form_wanted;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    auto given = whole(std::string(parts[i]));
    if (!given) return form_wanted;
    *targets[i] = std::to_string(*given * megabyte);
  }
  return {};
}

wanted named_text::assign(const raw_value& raw) const {
  std::string text;
  auto fault = take(raw, text, "a string");
  if (!text.empty()) texts[std::string(name)] = text;
  return fault;
}

wanted shell_line::assign(const raw_value& raw) const {
  std::string line;
  auto fault = take(raw, line, "a string");
  if (!line.empty() && words.empty()) words = {"/bin/sh", "-c", line};
  return fault;
}

wanted log_switch::assign(const raw_value& raw) const {
  bool on = false;
  auto fault = take(raw, on, "true or false");
  if (on) level = name;
  return fault;
}

bool asks(const raw_value& raw) {
  if (auto* truth = std::get_if<bool>(&raw)) return *truth;
  if (auto* text = std::get_if<std::string>(&raw))
    return !text->empty() && *text != "false" && *text != "auto" && *text != "0";
  if (auto* number = std::get_if<std::int64_t>(&raw)) return *number != 0;
  if (auto* texts = std::get_if<std::vector<std::string>>(&raw)) return !texts->empty();
  return true;
}

}  // namespace kiln::configs::settings
