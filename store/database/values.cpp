#include "store/database/values.hpp"

#include <algorithm>

#include <spdlog/spdlog.h>

#include "store/database/metadata_db.hpp"

namespace kiln::store {

namespace {

std::string encode(std::string_view key, std::string_view value) {
  std::string text(key);
  text += '\0';
  text += value;
  return text;
}

std::string_view decode(std::string_view stored_value, std::size_t key_size) {
  return stored_value.size() > key_size ? stored_value.substr(key_size + 1) : std::string_view{};
}

status check_key(std::string_view key) {
  if (key.find('\0') == std::string_view::npos) return {};
  return make_error(errc::invalid_argument, "a key may not contain NUL");
}

}  // namespace

std::optional<std::string> value_store::of_record(std::string_view record_id, std::string_view key) const {
  std::optional<std::string> found;
  if (database_.has_queued())
    if (auto done = database_.write([](transaction&) { return status{}; }); !done)
      spdlog::error("store: {}", done.error().message);
  auto seen = database_.read([&](const transaction& t) {
    if (auto v = t.get(table::metadata, table_key(record_id, key))) found = decode(*v, key.size());
  });
  if (!seen) spdlog::error("store: {}", seen.error().message);
  return found;
}

status value_store::set_of_record(std::string_view record_id, std::string_view key, std::string_view value) {
  return database_.write([k = table_key(record_id, key), v = encode(key, value),
                          id = std::string(record_id)](transaction& t) -> status {
    if (!t.get(table::records, id)) return make_error(errc::not_found, "cache record " + id + " not found");
    return t.put(table::metadata, k, v);
  });
}

void value_store::post_of_record(std::string_view record_id, std::string_view key, std::string_view value) {
  database_.post([k = table_key(record_id, key), v = encode(key, value)](transaction& t) {
    return t.put(table::metadata, k, v);
  });
}

std::optional<std::string> value_store::get(std::string_view bucket, std::string_view key) const {
  std::optional<std::string> found;
  auto seen = database_.read([&](const transaction& t) {
    if (auto v = t.get(table::values, table_key(bucket, key))) found = decode(*v, key.size());
  });
  if (!seen) spdlog::error("store: {}", seen.error().message);
  return found;
}

status value_store::set(std::string_view bucket, std::string_view key, std::string_view value) {
  KILN_CHECK(check_key(key));
  return database_.write([k = table_key(bucket, key), v = encode(key, value)](transaction& t) {
    return t.put(table::values, k, v);
  });
}

status value_store::erase(std::string_view bucket, std::string_view key) {
  return database_.clean([k = table_key(bucket, key)](transaction& t) { return t.erase(table::values, k); });
}

status value_store::erase_unchanged(std::string_view bucket,
                                    const std::vector<std::pair<std::string, std::string>>& values) {
  return database_.write([&](transaction& t) -> status {
    for (const auto& [key, value] : values) {
      auto k = table_key(bucket, key);
      if (t.get(table::values, k) == encode(key, value)) KILN_CHECK(t.erase(table::values, k));
    }
    return {};
  });
}

std::vector<std::pair<std::string, std::string>> value_store::all(std::string_view bucket) const {
  std::vector<std::pair<std::string, std::string>> all;
  auto seen = database_.read([&](const transaction& t) {
    t.scan(table::values, key_part(bucket) + '\0', [&](auto, std::string_view v) {
      auto end = std::min(v.find('\0'), v.size());
      all.emplace_back(v.substr(0, end), decode(v, end));
      return true;
    });
  });
  if (!seen) spdlog::error("store: {}", seen.error().message);
  std::sort(all.begin(), all.end());
  return all;
}

status remembered_values::set(std::string_view key, std::string_view value) {
  if (get(key) == value) return {};
  {
    std::lock_guard lock(mutex_);
    if (set_until_look_ == 0) {
      if (auto done = forget_some(); !done) spdlog::warn("store: {}: {}", bucket_, done.error().message);
      set_until_look_ = std::max<std::size_t>(count_max_ / 2, 1);
    }
    --set_until_look_;
  }
  return values_.set(bucket_, key, value);
}

/// What is not good, and of what is good as many as are too many: all cost the same to learn again.
status remembered_values::forget_some() {
  auto gone = values_.all(bucket_);
  auto kept = std::partition(gone.begin(), gone.end(), [this](const auto& v) { return !is_good_(v.second); });
  auto good_count = static_cast<std::size_t>(gone.end() - kept);
  if (good_count > count_max_) kept += static_cast<std::ptrdiff_t>(good_count - count_max_);
  gone.erase(kept, gone.end());
  if (gone.empty()) return {};
  return values_.erase_unchanged(bucket_, gone);
}

}  // namespace kiln::store
