#include "frontends/go_json.hpp"

#include <map>

#include <openssl/evp.h>

#include "messages/json_text.hpp"

namespace kiln::frontends {

namespace gp = google::protobuf;
using nlohmann::ordered_json;

std::string base64(std::string_view bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  auto written =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(written));
  return out;
}

std::string go_json(const ordered_json& document, int indent) {
  auto raw = json_text(document, indent);
  // These characters occur inside strings only, where their escape means the same.
  std::string out;
  out.reserve(raw.size());
  for (std::size_t i = 0; i < raw.size(); ++i) {
    auto c = raw[i];
    if (c == '<') out += "\\u003c";
    else if (c == '>') out += "\\u003e";
    else if (c == '&') out += "\\u0026";
    else if (c == '\xe2' && raw.compare(i, 3, "\xe2\x80\xa8") == 0) out += "\\u2028", i += 2;
    else if (c == '\xe2' && raw.compare(i, 3, "\xe2\x80\xa9") == 0) out += "\\u2029", i += 2;
    else out += c;
  }
  return out;
}

namespace {

ordered_json field_value(const gp::Message& m, const gp::FieldDescriptor& f, int index) {
  const auto& r = *m.GetReflection();
  bool many = index >= 0;
  switch (f.cpp_type()) {
    case gp::FieldDescriptor::CPPTYPE_INT32:
      return many ? r.GetRepeatedInt32(m, &f, index) : r.GetInt32(m, &f);
    case gp::FieldDescriptor::CPPTYPE_INT64:
      return many ? r.GetRepeatedInt64(m, &f, index) : r.GetInt64(m, &f);
    case gp::FieldDescriptor::CPPTYPE_UINT32:
      return many ? r.GetRepeatedUInt32(m, &f, index) : r.GetUInt32(m, &f);
    case gp::FieldDescriptor::CPPTYPE_UINT64:
      return many ? r.GetRepeatedUInt64(m, &f, index) : r.GetUInt64(m, &f);
    case gp::FieldDescriptor::CPPTYPE_DOUBLE:
      return many ? r.GetRepeatedDouble(m, &f, index) : r.GetDouble(m, &f);
    case gp::FieldDescriptor::CPPTYPE_FLOAT:
      return many ? r.GetRepeatedFloat(m, &f, index) : r.GetFloat(m, &f);
    case gp::FieldDescriptor::CPPTYPE_BOOL: return many ? r.GetRepeatedBool(m, &f, index) : r.GetBool(m, &f);
    case gp::FieldDescriptor::CPPTYPE_ENUM:
      return many ? r.GetRepeatedEnumValue(m, &f, index) : r.GetEnumValue(m, &f);
    case gp::FieldDescriptor::CPPTYPE_STRING: {
      auto text = many ? r.GetRepeatedString(m, &f, index) : r.GetString(m, &f);
      return f.type() == gp::FieldDescriptor::TYPE_BYTES ? base64(text) : text;
    }
    case gp::FieldDescriptor::CPPTYPE_MESSAGE:
      return go_struct(many ? r.GetRepeatedMessage(m, &f, index) : r.GetMessage(m, &f));
  }
  return nullptr;
}

std::string key_text(const gp::Message& entry, const gp::FieldDescriptor& key) {
  auto value = field_value(entry, key, -1);
  return value.is_string() ? text_value(value) : json_text(value);
}

}  // namespace

ordered_json go_struct(const gp::Message& message) {
  auto out = ordered_json::object();
  const auto& d = *message.GetDescriptor();
  const auto& r = *message.GetReflection();
  for (int i = 0; i < d.field_count(); ++i) {
    const auto& f = *d.field(i);
    if (f.is_map()) {
      std::map<std::string, ordered_json> sorted;
      for (int k = 0; k < r.FieldSize(message, &f); ++k) {
        const auto& entry = r.GetRepeatedMessage(message, &f, k);
        const auto& type = *entry.GetDescriptor();
        sorted[key_text(entry, *type.map_key())] = field_value(entry, *type.map_value(), -1);
      }
      if (sorted.empty()) continue;
      auto object = ordered_json::object();
      for (auto& [key, value] : sorted) object[key] = std::move(value);
      out[f.name()] = std::move(object);
    } else if (f.is_repeated()) {
      auto size = r.FieldSize(message, &f);
      if (size == 0) continue;
      auto list = ordered_json::array();
      for (int k = 0; k < size; ++k) list.push_back(field_value(message, f, k));
      out[f.name()] = std::move(list);
    } else if (r.HasField(message, &f)) {
      out[f.name()] = field_value(message, f, -1);
    }
  }
  return out;
}

}  // namespace kiln::frontends
