#include "store/ref_store.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <optional>

#include "base/digest.hpp"
#include "base/files.hpp"
#include "store/files/copy_tree.hpp"
#include "store/files/unchanged_dirs.hpp"
#include "store/layers/fetch_blob.hpp"
#include "store/layers/layer_plan.hpp"
#include "store/materialize/materializer.hpp"
#include "store/records/record_removal.hpp"
#include "store/records/record_table.hpp"
#include "store/state_root.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

/// What a layer on top of `parent` is called wherever it comes from. Source: OCI image-spec, ChainID.
std::string chain_of(const record_ptr& parent, const std::string& diff_id) {
  if (!parent) return diff_id;
  auto below = parent->look([](const stored::Record& data) { return data.chain_id(); });
  return sha256((below.empty() ? "record:" + parent->id : below) + " " + diff_id).str();
}

/// Gives the root directory of a new upper directory the metadata of the one it covers.
status copy_root_metadata(const std::filesystem::path& from, const std::filesystem::path& to) {
  KILN_TRY(auto source, open_file(from, O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto target, open_file(to, O_RDONLY | O_DIRECTORY));
  struct stat info {};
  if (::fstat(source.get(), &info) != 0) return errno_error(errno, "stat " + from.string());
  return copy_metadata(source.get(), ".", info, target.get(), ".");
}

/// The blob becomes the layer's first: an image keeps the blobs it came with.
void put_first(stored::Record& r, const stored::Blob& blob) {
  auto& blobs = *r.mutable_blobs();
  int at = 0;
  while (at < blobs.size() && blobs[at].digest() != blob.digest()) ++at;
  if (at == blobs.size()) *blobs.Add() = blob;
  for (; at > 0; --at) blobs.SwapElements(at, at - 1);
}

std::vector<record_ptr> parents_of(const ref& parent) {
  if (!parent) return {};
  return {parent.get()};
}

}  // namespace

/// In the order of what each stands on. Records outlive all but the table, which handles keep.
struct ref_store::parts {
  explicit parts(std::unique_ptr<state_root> opened)
      : records(std::make_shared<record_table>(std::move(opened))) {}
  ~parts() { records->close(); }

  std::shared_ptr<record_table> records;
  record_removal removal{*records};
  materializer maker{*records, files};  // they need each other: a difference is made of whole states
  ref_files files{*records, maker};
  ref_layers layers{*records, maker, files};
  store_space space{*records, removal};
  std::optional<peer_transfer> peers;  // on top of the store
};

result<std::unique_ptr<ref_store>> ref_store::open(ref_store_options options) {
  KILN_TRY(auto root, state_root::open(options));
  auto p = std::make_unique<parts>(std::move(root));
  KILN_CHECK(p->removal.sweep());
  KILN_CHECK(p->records->start());
  p->records->root().clear_leftovers();
  return std::unique_ptr<ref_store>(new ref_store(std::move(p)));
}

ref_store::ref_store(std::unique_ptr<parts> p) : parts_(std::move(p)) {
  parts_->peers.emplace(*this, *parts_->records, parts_->maker, parts_->files, parts_->layers);
}

ref_store::~ref_store() = default;

ref_files& ref_store::files() noexcept { return parts_->files; }
ref_layers& ref_store::layers() noexcept { return parts_->layers; }
peer_transfer& ref_store::peers() noexcept { return *parts_->peers; }
store_space& ref_store::space() noexcept { return parts_->space; }
value_store& ref_store::values() noexcept { return parts_->records->root().values(); }
blob_store& ref_store::blobs() noexcept { return parts_->records->blobs(); }
cache_keys& ref_store::keys() noexcept { return parts_->records->root().keys(); }
const scratch_directory& ref_store::scratch() const noexcept { return parts_->records->root().scratch(); }
snapshotter_kind ref_store::snapshotter() const noexcept {
  return parts_->records->root().snapshots().kind();
}

result<mounted> mounted::make(ref_store& store, const std::vector<mount_spec>& specs, mount_use use) {
  return make(store.scratch(), specs, use);
}

// ---------------------------------------------------------------- immutable records

