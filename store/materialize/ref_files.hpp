// Refs as files: mounts of them, and which layers these take. Thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "messages/job.hpp"
#include "store/files/mount.hpp"
#include "store/files/turns.hpp"
#include "store/records/ref.hpp"

namespace kiln::store {

class materializer;
class record_table;
class state_root;

class ref_files {
 public:
  ref_files(record_table& records, materializer& maker);

  /// Ensures that the snapshot exists on disk (pulls and unpacks what is lazy).
  status materialize(const ref& r, const job_context& job);
  /// Read-only mounts of a ref; materializes it. Scratch is an empty directory.
  result<std::vector<mount_spec>> mounts(const ref& r, const job_context& job);
  result<std::vector<mount_spec>> mounts(const mutable_ref& m);

  // For the store.
  using record_ptr = std::shared_ptr<record>;
  result<std::vector<mount_spec>> mounts_of(const record_ptr& r, const job_context& job);
  /// The layers of an overlay mount, bottom first, all on disk. A layer on top of others than
  /// it was made on changes only what it changed there, so one that is not normalized (files/difference.hpp)
  /// is replaced by its normalized layer. Of more than limits::stacked_layers the lowest are replaced by one
  /// that is all of them.
  result<std::vector<record_ptr>> mount_layers(const record_ptr& r, const job_context& job);
  /// Where a record's whole state is: its own directory, or a mount that is put into `mount`.
  result<std::filesystem::path> state_directory(const record_ptr& r, std::optional<mounted>& mount,
                                                const job_context& job);
  /// Whether the layer's directory holds what it changed over its own parent and no more, with every removal
  /// a whiteout of its own.
  result<bool> is_normalized(const record_ptr& layer, const job_context& job);
  /// The record whose directory does, made once; `user` pins it.
  result<record_ptr> normalized_layer(const record_ptr& layer, const record_ptr& user,
                                      const job_context& job);

 private:
  result<record_ptr> flat_form(const std::vector<record_ptr>& layers, const record_ptr& user,
                               const job_context& job);
  result<record_ptr> make_flat(const std::vector<record_ptr>& layers, const job_context& job);
  record_ptr known_form(const record_ptr& of, const std::string& key);
  void keep_form(const record_ptr& of, const std::string& key, const record_ptr& form);

  record_table& records_;
  state_root& root_;
  materializer& maker_;
  turns flat_turns_;  // one makes a flat form, by its key
};

}  // namespace kiln::store
