// Errors as values: what every fallible function of Kiln returns.
// Knows nothing of CAF or gRPC; actors and the gateway convert at their own edges.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace kiln {

/// Error codes; the values equal gRPC's status codes.
enum class errc : std::uint8_t {
  ok = 0,
  cancelled = 1,
  unknown = 2,
  invalid_argument = 3,
  deadline_exceeded = 4,
  not_found = 5,
  already_exists = 6,
  permission_denied = 7,
  resource_exhausted = 8,
  failed_precondition = 9,
  aborted = 10,
  out_of_range = 11,
  unimplemented = 12,
  internal = 13,
  unavailable = 14,
  data_loss = 15,
  unauthenticated = 16,
};

std::string_view to_string(errc code);

/// One typed detail of an error: a type URL and its JSON text (docs/wire.md, "Error details").
struct error_detail {
  std::string type_url;
  std::string value;
  bool operator==(const error_detail&) const = default;
};

template <class Inspector>
auto inspect(Inspector& f, error_detail& x) {
  return f(x.type_url, x.value);
}

/// A failure: what went wrong, in words a user understands, and typed details for clients.
struct error {
  errc code = errc::unknown;
  std::string message;
  std::vector<error_detail> details;

  /// Prefixes the message with the layer's own context: "context: message".
  error with_context(std::string_view context) && {
    message = std::string(context) + ": " + message;
    return std::move(*this);
  }
  bool operator==(const error&) const = default;
};

template <class Inspector>
auto inspect(Inspector& f, error& x) {
  return f(x.code, x.message, x.details);
}

/// Builds an error from a code and a message.
inline error make_error(errc code, std::string message) { return {code, std::move(message), {}}; }

/// Builds an error from errno: "what: No such file or directory", with the code that fits.
error errno_error(int err, std::string_view what);

/// A value or an error.
template <class T>
class [[nodiscard]] result {
 public:
  using value_type = T;

  result(T value) : state_(std::in_place_index<0>, std::move(value)) {}        // NOLINT: implicit by design
  result(kiln::error err) : state_(std::in_place_index<1>, std::move(err)) {}  // NOLINT: implicit by design

  bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }

  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const kiln::error& error() const& { return std::get<1>(state_); }
  kiln::error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, kiln::error> state_;
};

/// Success or an error.
template <>
class [[nodiscard]] result<void> {
 public:
  result() = default;
  result(kiln::error err) : error_(std::move(err)) {}  // NOLINT: implicit by design

  bool ok() const noexcept { return !error_; }
  explicit operator bool() const noexcept { return ok(); }
  const kiln::error& error() const& { return *error_; }
  kiln::error&& error() && { return *std::move(error_); }

 private:
  std::optional<kiln::error> error_;
};

using status = result<void>;

}  // namespace kiln

#define KILN_CONCAT_(a, b) a##b
#define KILN_CONCAT(a, b) KILN_CONCAT_(a, b)

/// `KILN_TRY(auto x, f());` binds x to f's value or returns f's error from the enclosing function.
#define KILN_TRY(decl, expr) KILN_TRY_(KILN_CONCAT(kiln_try_, __LINE__), decl, expr)
#define KILN_TRY_(tmp, decl, expr)              \
  auto tmp = (expr);                            \
  if (!tmp.ok()) return std::move(tmp).error(); \
  decl = *std::move(tmp)

/// `KILN_CHECK(f());` returns f's error from the enclosing function, if any.
#define KILN_CHECK(expr)                                                                     \
  do {                                                                                       \
    if (auto kiln_check_ = (expr); !kiln_check_.ok()) return std::move(kiln_check_).error(); \
  } while (false)
