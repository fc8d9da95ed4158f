#include "client/commands/go_value.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <google/protobuf/message.h>

#include "base/base64.hpp"
#include "base/quoting.hpp"
#include "client/folded_name.hpp"

namespace kiln::client {
namespace {

template <class... Ts>
struct overloaded : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
overloaded(Ts...) -> overloaded<Ts...>;

go_value scalar(const google::protobuf::Message& m, const google::protobuf::FieldDescriptor* f, int index) {
  using google::protobuf::FieldDescriptor;
  const auto* r = m.GetReflection();
  bool repeated = index >= 0;
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return std::int64_t{repeated ? r->GetRepeatedInt32(m, f, index) : r->GetInt32(m, f)};
    case FieldDescriptor::CPPTYPE_INT64:
      return std::int64_t{repeated ? r->GetRepeatedInt64(m, f, index) : r->GetInt64(m, f)};
    case FieldDescriptor::CPPTYPE_UINT32:
      return std::int64_t{repeated ? r->GetRepeatedUInt32(m, f, index) : r->GetUInt32(m, f)};
    case FieldDescriptor::CPPTYPE_UINT64:
      return static_cast<std::int64_t>(repeated ? r->GetRepeatedUInt64(m, f, index) : r->GetUInt64(m, f));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return repeated ? r->GetRepeatedDouble(m, f, index) : r->GetDouble(m, f);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return double{repeated ? r->GetRepeatedFloat(m, f, index) : r->GetFloat(m, f)};
    case FieldDescriptor::CPPTYPE_BOOL: return repeated ? r->GetRepeatedBool(m, f, index) : r->GetBool(m, f);
    case FieldDescriptor::CPPTYPE_ENUM:
      return std::int64_t{repeated ? r->GetRepeatedEnumValue(m, f, index) : r->GetEnumValue(m, f)};
    case FieldDescriptor::CPPTYPE_STRING: {
      auto text = repeated ? r->GetRepeatedString(m, f, index) : r->GetString(m, f);
      return f->type() == FieldDescriptor::TYPE_BYTES ? base64_encode(text) : text;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return from_message(repeated ? r->GetRepeatedMessage(m, f, index) : r->GetMessage(m, f));
  }
  return {};
}

std::string json_key(const google::protobuf::Message& entry, const google::protobuf::FieldDescriptor* key) {
  auto value = scalar(entry, key, -1);
  return to_text(value);
}

// File actions tell their indexes even when they are 0. Source: buildkit solver/pb/json.go.
bool always_written(const google::protobuf::FieldDescriptor& f) {
  return f.containing_type()->full_name() == "pb.FileAction";
}

}  // namespace

void go_value::map::set(std::string name, go_value value) {
  auto at = std::lower_bound(entries.begin(), entries.end(), name,
                             [](const go_field& e, const std::string& n) { return e.name < n; });
  if (at != entries.end() && at->name == name) at->value = std::move(value);
  else entries.insert(at, {std::move(name), std::move(value), false});
}

bool go_value::is_zero() const {
  return std::visit(
      overloaded{[](std::monostate) { return true; }, [](bool v) { return !v; },
                 [](std::int64_t v) { return v == 0; }, [](double v) { return v == 0; },
                 [](const std::string& v) { return v.empty(); }, [](const array& v) { return v.empty(); },
                 [](const map& v) { return v.entries.empty(); }, [](const object&) { return false; }},
      data);
}

const go_value* go_value::find(std::string_view name) const {
  if (const auto* m = std::get_if<map>(&data)) {
    for (const auto& e : m->entries)
      if (e.name == name) return &e.value;
    return nullptr;
  }
  if (const auto* o = std::get_if<object>(&data)) {
    auto wanted = folded(name);
    for (const auto& f : o->fields)
      if (folded(f.name) == wanted) return &f.value;
  }
  return nullptr;
}

std::string to_json(const go_value& value, bool html) {
  auto joined = [](std::string out, char close) {
    if (out.back() == ',') out.pop_back();
    return out + close;
  };
  return std::visit(overloaded{[](std::monostate) { return std::string("null"); },
                               [](bool v) { return std::string(v ? "true" : "false"); },
                               [](std::int64_t v) { return fmt::format("{}", v); },
                               [](double v) { return fmt::format("{}", v); },
                               [&](const std::string& v) { return go_json_string(v, html); },
                               [&](const go_value::array& v) {
                                 std::string out = "[";
                                 for (const auto& x : v) out += to_json(x, html) + ",";
                                 return joined(std::move(out), ']');
                               },
                               [&](const go_value::map& v) {
                                 std::string out = "{";
                                 for (const auto& e : v.entries)
                                   out += go_json_string(e.name, html) + ":" + to_json(e.value, html) + ",";
                                 return joined(std::move(out), '}');
                               },
                               [&](const go_value::object& v) {
                                 std::string out = "{";
                                 for (const auto& f : v.fields)
                                   if (!f.omit_empty || !f.value.is_zero())
                                     out += go_json_string(f.name, html) + ":" + to_json(f.value, html) + ",";
                                 return joined(std::move(out), '}');
                               }},
                    value.data);
}

std::string to_text(const go_value& value) {
  auto list = [](const auto& items, auto text) {
    std::string out;
    for (const auto& item : items) out += (out.empty() ? "" : " ") + text(item);
    return out;
  };
  return std::visit(
      overloaded{[](std::monostate) { return std::string("<nil>"); },
                 [](bool v) { return std::string(v ? "true" : "false"); },
                 [](std::int64_t v) { return fmt::format("{}", v); },
                 [](double v) { return fmt::format("{}", v); }, [](const std::string& v) { return v; },
                 [&](const go_value::array& v) {
                   return "[" + list(v, [](const go_value& x) { return to_text(x); }) + "]";
                 },
                 [&](const go_value::map& v) {
                   return "map[" +
                          list(v.entries, [](const go_field& e) { return e.name + ":" + to_text(e.value); }) +
                          "]";
                 },
                 [&](const go_value::object& v) {
                   return "{" + list(v.fields, [](const go_field& f) { return to_text(f.value); }) + "}";
                 }},
      value.data);
}

go_value from_message(const google::protobuf::Message& message) {
  const auto* descriptor = message.GetDescriptor();
  const auto* reflection = message.GetReflection();
  go_value::object out;
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const auto* f = descriptor->field(i);
    go_value value;
    if (const auto* oneof = f->real_containing_oneof()) {
      if (f != oneof->field(0)) continue;
      go_value::object chosen;
      if (const auto* set = reflection->GetOneofFieldDescriptor(message, oneof))
        chosen.fields.push_back({set->name(), scalar(message, set, -1), false});
      auto name = oneof->name();
      name[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(name[0])));
      out.fields.push_back({std::move(name), std::move(chosen), false});
      continue;
    }
    if (f->is_map()) {
      go_value::map entries;
      for (int k = 0; k < reflection->FieldSize(message, f); ++k) {
        const auto& entry = reflection->GetRepeatedMessage(message, f, k);
        entries.set(json_key(entry, entry.GetDescriptor()->map_key()),
                    scalar(entry, entry.GetDescriptor()->map_value(), -1));
      }
      value = std::move(entries);
    } else if (f->is_repeated()) {
      go_value::array items;
      for (int k = 0; k < reflection->FieldSize(message, f); ++k) items.push_back(scalar(message, f, k));
      value = std::move(items);
    } else if (f->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
      if (reflection->HasField(message, f)) value = scalar(message, f, -1);
    } else {
      value = scalar(message, f, -1);
    }
    out.fields.push_back({f->name(), std::move(value), !always_written(*f)});
  }
  return out;
}

}  // namespace kiln::client
