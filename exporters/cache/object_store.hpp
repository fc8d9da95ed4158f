// Caches kept as plain objects: one per layer blob, and the cache config under one or several names.
// What S3, Azure Blob Storage and GitHub's Actions cache have in common. Source:
// cache/remotecache/{s3,azblob,gha}.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "exporters/cache/cache_exporter.hpp"
#include "exporters/cache/cache_importer.hpp"

namespace kiln::exporters {

struct object_info {
  std::int64_t size = 0;                   // bytes
  std::optional<std::int64_t> modified_s;  // Unix epoch
};

/// What is put. `open` gives the bytes from an offset on; it is called again when a request is repeated.
struct object_body {
  std::int64_t size = 0;
  kiln::digest sha256;
  std::function<result<std::unique_ptr<store::byte_source>>(std::int64_t offset)> open;
};

/// One bucket or container, for one job. Blocking; serves several threads.
class object_store {
 public:
  virtual ~object_store() = default;
  /// Nothing when there is no such object.
  virtual result<std::optional<object_info>> find(const std::string& key) = 0;
  /// Feeds the object from byte `offset` on to `use`; not_found when there is none.
  virtual status get(const std::string& key, std::int64_t offset,
                     const std::function<status(std::string_view)>& use) = 0;
  virtual status put(const std::string& key, const object_body& body) = 0;
  /// Makes the object young again, for stores that expire what nobody wrote lately: see touch_after.
  virtual status touch(const std::string&, const object_info&) { return {}; }
  /// A cache config, which replaces what was under the key; and reading it.
  virtual status put_manifest(const std::string& key, const std::string& text);
  virtual status get_manifest(const std::string& key, const std::function<status(std::string_view)>& use) {
    return get(key, 0, use);
  }
};

struct object_cache_settings {
  std::string vertex_name;  // of the export
  std::vector<std::string> export_names, import_names;
  unsigned parallelism = 4;
  std::optional<std::chrono::nanoseconds> touch_after;  // unset: never touched
  std::function<std::string(const std::string& name)> manifest_key;
  std::function<std::string(const kiln::digest& blob)> blob_key;
  std::function<result<std::unique_ptr<object_store>>(const job_context& job)> open;
};

std::unique_ptr<cache_exporter> make_object_exporter(cache_options options, object_cache_settings settings,
                                                     exporter_resources resources);
/// `id`: cache_import_id().
std::unique_ptr<cache_importer> make_object_importer(std::string id, object_cache_settings settings);

/// "a;b" of the attribute `name`, or {"buildkit"}.
std::vector<std::string> object_cache_names(const attributes& attrs);

/// The back ends: settings from attributes and environment. Errors: invalid_argument names the attribute,
/// unauthenticated what credentials may be.
result<object_cache_settings> s3_settings(const attributes& attrs, exporter_resources resources);
result<object_cache_settings> azblob_settings(const attributes& attrs, exporter_resources resources);
result<object_cache_settings> gha_settings(const attributes& attrs, exporter_resources resources);

}  // namespace kiln::exporters
