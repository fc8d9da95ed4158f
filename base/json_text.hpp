// JSON that others wrote: parsed within bounds, read without exceptions, written without them. What
// nlohmann's library does with a value (copy, compare, write) it does by recursion, so documents nested
// deeper than any honest one never become values. Nothing else in Kiln parses or writes JSON
// (tests/architecture). Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

// A value never becomes a string or a number by itself: where it is another type, that throws.
#define JSON_USE_IMPLICIT_CONVERSIONS 0
#include <nlohmann/json.hpp>

#include "base/result.hpp"

namespace kiln {

/// Arrays and objects within each other. The deepest documents known (SBOMs, provenance) stay below 50.
inline constexpr int json_depth_max = 512;
/// Bytes of a document; a value takes many times its text. What comes in by other ways is bounded there, and
/// lower.
inline constexpr std::size_t json_bytes_max = 64u << 20;

/// invalid_argument tells what is wrong and where; resource_exhausted for a document beyond the bounds.
template <class Json = nlohmann::json>
result<Json> parse_json(std::string_view text, std::size_t bytes_max = json_bytes_max);

/// The same where a document that is none counts as one that says nothing: then a null.
template <class Json = nlohmann::json>
Json json_or_null(std::string_view text, std::size_t bytes_max = json_bytes_max) {
  auto parsed = parse_json<Json>(text, bytes_max);
  return parsed.ok() ? *std::move(parsed) : Json(nullptr);
}

extern template result<nlohmann::json> parse_json(std::string_view, std::size_t);
extern template result<nlohmann::ordered_json> parse_json(std::string_view, std::size_t);

/// The document's text; what is no UTF-8 in it becomes U+FFFD. Without `indent` on one line.
template <class Json>
std::string json_text(const Json& value, int indent = -1) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

/// The document as Go writes it: `<`, `>`, `&` and U+2028/9 escaped too. indent -1 is compact, otherwise that
/// many spaces (json.MarshalIndent with an empty prefix).
std::string go_json(const nlohmann::ordered_json& document, int indent = -1);

// Reading: a value of another type is one that is not there.

/// The string, or empty.
template <class Json>
std::string text_value(const Json& value) {
  const auto* text = value.template get_ptr<const typename Json::string_t*>();
  return text ? *text : std::string();
}

/// The integer, if it is one that fits.
template <class Json>
std::optional<std::int64_t> integer_value(const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (const auto* n = value.template get_ptr<const typename Json::number_unsigned_t*>()) {
    if (*n > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<std::int64_t>(*n);
  }
  return *value.template get_ptr<const typename Json::number_integer_t*>();
}

template <class Json>
bool true_value(const Json& value) {
  const auto* b = value.template get_ptr<const typename Json::boolean_t*>();
  return b && *b;
}

/// The member of an object; null when there is none, or it is no object.
template <class Json>
const Json* member_of(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  auto found = object.find(std::string(key));
  return found == object.end() ? nullptr : &*found;
}

template <class Json>
std::string text_member(const Json& object, std::string_view key) {
  const auto* value = member_of(object, key);
  return value ? text_value(*value) : std::string();
}

template <class Json>
std::optional<std::int64_t> integer_member(const Json& object, std::string_view key) {
  const auto* value = member_of(object, key);
  return value ? integer_value(*value) : std::nullopt;
}

/// The strings of an object's members that are strings.
template <class Json>
std::map<std::string, std::string> text_members(const Json& object) {
  std::map<std::string, std::string> out;
  if (!object.is_object()) return out;
  for (const auto& [key, value] : object.items())
    if (value.is_string()) out[key] = text_value(value);
  return out;
}

}  // namespace kiln
