#include "solver/go_json.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/base64.hpp"
#include "base/quoting.hpp"
#include "ops.pb.h"
#include "solver/exact_json.hpp"

namespace kiln::solver {

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

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
      if (f->type() == FieldDescriptor::TYPE_BYTES) return go_json_bytes(text);
      return s.exact ? exact_json_string(text) : go_json_string(text);
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return message_json(repeated ? r.GetRepeatedMessage(m, f, index) : r.GetMessage(m, f), s);
    default: return "0";  // floating point: no op has any
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
      if (r.FieldSize(m, f) > 0)
        o.add(name, f->is_map() ? map_field(m, r, f, s) : repeated_field(m, r, f, s));
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

std::string go_json_bytes(std::string_view bytes) { return "\"" + base64_encode(bytes) + "\""; }

std::string go_json(const Message& message) { return message_json(message, {}); }

std::string exact_json(const Message& message) { return message_json(message, {.exact = true}); }

std::string proto_json(const Message& message) { return message_json(message, {.protobuf = true}); }

}  // namespace kiln::solver
