// Handles to cache records. A `ref` is an immutable file-system state; a `mutable_ref` one that is being
// written. Handles pin their record (and its parents) in memory; a record nobody pins stays until garbage
// collection or prune. May outlive the store.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace kiln::store {

class record;  // private to the store

/// What `du` calls a record. Source: BuildKit's client/diskusage.go (a closed set).
enum class record_type { regular, internal, frontend, source_local, source_git_checkout, exec_cachemount };
std::string_view to_string(record_type t);

struct record_options {
  std::string description = {};
  record_type type = record_type::regular;
  std::int64_t created_at_ns = 0;  // 0 = now
};

/// A handle to an immutable record; copying shares the pin. Empty = scratch.
class ref {
 public:
  ref() = default;
  explicit ref(std::shared_ptr<record> r) : record_(std::move(r)) {}
  explicit operator bool() const noexcept { return record_ != nullptr; }
  /// The record's id; empty for scratch.
  const std::string& id() const;
  /// Description, type and age of the record.
  record_options options() const;
  const std::shared_ptr<record>& get() const noexcept { return record_; }

 private:
  std::shared_ptr<record> record_;
};

/// Exclusive handle to a record being written. Dropped uncommitted, its snapshot is removed,
/// unless it was acquired by name (retained), when it stays for its next user.
class mutable_ref {
 public:
  mutable_ref() = default;
  explicit mutable_ref(std::shared_ptr<record> r) : record_(std::move(r)) {}
  mutable_ref(mutable_ref&&) noexcept = default;
  mutable_ref& operator=(mutable_ref&& other) noexcept;
  ~mutable_ref();
  explicit operator bool() const noexcept { return record_ != nullptr; }
  const std::string& id() const;
  const std::shared_ptr<record>& get() const noexcept { return record_; }
  std::shared_ptr<record> release() noexcept { return std::move(record_); }

 private:
  std::shared_ptr<record> record_;
};

}  // namespace kiln::store
