#include "messages/outside_fields.hpp"

#include <cctype>
#include <string>
#include <vector>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

namespace kiln {
namespace {

namespace gp = google::protobuf;

status check(const gp::Message& message, const std::string& path);

/// SecurityMode → "security mode", as clients know it from BuildKit's errors.
std::string in_words(const std::string& type) {
  std::string words;
  for (unsigned char c : type) {
    if (std::isupper(c) != 0 && !words.empty()) words += ' ';
    words += static_cast<char>(std::tolower(c));
  }
  return words;
}

bool has_nul(const gp::Message& message, const gp::FieldDescriptor& f, int index) {
  const auto& r = *message.GetReflection();
  std::string scratch;
  const auto& text = f.is_repeated() ? r.GetRepeatedStringReference(message, &f, index, &scratch)
                                     : r.GetStringReference(message, &f, &scratch);
  return text.find('\0') != std::string::npos;
}

status check_field(const gp::Message& message, const gp::FieldDescriptor& f, const std::string& path,
                   int index) {
  const auto& r = *message.GetReflection();
  bool many = f.is_repeated();
  bool text = f.type() == gp::FieldDescriptor::TYPE_STRING;
  if (text && !has_nul(message, f, index)) return {};
  // Attributes of sources are texts of many kinds, keys of caches among them; what becomes a path is checked
  // where it does.
  if (f.is_map() && f.message_type()->map_value()->type() == gp::FieldDescriptor::TYPE_STRING) return {};
  auto where = path + f.name() + (many ? "[" + std::to_string(index) + "]" : "");
  if (f.cpp_type() == gp::FieldDescriptor::CPPTYPE_MESSAGE)
    return check(many ? r.GetRepeatedMessage(message, &f, index) : r.GetMessage(message, &f), where + ".");
  if (text) return make_error(errc::invalid_argument, where + ": a NUL character in a text");
  int value = many ? r.GetRepeatedEnumValue(message, &f, index) : r.GetEnumValue(message, &f);
  if (f.enum_type()->FindValueByNumber(value) != nullptr) return {};
  return make_error(errc::invalid_argument, where + ": invalid " + in_words(f.enum_type()->name()) + " " +
                                                std::to_string(value) + ": unknown type");
}

// Messages nest at most as deep as protobuf parses them.
status check(const gp::Message& message, const std::string& path) {
  std::vector<const gp::FieldDescriptor*> fields;
  const auto& r = *message.GetReflection();
  r.ListFields(message, &fields);
  for (const auto* f : fields) {
    bool matters = f->cpp_type() == gp::FieldDescriptor::CPPTYPE_MESSAGE ||
                   f->cpp_type() == gp::FieldDescriptor::CPPTYPE_ENUM ||
                   f->type() == gp::FieldDescriptor::TYPE_STRING;
    if (!matters) continue;
    int count = f->is_repeated() ? r.FieldSize(message, f) : 1;
    for (int i = 0; i < count; ++i)
      if (auto s = check_field(message, *f, path, i); !s.ok()) return s;
  }
  return {};
}

}  // namespace

status check_fields(const gp::Message& message) { return check(message, ""); }

}  // namespace kiln
