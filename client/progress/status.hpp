// One update of a build's progress as every display sees it: a plain copy of the Status stream's message.
// Knows neither protobuf nor displays. Times are nanoseconds since the Unix epoch.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kiln::client {

using nanoseconds_t = std::int64_t;

struct progress_group {
  std::string id{};
  std::string name{};
  bool weak = false;
  bool operator==(const progress_group&) const = default;
};

struct vertex {
  std::string digest{};
  std::vector<std::string> inputs{};
  std::string name{};
  std::optional<nanoseconds_t> started{};
  std::optional<nanoseconds_t> completed{};
  bool cached = false;
  std::string error{};
  std::optional<progress_group> group{};
};

struct vertex_status {
  std::string id{};
  std::string vertex{};
  std::string name{};
  std::int64_t current = 0;  // bytes or counts
  std::int64_t total = 0;    // 0 when unknown
  nanoseconds_t timestamp = 0;
  std::optional<nanoseconds_t> started{};
  std::optional<nanoseconds_t> completed{};
};

struct vertex_log {
  std::string vertex{};
  int stream = 0;  // 1 stdout, 2 stderr
  std::string data{};
  nanoseconds_t timestamp = 0;
};

/// A file a message points into.
struct source_info {
  std::string filename{};
  std::string data{};
  std::string language{};
};

/// Lines are counted from 1; an end before the start means the start's line only.
struct source_range {
  int start_line = 0;
  int start_character = 0;
  int end_line = 0;
  int end_character = 0;
};

struct vertex_warning {
  std::string vertex{};
  int level = 0;
  std::string brief{};
  std::vector<std::string> detail{};
  std::string url{};
  std::optional<source_info> source{};
  std::vector<source_range> ranges{};
};

struct solve_status {
  std::vector<vertex> vertices{};
  std::vector<vertex_status> statuses{};
  std::vector<vertex_log> logs{};
  std::vector<vertex_warning> warnings{};
};

/// Statuses whose id begins so say why a step ran although an earlier build had run it (a Kiln extension).
inline constexpr const char* reason_prefix = "rebuilt: ";

}  // namespace kiln::client
