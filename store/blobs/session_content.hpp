// The content store that a client offers through its session: blobs by digest, both ways.
// Blocking; thread-safe as far as the session is. Knows nothing of what the blobs are.
// Source: containerd core/content/proxy, api/services/content/v1; BuildKit session/content/caller.go.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "messages/descriptor.hpp"
#include "messages/job.hpp"
#include "store/blobs/blob_store.hpp"
#include "store/blobs/download_blob.hpp"
#include "store/ref_store.hpp"

namespace kiln::store {

class session_content {
 public:
  /// `store_id` as the client registered it, e.g. "local:/tmp/cache".
  session_content(std::shared_ptr<session_caller> caller, std::string store_id)
      : caller_(std::move(caller)), store_id_(std::move(store_id)) {}
  /// The first session of the job; failed_precondition when it has none.
  static result<session_content> open(const job_context& job, std::string store_id);

  /// Bytes of a blob; not_found when the client has none of that digest.
  result<std::int64_t> size(const digest& d, std::stop_token stop);
  /// A small blob, verified; resource_exhausted above `limit` bytes.
  result<std::string> read_all(const digest& d, std::int64_t limit, std::stop_token stop);
  /// Brings a blob into the store, verified; resumes what an earlier attempt left. Waits while another does.
  status fetch(const descriptor& blob, blob_store& into, const job_context& job);
  /// Gives the client a blob; success when it has it already. Waits while another writes it.
  status push(const descriptor& blob, const blob_store& from, const job_context& job);
  status push_bytes(const digest& d, std::string_view bytes, std::stop_token stop);

 private:
  status read(const digest& d, std::int64_t offset, std::stop_token stop, const byte_taker& use);
  status write(const digest& d, std::int64_t size, byte_source& from, const job_context& job);
  status write_once(message_stream& stream, const digest& d, std::int64_t size, byte_source& from,
                    const job_context& job, bool& is_locked);

  std::shared_ptr<session_caller> caller_;
  std::string store_id_;
};

/// Fetches layers from whichever session of the asking job offers the store.
std::shared_ptr<blob_provider> session_content_provider(std::string store_id);

}  // namespace kiln::store
