#include "solver/go_json.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include <openssl/evp.h>

#include "ops.pb.h"
#include "solver/exact_json.hpp"

namespace kiln::solver {

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

/// Length of the valid UTF-8 sequence at the front of text; 0 when there is none.
std::size_t utf8_length(std::string_view text) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  auto follows = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    unsigned low = first == 0xe0 ? 0xa0 : 0x80, high = first == 0xed ? 0x9f : 0xbf;
    return follows(1, low, high) && follows(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    unsigned low = first == 0xf0 ? 0x90 : 0x80, high = first == 0xf4 ? 0x8f : 0xbf;
    return follows(1, low, high) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

/// An object under construction.
class object {
 public:
  void add(std::string_view key, std::string_view json) {
    out_ += out_.size() > 1 ? "," : "";
    out_ += go_json_string(key);
    out_ += ':';
    out_ += json;
  }
  std::string finish() { return std::move(out_) + "}"; }

 private:
  std::string out_ = "{";
};

/// How a message is written.
struct style {
  bool protobuf = false;  // protobuf's own JSON, not Go's structs
  bool exact = false;     // bytes that are no UTF-8 are kept
};

std::string quoted(std::string_view text, bool exact);

std::string message_json(const Message& m, style s);

/// A 64-bit integer, which JSON readers may not take whole.
std::string wide(const std::string& digits, style s) { return s.protobuf ? "\"" + digits + "\"" : digits; }

std::string enum_json(const FieldDescriptor* f, int number, style s) {
  const auto* value = s.protobuf ? f->enum_type()->FindValueByNumber(number) : nullptr;
  return value ? go_json_string(value->name()) : std::to_string(number);
}

std::string scalar(const Message& m, const Reflection& r, const FieldDescriptor* f, int index, style s) {
  bool repeated = index >= 0;
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return std::to_string(repeated ? r.GetRepeatedInt32(m, f, index) : r.GetInt32(m, f));
    case FieldDescriptor::CPPTYPE_INT64:
      return wide(std::to_string(repeated ? r.GetRepeatedInt64(m, f, index) : r.GetInt64(m, f)), s);
    case FieldDescriptor::CPPTYPE_UINT32:
      return std::to_string(repeated ? r.GetRepeatedUInt32(m, f, index) : r.GetUInt32(m, f));
    case FieldDescriptor::CPPTYPE_UINT64:
      return wide(std::to_string(repeated ? r.GetRepeatedUInt64(m, f, index) : r.GetUInt64(m, f)), s);
    case FieldDescriptor::CPPTYPE_ENUM:
      return enum_json(f, repeated ? r.GetRepeatedEnumValue(m, f, index) : r.GetEnumValue(m, f), s);
    case FieldDescriptor::CPPTYPE_BOOL:
      return (repeated ? r.GetRepeatedBool(m, f, index) : r.GetBool(m, f)) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_STRING: {
      auto text = repeated ? r.GetRepeatedString(m, f, index) : r.GetString(m, f);
      return f->type() == FieldDescriptor::TYPE_BYTES ? go_json_bytes(text) : quoted(text, s.exact);
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return message_json(repeated ? r.GetRepeatedMessage(m, f, index) : r.GetMessage(m, f), s);
    default:
      return "0";  // floating point: no op has any
  }
}

std::string map_field(const Message& m, const Reflection& r, const FieldDescriptor* f, style s) {
  std::vector<std::pair<std::string, std::string>> entries;
  const auto* key = f->message_type()->map_key();
  const auto* value = f->message_type()->map_value();
  for (int i = 0; i < r.FieldSize(m, f); ++i) {
    const auto& entry = r.GetRepeatedMessage(m, f, i);
    const auto& er = *entry.GetReflection();
    auto name = key->cpp_type() == FieldDescriptor::CPPTYPE_STRING ? er.GetString(entry, key)
                                                                   : scalar(entry, er, key, -1, {});
    entries.emplace_back(std::move(name), scalar(entry, er, value, -1, s));
  }
  std::sort(entries.begin(), entries.end());
  object o;
  for (const auto& [name, json] : entries) o.add(name, json);
  return o.finish();
}

std::string repeated_field(const Message& m, const Reflection& r, const FieldDescriptor* f, style s) {
  std::string out = "[";
  for (int i = 0; i < r.FieldSize(m, f); ++i) {
    if (i > 0) out += ',';
    out += scalar(m, r, f, i, s);
  }
  return out + "]";
}

std::string plain(const Message& m, style s) {
  const auto& r = *m.GetReflection();
  const auto& d = *m.GetDescriptor();
  object o;
  for (int i = 0; i < d.field_count(); ++i) {
    const auto* f = d.field(i);
    const auto& name = s.protobuf ? f->json_name() : f->name();
    if (f->is_repeated()) {
      if (r.FieldSize(m, f) > 0) o.add(name, f->is_map() ? map_field(m, r, f, s) : repeated_field(m, r, f, s));
    } else if (r.HasField(m, f)) {
      o.add(name, scalar(m, r, f, -1, s));
    }
  }
  return o.finish();
}

std::string op_json(const pb::Op& op, style s) {
  object o;
  if (op.inputs_size() > 0) {
    std::string list = "[";
    for (const auto& input : op.inputs()) list += (list.size() > 1 ? "," : "") + plain(input, s);
    o.add("inputs", list + "]");
  }
  object kind;
  if (op.has_exec()) kind.add("exec", message_json(op.exec(), s));
  if (op.has_source()) kind.add("source", message_json(op.source(), s));
  if (op.has_file()) kind.add("file", message_json(op.file(), s));
  if (op.has_build()) kind.add("build", message_json(op.build(), s));
  if (op.has_merge()) kind.add("merge", message_json(op.merge(), s));
  if (op.has_diff()) kind.add("diff", message_json(op.diff(), s));
  if (op.has_passthrough()) kind.add("passthrough", message_json(op.passthrough(), s));
  o.add("Op", kind.finish());
  if (op.has_platform()) o.add("platform", message_json(op.platform(), s));
  if (op.has_constraints()) o.add("constraints", message_json(op.constraints(), s));
  return o.finish();
}

std::string file_action_json(const pb::FileAction& action, style s) {
  object o;
  o.add("input", std::to_string(action.input()));
  o.add("secondaryInput", std::to_string(action.secondaryinput()));
  o.add("output", std::to_string(action.output()));
  object kind;
  if (action.has_copy()) kind.add("copy", message_json(action.copy(), s));
  if (action.has_mkfile()) kind.add("mkfile", message_json(action.mkfile(), s));
  if (action.has_mkdir()) kind.add("mkdir", message_json(action.mkdir(), s));
  if (action.has_rm()) kind.add("rm", message_json(action.rm(), s));
  o.add("Action", kind.finish());
  return o.finish();
}

std::string user_json(const pb::UserOpt& user, style s) {
  object kind;
  if (user.has_byname()) kind.add("byName", message_json(user.byname(), s));
  if (user.has_byid() && user.byid() != 0) kind.add("byId", std::to_string(user.byid()));
  object o;
  o.add("User", kind.finish());
  return o.finish();
}

std::string message_json(const Message& m, style s) {
  if (s.protobuf) return plain(m, s);
  if (const auto* op = dynamic_cast<const pb::Op*>(&m)) return op_json(*op, s);
  if (const auto* action = dynamic_cast<const pb::FileAction*>(&m)) return file_action_json(*action, s);
  if (const auto* user = dynamic_cast<const pb::UserOpt*>(&m)) return user_json(*user, s);
  return plain(m, s);
}

}  // namespace

namespace {

std::string quoted(std::string_view text, bool exact) {
  static constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  while (!text.empty()) {
    auto length = utf8_length(text);
    if (length == 0) {
      if (exact) out += text[0];
      else out += "\\ufffd";
      text.remove_prefix(1);
      continue;
    }
    if (length > 1) {
      auto sequence = text.substr(0, length);
      if (sequence == "\xe2\x80\xa8") {
        out += "\\u2028";
      } else if (sequence == "\xe2\x80\xa9") {
        out += "\\u2029";
      } else {
        out += sequence;
      }
      text.remove_prefix(length);
      continue;
    }
    auto c = static_cast<unsigned char>(text[0]);
    text.remove_prefix(1);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (c < 0x20 || c == '<' || c == '>' || c == '&') {
          out += "\\u00";
          out += hex[c >> 4];
          out += hex[c & 15];
        } else {
          out += static_cast<char>(c);
        }
    }
  }
  return out + "\"";
}

}  // namespace

std::string go_json_string(std::string_view text) { return quoted(text, false); }

std::string exact_json_string(std::string_view text) { return quoted(text, true); }

std::string base64(std::string_view bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');
  int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                               reinterpret_cast<const unsigned char*>(bytes.data()),
                               static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(length));
  return out;
}

std::string go_json_bytes(std::string_view bytes) { return "\"" + base64(bytes) + "\""; }

std::string go_json(const Message& message) { return message_json(message, {}); }

std::string exact_json(const Message& message) { return message_json(message, {.exact = true}); }

std::string proto_json(const Message& message) { return message_json(message, {.protobuf = true}); }

}  // namespace kiln::solver
