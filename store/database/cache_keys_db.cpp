#include "store/database/cache_keys_db.hpp"

#include <algorithm>
#include <cstring>
#include <set>

#include <spdlog/spdlog.h>

#include "base/digest.hpp"
#include "store/files/file_facts.hpp"
#include "store/database/metadata_db.hpp"

namespace kiln::store {

namespace {

// Values are sequences of length-prefixed strings, so that ids of any length and content fit.

void append_field(std::string& out, std::string_view field) {
  auto size = static_cast<std::uint32_t>(field.size());
  out.append(reinterpret_cast<const char*>(&size), sizeof size);
  out += field;
}

std::string_view take_field(std::string_view& in) {
  std::uint32_t size = 0;
  if (in.size() < sizeof size) return in = {};
  std::memcpy(&size, in.data(), sizeof size);
  in.remove_prefix(sizeof size);
  auto field = in.substr(0, size);
  in.remove_prefix(field.size());
  return field;
}

std::string encode_link(const cache_link& link) {
  std::string text;
  append_field(text, std::to_string(link.input));
  append_field(text, std::to_string(link.output));
  append_field(text, link.digest);
  append_field(text, link.selector);
  return text;
}

std::int64_t to_number(std::string_view text) { return std::strtoll(std::string(text).c_str(), nullptr, 10); }

cache_link take_link(std::string_view& in) {
  cache_link link;
  link.input = static_cast<std::int32_t>(to_number(take_field(in)));
  link.output = static_cast<std::int32_t>(to_number(take_field(in)));
  link.digest = take_field(in);
  link.selector = take_field(in);
  return link;
}

std::string short_hash(const cache_link& link) {
  return std::string(sha256(encode_link(link)).hex().substr(0, 32));
}

std::string prefix_of(std::string_view id) { return key_part(id) + '\0'; }

std::string link_key(std::string_view from, const std::string& link_hash, std::string_view to) {
  return prefix_of(from) + link_hash + '\0' + key_part(to);
}

class cache_keys_db final : public cache_keys {
 public:
  explicit cache_keys_db(metadata_db& db) : db_(db) {}

  bool has(std::string_view key_id) const override {
    bool found = false;
    view([&](const transaction& t) { found = exists(t, key_id); });
    return found;
  }

  std::vector<std::string> children(std::string_view parent, const cache_link& link) const override {
    std::vector<std::string> found;
    view([&](const transaction& t) {
      t.scan(table::links, prefix_of(parent) + short_hash(link) + '\0', [&](auto, std::string_view value) {
        auto stored = take_link(value);
        take_field(value);
        if (stored == link) found.emplace_back(take_field(value));
        return true;
      });
    });
    return found;
  }

  void for_each_link(std::string_view parent,
                     const std::function<void(const cache_link&, std::string_view)>& f) const override {
    for (const auto& [link, child] : neighbours(table::links, parent)) f(link, child);
  }

  void for_each_backlink(std::string_view child,
                         const std::function<void(const cache_link&, std::string_view)>& f) const override {
    for (const auto& [link, parent] : neighbours(table::backlinks, child)) f(link, parent);
  }

  std::vector<cached_result> results(std::string_view key_id) const override {
    std::vector<cached_result> found;
    view([&](const transaction& t) {
      t.scan(table::results, prefix_of(key_id), [&](auto, std::string_view value) {
        cached_result r;
        r.created_at_ns = to_number(take_field(value));
        r.id = take_field(value);
        found.push_back(std::move(r));
        return true;
      });
    });
    std::stable_sort(found.begin(), found.end(),
                     [](const auto& a, const auto& b) { return a.created_at_ns > b.created_at_ns; });
    return found;
  }

  std::vector<std::string> keys_of_result(std::string_view result_id) const override {
    std::vector<std::string> keys;
    view([&](const transaction& t) { keys = keys_of(t, result_id); });
    return keys;
  }

