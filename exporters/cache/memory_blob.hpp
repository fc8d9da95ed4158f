// A blob store of one blob in memory, for what is pushed but not kept. Thread-safe, read-only.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "store/blobs/blob_store.hpp"

namespace kiln::exporters {

class memory_blob final : public store::blob_store {
 public:
  /// `bytes` must outlive it.
  memory_blob(kiln::digest d, std::string_view bytes) : digest_(std::move(d)), bytes_(bytes) {}

  bool has(const kiln::digest& d) const override { return d == digest_; }
  result<store::blob_info> info(const kiln::digest& d) const override {
    if (!has(d)) return missing(d);
    return store::blob_info{digest_, static_cast<std::int64_t>(bytes_.size()), 0, {}};
  }
  std::filesystem::path path_of(const kiln::digest&) const override { return {}; }
  result<std::unique_ptr<store::byte_source>> read(const kiln::digest& d,
                                                   std::int64_t offset) const override {
    if (!has(d)) return missing(d);
    return std::unique_ptr<store::byte_source>(new store::text_source(
        std::string(bytes_), static_cast<std::size_t>(std::max<std::int64_t>(offset, 0))));
  }
  result<std::string> read_all(const kiln::digest& d, std::int64_t limit) const override {
    if (!has(d)) return missing(d);
    if (static_cast<std::int64_t>(bytes_.size()) > limit)
      return make_error(errc::resource_exhausted, "blob " + d.str() + " is too large");
    return std::string(bytes_);
  }
  std::vector<store::blob_info> list() const override { return {*info(digest_)}; }

 private:
  static error missing(const kiln::digest& d) {
    return make_error(errc::not_found, "blob " + d.str() + ": not found");
  }

  kiln::digest digest_;
  std::string_view bytes_;
};

}  // namespace kiln::exporters
