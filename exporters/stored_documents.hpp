// The documents of one export (manifests, configs, statements) in the blob store: no record names them, so
// they are held until the export is done.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "messages/descriptor.hpp"
#include "store/blobs/blob_store.hpp"

namespace kiln::exporters {

class stored_documents {
 public:
  explicit stored_documents(store::blob_store& blobs) : blobs_(blobs) {}

  result<descriptor> put(std::string_view bytes, std::string_view media_type) {
    KILN_TRY(auto stored, blobs_.put(bytes));
    descriptor d;
    d.media_type = media_type;
    d.size = static_cast<std::int64_t>(bytes.size());
    d.digest = stored;
    holds_.push_back(std::move(stored.hold));
    return d;
  }

  const std::vector<store::blob_hold>& holds() const { return holds_; }

 private:
  store::blob_store& blobs_;
  std::vector<store::blob_hold> holds_;
};

}  // namespace kiln::exporters
