// Records come and go: creating, committing, finding and combining them.
#include <algorithm>

#include "base/digest.hpp"
#include "store/files/copy_tree.hpp"
#include "store/store_core.hpp"
#include "store/files/unchanged_dirs.hpp"

namespace kiln::store {

namespace {

/// What a layer on top of `parent` is called wherever it comes from. Source: OCI image-spec, ChainID.
std::string chain_of(const record_ptr& parent, const std::string& diff_id) {
  if (!parent) return diff_id;
  auto below = parent->copy().chain_id();
  return sha256((below.empty() ? "record:" + parent->id : below) + " " + diff_id).str();
}

/// A pointer to the record that is counted for itself: it has no more copies than its user has, whoever else
/// has the record in hand for a moment, to look at it or to write it down.
record_ptr user_of(const record_ptr& r) { return {std::make_shared<record_ptr>(r), r.get()}; }

/// Gives the root directory of a new upper directory the metadata of the one it covers.
status copy_root_metadata(const std::filesystem::path& from, const std::filesystem::path& to) {
  KILN_TRY(auto source, open_file(from, O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto target, open_file(to, O_RDONLY | O_DIRECTORY));
  struct stat info {};
  if (::fstat(source.get(), &info) != 0) return errno_error(errno, "stat " + from.string());
  return copy_metadata(source.get(), ".", info, target.get(), ".");
}

}  // namespace

stored::Blob to_stored(const layer_blob& blob, blob_form form) {
  stored::Blob out;
  out.set_form(static_cast<int>(form));
  out.set_media_type(blob.blob.media_type);
  out.set_digest(blob.blob.digest.str());
  out.set_size(blob.blob.size);
  for (const auto& [key, value] : blob.blob.annotations) (*out.mutable_annotations())[key] = value;
  for (const auto& url : blob.blob.urls) out.add_urls(url);
  out.set_diff_id(blob.diff_id.str());
  return out;
}

layer_blob from_stored(const stored::Blob& blob) {
  layer_blob out;
  out.blob.media_type = blob.media_type();
  out.blob.digest = digest::trusted(blob.digest());
  out.blob.size = blob.size();
  for (const auto& [key, value] : blob.annotations()) out.blob.annotations[key] = value;
  out.blob.urls.assign(blob.urls().begin(), blob.urls().end());
  out.diff_id = digest::trusted(blob.diff_id());
  return out;
}

/// Whether every layer of it is on disk, or can be brought there.
bool store_core::is_available(const record_ptr& r) {
  for (const auto& layer : flatten(r)) {
    std::lock_guard lock(layer->mutex);
    if (layer->data.snapshot() != 0 || layer->any_provider() || layer->kind() != record_kind::layer) continue;
    bool there =
        std::any_of(layer->data.blobs().begin(), layer->data.blobs().end(),
                    [this](const auto& blob) { return blobs_->has(digest::trusted(blob.digest())); });
    if (!there) return false;
  }
  return true;
}

result<ref> store_core::get(std::string_view id) {
  KILN_TRY(auto r, load(std::string(id)));
  if (r->copy().is_mutable()) return make_error(errc::not_found, "cache record " + r->id + " is mutable");
  if (!is_available(r))
    return make_error(errc::not_found, "the content of cache record " + r->id + " is not here any more");
  {
    std::lock_guard lock(r->mutex);
    r->count_use();
  }
  return ref(std::move(r));
}

result<mutable_ref> store_core::create(const ref& parent, const record_options& options,
                                       const job_context& job) {
  auto record_data = fresh(record_kind::layer, options);
  std::vector<record_ptr> parents;
  if (parent) parents.push_back(parent.get());
  KILN_CHECK(check_shape(shape_of(record_kind::layer, false, parents)));
  if (parent) KILN_CHECK(unlazy(parent.get(), job));
  KILN_TRY(auto number, snapshots_->create());
  record_data.set_snapshot(number);
  record_data.set_is_mutable(true);
  auto r = admit(std::move(record_data), std::move(parents));  // from here on ~record removes the snapshot
  if (!parent) return mutable_ref(std::move(r));
  if (snapshots_->layered()) {
    KILN_TRY(auto layers, mount_layers(parent.get(), job));
    auto below = numbers_of(layers);
    if (!below.empty())
      KILN_CHECK(copy_root_metadata(snapshots_->fs_of(below.back()), snapshots_->fs_of(number)));
  } else {
    std::optional<scoped_mount> ignored;
    KILN_TRY(auto state, state_directory(parent.get(), ignored, job));
    KILN_CHECK(copy_tree(state, snapshots_->fs_of(number), {}, job));
  }
  return mutable_ref(std::move(r));
}

result<mutable_ref> store_core::acquire_named(std::string_view name, const ref& parent,
                                              const record_options& options, const job_context& job) {
  std::string key(name);
  if (parent && parent.get()->is_frozen)
    return make_error(errc::failed_precondition, "\"" + key + "\" cannot be kept on top of what is not kept");
  auto in_use = [&] {
    return make_error(errc::failed_precondition, "mutable record \"" + key + "\" is in use");
  };
  std::string id;
  KILN_CHECK(database_->write([](transaction&) { return status{}; }));  // names queued so far
  KILN_CHECK(database_->read([&](const transaction& t) {
    if (auto found = t.get(table::names, key_part(key))) id = *found;
  }));
  if (!id.empty()) {
    auto loaded = load(id);
    if (loaded.ok() && (*loaded)->name == key) {
      auto r = *loaded;
      record_ptr taken;
      std::shared_ptr<metadata_db::pending> mark;
      {
        std::lock_guard lock(mutex_);
        auto& slot = live_names_[key];
        if (!slot.expired()) return in_use();
        slot = taken = user_of(r);
        r->count_use();
        unsynced_.insert(r->id);
        mark =
            database_->enqueue([this, id](transaction& t) { return t.put(table::unsynced, id, boot_id_); });
      }
      KILN_CHECK(database_->wait(mark));
      KILN_CHECK(snapshots_->seal(r->snapshot()));
      return mutable_ref(std::move(taken));
    }
    if (!loaded.ok() && loaded.error().code != errc::not_found) return std::move(loaded).error();
  }
  {
    std::lock_guard lock(mutex_);
    if (auto found = live_names_.find(key); found != live_names_.end() && !found->second.expired())
      return in_use();
  }
  KILN_TRY(auto made, create(parent, options, job));
  // The name is given to a record of its own, for a record's name never changes.
  auto record_data = made.get()->copy();
  auto parents = made.get()->parents;
  {
    std::lock_guard lock(made.get()->mutex);
    made.get()->data.set_snapshot(0);  // handed over
  }
  record_data.clear_parents();
  record_data.set_id(new_id());
  record_data.set_name(key);
  auto r = admit(std::move(record_data), std::move(parents));
  auto taken = user_of(r);
  {
    std::lock_guard lock(mutex_);
    auto& slot = live_names_[key];
    if (!slot.expired()) {
      r->data.set_name("");  // not ours: dies as an unnamed one
      return in_use();
    }
    slot = taken;
  }
  store_record(r, true);
  KILN_CHECK(database_->write([](transaction&) { return status{}; }));
  return mutable_ref(std::move(taken));
}

/// A directory that was only copied up is no change.
status store_core::drop_untouched(const record_ptr& r) {
  if (!snapshots_->layered() || r->parents.empty()) return {};
  KILN_TRY(auto layers, mount_layers(r->parents[0], {}));
  std::vector<std::filesystem::path> below;
  for (auto number : numbers_of(layers)) below.push_back(snapshots_->fs_of(number));
  return remove_untouched_directories(snapshots_->fs_of(r->snapshot()), below, snapshots_->user_namespace());
}

result<ref> store_core::commit(mutable_ref m) {
  auto r = m.release();
  if (!r) return make_error(errc::invalid_argument, "commit of an empty reference");
  auto number = r->snapshot();
  KILN_CHECK(snapshots_->seal(number));
  KILN_CHECK(drop_untouched(r));
  auto name = r->copy().name();
  if (!name.empty()) {
    // The record leaves its name.
    KILN_CHECK(database_->write([key = key_part(name), id = r->id](transaction& t) -> status {
      auto found = t.get(table::names, key);
      return found && *found == id ? t.erase(table::names, key) : status{};
    }));
    std::lock_guard lock(mutex_);
    live_names_.erase(name);
  }
  {
    std::lock_guard lock(r->mutex);
    r->data.set_is_mutable(false);
    r->data.clear_name();
    r->data.set_snapshot_size(0);
  }
  store_record(r, true);
  return ref(std::move(r));
}

result<ref> store_core::freeze(mutable_ref m) {
  auto r = m.release();
  if (!r) return make_error(errc::invalid_argument, "freezing an empty reference");
  if (!r->name.empty()) return make_error(errc::invalid_argument, "freezing retained record " + r->id);
  KILN_CHECK(snapshots_->seal(r->snapshot()));
  std::lock_guard lock(r->mutex);
  r->is_frozen = true;
  r->data.set_is_mutable(false);
  return ref(r);
}

status store_core::discard(mutable_ref m) {
  auto r = m.release();
  if (!r || r->name.empty()) return {};  // its snapshot goes with the handle
  r->is_discarded = true;                // what is queued of it is void
  auto erased = database_->clean([&](transaction& t) -> status {
    std::vector<std::string> ignored;  // what is being written has no blobs
    return erase_record(t, r->copy(), ignored);
  });
  if (!erased) {
    r->is_discarded = false;
    return erased;
  }
  {
    std::lock_guard lock(r->mutex);
    r->data.clear_name();
    r->is_stored = false;
  }
  std::lock_guard lock(mutex_);
  live_names_.erase(r->name);
  unsynced_.erase(r->id);
  usage_.erase(r->id);
  return {};
}

result<ref> store_core::commit_copy(const mutable_ref& m, const record_options& options,
                                    const job_context& job) {
  if (!m) return make_error(errc::invalid_argument, "commit of an empty reference");
  auto& source = m.get();
  auto record_data = fresh(record_kind::layer, options);
  KILN_TRY(auto number, snapshots_->create());
  record_data.set_snapshot(number);
  record_data.set_is_mutable(true);  // until it is whole
  auto r = admit(std::move(record_data), source->parents);
  KILN_CHECK(copy_tree(snapshots_->fs_of(source->snapshot()), snapshots_->fs_of(number),
                       {.hard_link_files = true}, job));
  {
    std::lock_guard lock(r->mutex);
    r->data.set_is_mutable(false);
  }
  store_record(r, true);
  // Files of earlier copies need not be hashed again, see tree_digests.
  auto origin = source->id;
  database_->post([key = table_key(r->id, "contenthash.origin"), origin](transaction& t) {
    return t.put(table::metadata, key, std::string("contenthash.origin") + '\0' + origin);
  });
  return ref(std::move(r));
}

/// The record known under that chain id; null when there is none.
result<record_ptr> store_core::find_chain(const std::string& chain) {
  {
    std::lock_guard lock(mutex_);
    if (auto found = live_chains_.find(chain); found != live_chains_.end())
      if (auto r = found->second.lock()) return r;
  }
  std::string id;
  KILN_CHECK(database_->read([&](const transaction& t) {
    if (auto found = t.get(table::chains, key_part(chain))) id = *found;
  }));
  if (id.empty()) return record_ptr{};
  auto loaded = load(id);
  if (loaded.ok() || loaded.error().code != errc::not_found) return loaded;
  return record_ptr{};
}

/// A lazy layer with a chain id. `existing` is set (and no ref returned) when there is one of that id.
result<ref> store_core::new_layer(const ref& parent, stored::Record record_data,
                                  std::shared_ptr<blob_provider> provider, record_ptr& existing) {
  auto chain = record_data.chain_id();
  KILN_TRY(existing, find_chain(chain));
  if (existing) return ref();
  std::vector<record_ptr> parents;
  if (parent) parents.push_back(parent.get());
  KILN_CHECK(check_shape(shape_of(record_kind::layer, false, parents)));
  auto r = admit(std::move(record_data), std::move(parents));
  r->take_provider(std::move(provider));
  {
    std::lock_guard lock(mutex_);
    auto& slot = live_chains_[chain];
    existing = slot.lock();
    if (!existing) slot = r;
  }
  if (existing) return ref();
  store_record(r, false);
  return ref(std::move(r));
}

result<ref> store_core::layer(const ref& parent, layer_blob blob, std::shared_ptr<blob_provider> provider,
                              const record_options& options) {
  if (blob.diff_id.empty() || blob.blob.digest.empty())
    return make_error(errc::invalid_argument, "a layer needs the digest of its blob and of its content");
  auto record_data = fresh(record_kind::layer, options);
  record_data.set_chain_id(chain_of(parent.get(), blob.diff_id.str()));
  record_data.set_from_blob(true);
  *record_data.add_blobs() = to_stored(blob);
  record_ptr existing;
  KILN_TRY(auto made, new_layer(parent, std::move(record_data), provider, existing));
  if (!existing) return made;
  // The form that was asked for last comes first: an image keeps the blobs it came with.
  bool is_first = false;
  {
    std::lock_guard lock(existing->mutex);
    existing->take_provider(std::move(provider));
    existing->count_use();
    is_first = existing->data.blobs_size() > 0 && existing->data.blobs(0).digest() == blob.blob.digest.str();
  }
  if (!is_first)
    modify(existing, [stored_blob = to_stored(blob)](stored::Record& r) {
      auto& blobs = *r.mutable_blobs();
      int at = 0;
      while (at < blobs.size() && blobs[at].digest() != stored_blob.digest()) ++at;
      if (at == blobs.size()) *blobs.Add() = stored_blob;
      for (; at > 0; --at) blobs.SwapElements(at, at - 1);
    });
  return ref(std::move(existing));
}

result<ref> store_core::derived(record_kind kind, std::vector<record_ptr> parents,
                                const record_options& options) {
  KILN_CHECK(check_shape(shape_of(kind, false, parents)));
  auto r = admit(fresh(kind, options), std::move(parents));
  store_record(r, false);
  return ref(std::move(r));
}

result<ref> store_core::merge(std::span<const ref> refs, const record_options& options) {
  std::vector<record_ptr> inputs;
  for (const auto& r : refs)
    if (r) inputs.push_back(r.get());
  if (inputs.empty()) return ref();
  if (inputs.size() == 1) return ref(inputs[0]);
  return derived(record_kind::merge, std::move(inputs), options);
}

result<ref> store_core::diff(const ref& lower, const ref& upper, const record_options& options) {
  if (!upper && !lower) return ref();
  if (!lower) return upper;
  if (lower.id() == upper.id()) return ref();
  return derived(record_kind::diff, {lower.get(), upper.get()}, options);
}

}  // namespace kiln::store
