#include "client/build/source_policy_file.hpp"

#include <cstdlib>
#include <string>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "base/files.hpp"
#include "base/json_text.hpp"
#include "base/quoting.hpp"
#include "client/folded_name.hpp"

namespace kiln::client {

namespace {

namespace gp = google::protobuf;

using json = nlohmann::json;

constexpr const char* source_policy_variable = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY";
constexpr std::int64_t policy_bytes_max = 4 << 20;

error bad(const std::string& where, const std::string& what) {
  return make_error(errc::invalid_argument, where + ": " + what);
}

const gp::FieldDescriptor* field_named(const gp::Descriptor& type, std::string_view key) {
  for (int i = 0; i < type.field_count(); ++i)
    if (folded(type.field(i)->name()) == folded(key)) return type.field(i);
  return nullptr;
}

result<int> enum_number(const gp::EnumDescriptor& type, const json& value, const std::string& where) {
  const gp::EnumValueDescriptor* found = nullptr;
  if (value.is_string()) found = type.FindValueByName(text_value(value));
  if (auto n = integer_value(value); n && *n >= 0 && *n < type.value_count())
    found = type.FindValueByNumber(static_cast<int>(*n));
  if (found) return found->number();
  std::string known;
  for (int i = 0; i < type.value_count(); ++i) known += (i > 0 ? ", " : "") + type.value(i)->name();
  return bad(where, "unknown value " + json_text(value) + ", expected one of " + known);
}

// The types of a policy nest three deep.
status read(const json& value, gp::Message& into, const std::string& where);

status read_one(const json& value, gp::Message& into, const gp::FieldDescriptor& f,
                const std::string& where) {
  const auto& r = *into.GetReflection();
  switch (f.cpp_type()) {
    case gp::FieldDescriptor::CPPTYPE_MESSAGE:
      return read(value, f.is_repeated() ? *r.AddMessage(&into, &f) : *r.MutableMessage(&into, &f), where);
    case gp::FieldDescriptor::CPPTYPE_ENUM: {
      KILN_TRY(auto number, enum_number(*f.enum_type(), value, where));
      r.SetEnumValue(&into, &f, number);
      return {};
    }
    case gp::FieldDescriptor::CPPTYPE_STRING:
      if (!value.is_string()) return bad(where, "expected a string");
      r.SetString(&into, &f, text_value(value));
      return {};
    case gp::FieldDescriptor::CPPTYPE_INT64: {
      auto number = integer_value(value);
      if (!number) return bad(where, "expected a whole number");
      r.SetInt64(&into, &f, *number);
      return {};
    }
    default: return bad(where, "cannot be read");
  }
}

status read_map(const json& value, gp::Message& into, const gp::FieldDescriptor& f,
                const std::string& where) {
  if (!value.is_object()) return bad(where, "expected an object");
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) return bad(where + "." + key, "expected a string");
    auto& entry = *into.GetReflection()->AddMessage(&into, &f);
    const auto& type = *entry.GetDescriptor();
    entry.GetReflection()->SetString(&entry, type.map_key(), key);
    entry.GetReflection()->SetString(&entry, type.map_value(), text_value(text));
  }
  return {};
}

status read(const json& value, gp::Message& into, const std::string& where) {
  if (value.is_null()) return {};
  if (!value.is_object()) return bad(where.empty() ? "policy" : where, "expected an object");
  for (const auto& [key, member] : value.items()) {
    auto at = where.empty() ? key : where + "." + key;
    const auto* f = field_named(*into.GetDescriptor(), key);
    if (!f) return bad(at, "unknown key");
    if (member.is_null()) continue;
    if (f->is_map()) {
      KILN_CHECK(read_map(member, into, *f, at));
    } else if (f->is_repeated()) {
      if (!member.is_array()) return bad(at, "expected a list");
      for (std::size_t i = 0; i < member.size(); ++i)
        KILN_CHECK(read_one(member[i], into, *f, at + "[" + std::to_string(i) + "]"));
    } else {
      KILN_CHECK(read_one(member, into, *f, at));
    }
  }
  return {};
}

}  // namespace

result<moby::buildkit::v1::sourcepolicy::Policy> parse_source_policy(std::string_view text) {
  KILN_TRY(auto document, parse_json(text));
  moby::buildkit::v1::sourcepolicy::Policy out;
  KILN_CHECK(read(document, out, ""));
  return out;
}

result<std::optional<moby::buildkit::v1::sourcepolicy::Policy>> source_policy_of(
    const std::string& named_file) {
  std::string origin = "source-policy-file", file = named_file;
  if (const char* value = std::getenv(source_policy_variable); file.empty() && value != nullptr) {
    origin = std::string("source policy of ") + source_policy_variable;
    file = value;
  }
  if (file.empty()) return std::optional<moby::buildkit::v1::sourcepolicy::Policy>();
  auto text = read_file(file, policy_bytes_max);
  if (!text.ok()) return std::move(text).error().with_context(origin);
  auto policy = parse_source_policy(*text);
  if (!policy.ok())
    return std::move(policy).error().with_context("failed to unmarshal " + origin + " " + quote(file));
  return std::optional(*std::move(policy));
}

}  // namespace kiln::client