result<ref> ref_store::get(std::string_view id) {
  KILN_TRY(auto r, parts_->records->load(std::string(id)));
  if (r->is_mutable()) return make_error(errc::not_found, "cache record " + r->id + " is mutable");
  if (!is_available(r, blobs()))
    return make_error(errc::not_found, "the content of cache record " + r->id + " is not here any more");
  r->count_use();
  return ref(std::move(r));
}

bool ref_store::has(std::string_view id) { return parts_->records->has(std::string(id)); }

result<ref> ref_store::layer(const ref& parent, layer_blob blob, std::shared_ptr<blob_provider> provider,
                             const record_options& options) {
  if (blob.diff_id.empty() || blob.blob.digest.empty())
    return make_error(errc::invalid_argument, "a layer needs the digest of its blob and of its content");
  auto data = record_table::fresh(record_kind::layer, options);
  data.set_chain_id(chain_of(parent.get(), blob.diff_id.str()));
  data.set_from_blob(true);
  *data.add_blobs() = to_stored(blob);
  KILN_TRY(auto added, parts_->records->add_layer(parent.get(), std::move(data), std::move(provider)));
  // The form that was asked for last comes first.
  bool is_first = added.is_new || added.layer->look([&blob](const stored::Record& r) {
    return r.blobs_size() > 0 && r.blobs(0).digest() == blob.blob.digest.str();
  });
  if (!is_first)
    parts_->records->modify(
        added.layer, [stored_blob = to_stored(blob)](stored::Record& r) { put_first(r, stored_blob); });
  return ref(std::move(added.layer));
}

result<ref> ref_store::derive(record_kind kind, std::vector<record_ptr> parents,
                              const record_options& options) {
  KILN_CHECK(check_shape(shape_of(kind, false, parents)));
  auto r = parts_->records->admit(record_table::fresh(kind, options), std::move(parents));
  parts_->records->save(r, false);
  return ref(std::move(r));
}

result<ref> ref_store::merge(std::span<const ref> refs, const record_options& options) {
  std::vector<record_ptr> inputs;
  for (const auto& r : refs)
    if (r) inputs.push_back(r.get());
  if (inputs.empty()) return ref();
  if (inputs.size() == 1) return ref(inputs[0]);
  return derive(record_kind::merge, std::move(inputs), options);
}

result<ref> ref_store::diff(const ref& lower, const ref& upper, const record_options& options) {
  if (!upper && !lower) return ref();
  if (!lower) return upper;
  if (lower.id() == upper.id()) return ref();
  return derive(record_kind::diff, {lower.get(), upper.get()}, options);
}

// ---------------------------------------------------------------- mutable records

result<mutable_ref> ref_store::create(const ref& parent, const record_options& options,
                                      const job_context& job) {
  auto& snapshots = parts_->records->root().snapshots();
  auto data = record_table::fresh(record_kind::layer, options);
  auto parents = parents_of(parent);
  KILN_CHECK(check_shape(shape_of(record_kind::layer, false, parents)));
  KILN_CHECK(files().materialize(parent, job));
  KILN_TRY(auto number, snapshots.create());
  data.set_snapshot(number);
  data.set_is_mutable(true);
  auto r = parts_->records->admit(std::move(data),
                                  std::move(parents));  // from here on ~record removes the snapshot
  if (parent) KILN_CHECK(copy_parent(parent, number, job));
  return mutable_ref(std::move(r));
}

/// A new snapshot shows its parent: its root directory looks like it, or where there are no overlays all of
/// it is there.
status ref_store::copy_parent(const ref& parent, std::uint64_t number, const job_context& job) {
  auto& snapshots = parts_->records->root().snapshots();
  if (snapshots.layered()) {
    KILN_TRY(auto layers, files().mount_layers(parent.get(), job));
    if (layers.empty()) return {};
    return copy_root_metadata(snapshots.fs_of(layers.back()->snapshot()), snapshots.fs_of(number));
  }
  std::optional<mounted> none;  // whole states are directories here
  KILN_TRY(auto state, files().state_directory(parent.get(), none, job));
  return copy_tree(state, snapshots.fs_of(number), {}, job);
}

