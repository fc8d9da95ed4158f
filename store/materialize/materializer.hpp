// Records become directories: fetching blobs, unpacking them, computing differences. One job at a time makes
// a snapshot; several snapshots are made at once. Private to the store. Thread-safe.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "base/result.hpp"
#include "messages/job.hpp"
#include "store/materialize/materialize_lock.hpp"
#include "store/records/record_table.hpp"

namespace kiln::store {

class ref_files;

class materializer {
 public:
  /// `files`: where whole states are, which differences are made of.
  materializer(record_table& records, ref_files& files)
      : records_(records), root_(records.root()), files_(files) {}

  /// The record's state is on disk: its layers', or where there are no overlays its own directory.
  status make(const record_ptr& r, const job_context& job);
  /// Makes the snapshots that are missing, several at once: an upper directory needs nothing of those below.
  /// Locks are taken in the order of ids, all at once, and none is asked for while holding others.
  status make_layers(const std::vector<record_ptr>& layers, const job_context& job);

 private:
  /// One record whose snapshot is being made.
  struct making {
    record_ptr r;
    std::optional<materialize_lock> lock;
    std::uint64_t number = 0;  // of the snapshot made; 0 when it could not be
    bool needs_parents = false;
    bool applied_root = false;
    status outcome;
  };
  /// Directories of the layers below, topmost first; without them, unpacking stops where they are needed.
  using layers_below = std::optional<std::vector<std::filesystem::path>>;

  status prepare_sides(const record_ptr& difference, const job_context& job);
  status make_at_once(std::vector<making>& work, const job_context& job);
  status make_one(making& m, const job_context& job);
  status make_from_blob(making& m, const layers_below& below, const job_context& job);
  status make_above_parents(const record_ptr& r, const job_context& job);
  status make_difference(making& m, const job_context& job);
  status keep(const making& m);
  status copy_root_look(const making& m);

  status unpack(making& m, const std::filesystem::path& target, const layers_below& below,
                const job_context& job);
  /// One attempt, with the form of the layer that is here.
  status unpack_form(making& m, const layer_blob& form, const std::filesystem::path& target,
                     const layers_below& below, const job_context& job);

  status make_native(const record_ptr& r, const job_context& job);
  status make_one_native(const record_ptr& r, const job_context& job);
  status fill_native(making& m, const std::filesystem::path& target, const job_context& job);

  record_table& records_;
  state_root& root_;
  ref_files& files_;
};

}  // namespace kiln::store
