// Values as Go programs show them: for `--format` templates and `{{json .}}`. Pure.
// An object keeps every field; fields with Go's omitempty are left out of its JSON when they are zero.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace google::protobuf {
class Message;
}

namespace kiln::client {

struct go_field;

struct go_value {
  struct object {
    std::vector<go_field> fields;
  };
  using array = std::vector<go_value>;
  /// Sorted by name.
  struct map {
    std::vector<go_field> entries;
    void set(std::string name, go_value value);
  };

  std::variant<std::monostate, bool, std::int64_t, double, std::string, array, map, object> data;

  go_value() = default;
  go_value(bool v) : data(v) {}                      // NOLINT: implicit by design
  go_value(std::int64_t v) : data(v) {}              // NOLINT
  go_value(int v) : data(std::int64_t{v}) {}         // NOLINT
  go_value(double v) : data(v) {}                    // NOLINT
  go_value(std::string v) : data(std::move(v)) {}    // NOLINT
  go_value(const char* v) : data(std::string(v)) {}  // NOLINT
  go_value(array v) : data(std::move(v)) {}          // NOLINT
  go_value(map v);                                   // NOLINT
  go_value(object v);                                // NOLINT

  /// Go's notion of an empty value (false, 0, "", empty list, nil).
  bool is_zero() const;
  /// The field or map entry of that name; names are compared without case and underscores. Null when there is
  /// none.
  const go_value* find(std::string_view name) const;
};

struct go_field {
  std::string name;  // as in JSON
  go_value value;
  bool omit_empty = false;
};

inline go_value::go_value(object v) : data(std::move(v)) {}
inline go_value::go_value(map v) : data(std::move(v)) {}

/// JSON as Go's encoding/json writes it; <, > and & escaped only with `html`.
std::string to_json(const go_value& value, bool html = false);
/// How Go's templates print a value ("{{.X}}", %v).
std::string to_text(const go_value& value);
/// A protobuf message as Go's generated structs marshal: names of the .proto, everything omitempty,
/// Timestamps as {seconds, nanos}, enums as numbers, bytes as base64, a oneof as an object of its own.
go_value from_message(const google::protobuf::Message& message);

}  // namespace kiln::client
