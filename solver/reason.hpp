// Why did this step run although an earlier build ran it? One short line, or nothing when it is new.
// Pure: compares what a step counted by now with what it counted by when it was last remembered.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln::solver {

/// What one execution of a step counted by; kept between builds.
struct step_record {
  std::string op_digest;
  struct input {
    std::string name;  // of the input's vertex
    std::string key;   // content key or primary key
    bool by_content = false;
    bool operator==(const input&) const = default;
  };
  std::vector<input> inputs;
  bool operator==(const step_record&) const = default;
};

/// Why a result was not taken from the cache, as far as the vertex itself knows.
enum class miss_cause { no_match, evicted, ignored, forced };

/// A line such as "rebuilt because the content of [internal] load build context changed"; nothing
/// when no earlier build ran a comparable step. `previous`: the record kept under step_position().
std::optional<std::string> explain(miss_cause cause, const step_record& now,
                                   const std::optional<step_record>& previous);

/// Where a step stands in its build, stable while its text changes: the bracketed prefix of a
/// Dockerfile step's name ("[build 3/5]"), otherwise the whole name; with the platform.
std::string step_position(std::string_view vertex_name, std::string_view platform);

std::string encode(const step_record& record);
result<step_record> decode_step_record(std::string_view text);

}  // namespace kiln::solver
