// Defaults and bounds of solving, workers and builds.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kiln::configs::solving {

constexpr int cache_maps_max = 8;  // of one source (index 0, 1, …)

constexpr int exporters_max = 100;        // of one build
constexpr int cache_options_max = 100;    // imports, and exports, of one build
constexpr std::size_t refs_max = 20'000;  // results that clients and frontends ask one build for …
constexpr std::size_t definitions_bytes_max = 1024u << 20;  // … and bytes of their definitions
constexpr std::size_t quick_definition_bytes = 128u << 10;  // larger definitions are loaded on a job's thread

constexpr std::size_t vertex_log_bytes_max = 8u << 20;  // kept in a vertex for late joiners
constexpr std::size_t build_log_bytes_max = 64u << 20;  // kept in a build for late watchers and history …
constexpr std::size_t build_states_bytes_max = 128u << 20;  // … with the beginnings and ends of vertices
constexpr std::size_t status_log_bytes_max = 1u << 20;      // of log text in one status message

constexpr std::chrono::seconds find_wait{3};   // for a build to register
constexpr std::chrono::seconds watch_wait{6};  // for a build to appear
constexpr std::chrono::milliseconds silent_wait{
    500};                                             // for a worker to describe itself; longer ones are told
constexpr std::chrono::seconds finished_visible{10};  // a finished build keeps its ref
constexpr int sub_solve_depth_max = 64;               // frontends calling frontends
constexpr int policy_rounds_max = 10;            // questions about one source. Source: llbsolver/policy.go
constexpr std::chrono::seconds session_wait{5};  // for a client to connect
constexpr std::chrono::minutes session_export_wait{10};  // for its word on exporters
constexpr std::chrono::minutes policy_answer_wait{5};    // for the client's word on a source

constexpr std::chrono::seconds gc_start_delay{1};
constexpr std::chrono::seconds gc_after_build_delay{1};
constexpr std::chrono::minutes gc_interval{1};  // at most one collection in this time

constexpr std::int64_t read_file_bytes_max = 16 << 20;
constexpr std::uint64_t step_records_max = 20'000;        // remembered steps, for reasons
constexpr std::size_t step_record_bytes_max = 64u << 10;  // of one; larger ones are not remembered

}  // namespace kiln::configs::solving
