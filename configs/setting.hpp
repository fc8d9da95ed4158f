// One setting of the daemon, as everybody needs it who reads, checks or explains it: the config file
// (daemon_config), the flags (daemon_flags) and the reference page (tests/client/reference_test). Knows
// nothing of TOML, nor of command lines. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.hpp"

namespace kiln::configs::settings {

/// What is said of a setting beside its kind of value. The texts live as long as the program.
struct setting {
  std::string_view key;            // in its table; empty: only a flag
  std::string_view flag;           // empty: only a key
  std::string_view does;           // one line
  std::string_view unset = {};     // what stands for a default that does not speak for itself
  std::string_view variable = {};  // of the environment; goes over the file, and the flag over it
  std::string_view instead = {};   // of an outdated setting: what is said instead
};

/// A value as the file or a flag has it. monostate: something else, such as a date.
using raw_value = std::variant<std::monostate, bool, std::int64_t, std::string, std::vector<std::string>,
                               std::map<std::string, std::string>>;

/// How often a flag may be given, and whether with a value.
enum class flag_form { toggle, once, repeated };

// The kinds of values: each refers to where the value lives. `assign` takes a raw value or says what is
// wanted instead ("a number from 0 to 10"); `from_flag` makes a raw value of what a flag was given; `type`,
// `range` and `shown` are for readers, in words.

template <class T>
struct plain;

template <>
struct plain<bool> {
  bool& value;
  static constexpr auto form = flag_form::toggle;
  static constexpr std::string_view type = "true or false";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const { return ""; }
  std::string shown() const { return value ? "true" : "false"; }
};

template <>
struct plain<std::optional<bool>> {
  std::optional<bool>& value;
  static constexpr auto form = flag_form::toggle;
  static constexpr std::string_view type = "true or false";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const { return ""; }
  std::string shown() const { return ""; }
};

template <>
struct plain<std::string> {
  std::string& value;
  static constexpr auto form = flag_form::once;
  static constexpr std::string_view type = "text";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const { return ""; }
  std::string shown() const { return value; }
};

template <>
struct plain<std::vector<std::string>> {
  std::vector<std::string>& value;
  static constexpr auto form = flag_form::repeated;
  static constexpr std::string_view type = "texts";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const { return ""; }
  std::string shown() const;
};

/// Texts by name. Those of a flag ("name=text", repeated) come to those of the file.
template <>
struct plain<std::map<std::string, std::string>> {
  std::map<std::string, std::string>& value;
  static constexpr auto form = flag_form::repeated;
  static constexpr std::string_view type = "table of texts";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const { return ""; }
  std::string shown() const { return ""; }
};

template <class T>
plain(T&) -> plain<T>;

struct number {
  int& value;
  std::int64_t least = 0;
  std::int64_t most = 1'000'000'000;
  static constexpr auto form = flag_form::once;
  static constexpr std::string_view type = "number";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const;
  std::string shown() const { return std::to_string(value); }
};

/// A user or group of the system.
struct owner_id {
  std::optional<std::int64_t>& value;
  static constexpr std::int64_t most = 0xfffffffe;  // the one beyond means "leave as it is" to the system
  static constexpr auto form = flag_form::once;
  static constexpr std::string_view type = "number";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const;
  std::string shown() const { return ""; }
};

/// One text out of a few; true and false are as good as their texts.
struct choice {
  std::string& value;
  std::vector<std::string_view> of;
  static constexpr auto form = flag_form::once;
  static constexpr std::string_view type = "text";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const;
  std::string shown() const { return value; }
};

struct choices {
  std::vector<std::string>& value;
  std::vector<std::string_view> of;
  static constexpr auto form = flag_form::repeated;
  static constexpr std::string_view type = "texts";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const;
  std::string shown() const;
};

/// A Go duration, or whole seconds.
struct duration {
  std::int64_t& value_ns;
  std::chrono::nanoseconds least{0};
  std::chrono::nanoseconds most{std::chrono::nanoseconds::max()};
  static constexpr auto form = flag_form::once;
  static constexpr std::string_view type = "duration";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const;
  std::string shown() const;
};

/// A size on the disk, a text until the disk is known (configs/units.hpp).
struct disk_space {
  std::string& value;
  bool older_name = false;  // takes effect only where the newer name does not stand
  static constexpr auto form = flag_form::once;
  static constexpr std::string_view type = "size";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const { return ""; }
  std::string shown() const { return older_name ? "" : value; }
};

/// "Reserved[,Free[,Maximum]]" in MB (10^6).
struct keep_storage {
  std::string& reserved;
  std::string& free;
  std::string& maximum;
  static constexpr auto form = flag_form::once;
  static constexpr std::string_view type = "sizes in MB";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const { return ""; }
  std::string shown() const { return ""; }
};

/// A text in a map, where it has its name only when it is not empty.
struct named_text {
  std::map<std::string, std::string>& texts;
  std::string_view name;
  static constexpr auto form = flag_form::once;
  static constexpr std::string_view type = "text";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const { return ""; }
  std::string shown() const { return ""; }
};

/// A shell's line for a program that is else given as words; the words count.
struct shell_line {
  std::vector<std::string>& words;
  static constexpr auto form = flag_form::once;
  static constexpr std::string_view type = "text";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const { return ""; }
  std::string shown() const { return ""; }
};

/// A switch that stands for one log level.
struct log_switch {
  std::string& level;
  std::string_view name;
  static constexpr auto form = flag_form::toggle;
  static constexpr std::string_view type = "true or false";
  std::optional<std::string> assign(const raw_value& raw) const;
  std::string range() const { return ""; }
  std::string shown() const { return "false"; }
};

/// What BuildKit has and Kiln has not. Not to ask for it (false, "auto", nothing) is all right; to ask for it
/// is an error where a build would come out otherwise than wanted, and else a warning.
struct lacking {
  enum class answer { refuse, warn };
  answer asked;
  flag_form form = flag_form::once;
  static constexpr std::string_view type = "";
};

/// Whether a value asks for something.
bool asks(const raw_value& raw);

}  // namespace kiln::configs::settings