  status add(const cache_records& entries) override {
    if (entries.links.empty() && entries.results.empty()) return {};
    auto now = now_ns();
    return db_.write([&entries, now](transaction& t) -> status {
      for (const auto& e : entries.links) {
        auto hash = short_hash(e.link);
        // Links keep both ends in full: the far end is in a key only when it is short.
        auto value = encode_link(e.link);
        append_field(value, e.parent);
        append_field(value, e.child);
        auto key = link_key(e.parent, hash, e.child);
        if (t.get(table::links, key)) continue;
        KILN_CHECK(t.put(table::links, key, value));
        auto back = encode_link(e.link);
        append_field(back, e.child);
        append_field(back, e.parent);
        KILN_CHECK(t.put(table::backlinks, link_key(e.child, hash, e.parent), back));
      }
      for (const auto& e : entries.results) {
        auto created = e.result.created_at_ns ? e.result.created_at_ns : now;
        std::string value;
        append_field(value, std::to_string(created));
        append_field(value, e.result.id);
        append_field(value, e.key);
        KILN_CHECK(t.put(table::results, table_key(e.key, e.result.id), value));
        KILN_CHECK(t.put(table::by_result, table_key(e.result.id, e.key), e.key));
      }
      return {};
    });
  }

  status release(std::string_view result_id) override {
    return db_.write([id = std::string(result_id)](transaction& t) { return release_in(t, id); });
  }

  void for_each_key(const std::function<void(std::string_view)>& f) const override {
    std::set<std::string> roots;
    view([&](const transaction& t) {
      auto consider = [&](std::string_view id) {
        if (!t.any(table::backlinks, prefix_of(id))) roots.emplace(id);
      };
      std::string last;
      t.scan(table::links, {}, [&](auto, std::string_view value) {
        take_link(value);
        auto parent = take_field(value);
        if (parent != last) consider(last = parent);
        return true;
      });
      t.scan(table::results, {}, [&](auto, std::string_view value) {
        take_field(value);
        take_field(value);
        auto key = take_field(value);
        if (key != last) consider(last = key);
        return true;
      });
    });
    for (const auto& id : roots) f(id);
  }

  static status release_in(transaction& t, const std::string& result_id) {
    for (const auto& key : keys_of(t, result_id)) {
      KILN_CHECK(t.erase(table::results, table_key(key, result_id)));
      KILN_CHECK(t.erase(table::by_result, table_key(result_id, key)));
      KILN_CHECK(drop_if_useless(t, key));
    }
    return {};
  }

 private:
  void view(const std::function<void(const transaction&)>& f) const {
    if (auto done = db_.read(f); !done) spdlog::error("store: cache keys: {}", done.error().message);
  }

  static bool exists(const transaction& t, std::string_view id) {
    auto prefix = prefix_of(id);
    return t.any(table::results, prefix) || t.any(table::links, prefix);
  }

  static std::vector<std::string> keys_of(const transaction& t, std::string_view result_id) {
    std::vector<std::string> keys;
    t.scan(table::by_result, prefix_of(result_id), [&](auto, std::string_view key) {
      keys.emplace_back(key);
      return true;
    });
    return keys;
  }

  static std::vector<std::pair<cache_link, std::string>> neighbours_in(const transaction& t, table which,
                                                                       std::string_view id) {
    std::vector<std::pair<cache_link, std::string>> found;
    t.scan(which, prefix_of(id), [&](auto, std::string_view value) {
      auto link = take_link(value);
      take_field(value);
      found.emplace_back(std::move(link), take_field(value));
      return true;
    });
    return found;
  }

  std::vector<std::pair<cache_link, std::string>> neighbours(table which, std::string_view id) const {
    std::vector<std::pair<cache_link, std::string>> found;
    view([&](const transaction& t) { found = neighbours_in(t, which, id); });
    return found;
  }

  /// Removes a key that has neither results nor ways on, and then those that only led to it.
  static status drop_if_useless(transaction& t, const std::string& first) {
    std::vector<std::string> candidates{first};
    while (!candidates.empty()) {
      auto key = std::move(candidates.back());
      candidates.pop_back();
      if (exists(t, key)) continue;
      for (const auto& [link, parent] : neighbours_in(t, table::backlinks, key)) {
        auto hash = short_hash(link);
        KILN_CHECK(t.erase(table::backlinks, link_key(key, hash, parent)));
        KILN_CHECK(t.erase(table::links, link_key(parent, hash, key)));
        candidates.push_back(parent);
      }
    }
    return {};
  }

  metadata_db& db_;
};

}  // namespace

status release_result(transaction& t, const std::string& result_id) {
  return cache_keys_db::release_in(t, result_id);
}

std::unique_ptr<cache_keys> make_cache_keys(metadata_db& db) { return std::make_unique<cache_keys_db>(db); }

}  // namespace kiln::store