result<mutable_ref> ref_store::acquire_named(std::string_view name, const ref& parent,
                                             const record_options& options, const job_context& job) {
  std::string key(name);
  if (parent && parent.get()->is_frozen())
    return make_error(errc::failed_precondition, "\"" + key + "\" cannot be kept on top of what is not kept");
  auto in_use = make_error(errc::failed_precondition, "mutable record \"" + key + "\" is in use");
  auto& records = *parts_->records;
  KILN_TRY(auto id, records.find_named(key));
  if (!id.empty()) {
    auto loaded = records.load(id);
    if (loaded.ok() && (*loaded)->name == key) {
      KILN_TRY(auto taken, records.lease(key, *loaded));
      if (!taken) return in_use;
      KILN_CHECK(records.root().snapshots().seal(taken->snapshot()));
      return mutable_ref(std::move(taken));
    }
    if (!loaded.ok() && loaded.error().code != errc::not_found) return std::move(loaded).error();
  }
  if (records.is_leased(key)) return in_use;
  KILN_TRY(auto made, create_named(key, parent, options, job));
  if (!made) return in_use;
  return made;
}

/// Empty when another has taken the name meanwhile.
result<mutable_ref> ref_store::create_named(const std::string& name, const ref& parent,
                                            const record_options& options, const job_context& job) {
  auto& records = *parts_->records;
  KILN_TRY(auto made, create(parent, options, job));
  // The name is given to a record of its own, for a record's name never changes.
  auto data = made.get()->copy();
  made.get()->give_up_snapshot();
  data.clear_parents();
  data.set_id(new_id());
  data.set_name(name);
  auto r = records.admit(std::move(data), made.get()->parents());
  auto taken = records.lease_new(name, r);
  if (!taken) return mutable_ref();
  records.save(r, true);
  KILN_CHECK(records.root().database().write([](transaction&) { return status{}; }));
  return mutable_ref(std::move(taken));
}

/// A directory that was only copied up is no change.
status ref_store::drop_unchanged_dirs(const record_ptr& r) {
  auto& snapshots = parts_->records->root().snapshots();
  if (!snapshots.layered() || r->parents().empty()) return {};
  KILN_TRY(auto layers, files().mount_layers(r->parents()[0], {}));
  std::vector<fs::path> below;
  for (const auto& layer : layers) below.push_back(snapshots.fs_of(layer->snapshot()));
  return remove_untouched_directories(snapshots.fs_of(r->snapshot()), below, snapshots.user_namespace());
}

result<ref> ref_store::commit(mutable_ref m) {
  auto r = m.release();
  if (!r) return make_error(errc::invalid_argument, "commit of an empty reference");
  KILN_CHECK(parts_->records->root().snapshots().seal(r->snapshot()));
  KILN_CHECK(drop_unchanged_dirs(r));
  auto name = r->copy().name();
  if (!name.empty()) KILN_CHECK(parts_->records->end_lease(name, r));
  r->end_writing();
  parts_->records->save(r, true);
  return ref(std::move(r));
}

result<ref> ref_store::freeze(mutable_ref m) {
  auto r = m.release();
  if (!r) return make_error(errc::invalid_argument, "freezing an empty reference");
  if (!r->name.empty()) return make_error(errc::invalid_argument, "freezing retained record " + r->id);
  KILN_CHECK(parts_->records->root().snapshots().seal(r->snapshot()));
  r->freeze();
  return ref(std::move(r));
}

status ref_store::discard(mutable_ref m) {
  auto r = m.release();
  if (!r || r->name.empty()) return {};  // its snapshot goes with the handle
  return parts_->records->erase(r);
}

result<ref> ref_store::commit_copy(const mutable_ref& m, const record_options& options,
                                   const job_context& job) {
  if (!m) return make_error(errc::invalid_argument, "commit of an empty reference");
  auto& records = *parts_->records;
  auto& snapshots = records.root().snapshots();
  const auto& source = m.get();
  auto data = record_table::fresh(record_kind::layer, options);
  KILN_TRY(auto number, snapshots.create());
  data.set_snapshot(number);
  data.set_is_mutable(true);  // until it is whole
  auto r = records.admit(std::move(data), source->parents());
  KILN_CHECK(copy_tree(snapshots.fs_of(source->snapshot()), snapshots.fs_of(number),
                       {.hard_link_files = true}, job));
  r->end_writing();
  records.save(r, true);
  // Files of earlier copies need not be hashed again, see tree_digests.
  values().post_of_record(r->id, "contenthash.origin", source->id);
  return ref(std::move(r));
}

}  // namespace kiln::store
