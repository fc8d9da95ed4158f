// The bytes of a record for whoever uses it: mounts, archives and blobs of its layers.
#include <spdlog/spdlog.h>

#include "configs/store.hpp"
#include "store/archive/codec.hpp"
#include "store/archive/layer_tar.hpp"
#include "store/files/mount.hpp"
#include "store/archive/sinks.hpp"
#include "store/store_core.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

result<std::vector<mount_spec>> store_core::mounts(const record_ptr& r, const job_context& job) {
  if (!r) return std::vector{snapshots_->read_only({}, false)};
  KILN_CHECK(unlazy(r, job));
  if (!snapshots_->layered()) {
    std::vector<std::uint64_t> own{r->snapshot()};
    return std::vector{snapshots_->read_only(own, false)};
  }
  KILN_TRY(auto layers, mount_layers(r, job));
  bool whiteouts = layers.size() == 1 && (!layers[0]->parents.empty() || !layers[0]->copy().origin().empty());
  return std::vector{snapshots_->read_only(numbers_of(layers), whiteouts)};
}

result<std::vector<mount_spec>> store_core::mounts(const mutable_ref& m) {
  if (!m) return make_error(errc::invalid_argument, "mount of an empty reference");
  const auto& r = m.get();
  std::vector<std::uint64_t> below;
  if (!r->parents.empty() && snapshots_->layered()) {
    KILN_TRY(auto layers, mount_layers(r->parents[0], {}));
    below = numbers_of(layers);
  }
  KILN_TRY(auto spec, snapshots_->read_write(r->snapshot(), below));
  return std::vector{std::move(spec)};
}

result<fs::path> store_core::state_directory(const record_ptr& r, std::optional<scoped_mount>& mount,
                                             const job_context& job) {
  KILN_TRY(auto specs, mounts(r, job));
  if (specs.size() == 1 && specs[0].type == "bind") return fs::path(specs[0].source);
  KILN_TRY(auto made, scoped_mount::make(*this, specs));
  mount.emplace(std::move(made));
  return mount->path();
}

result<std::vector<layer_info>> store_core::layers(const record_ptr& r, const job_context& job) {
  KILN_CHECK(job.check());
  std::vector<layer_info> infos;
  for (const auto& layer : flatten(r)) {
    std::lock_guard lock(layer->mutex);
    layer_info info;
    info.id = layer->id;
    info.blobs = blobs_of(layer->data, blob_form::own);
    for (auto& b : info.blobs) b.hold = layer->blobs[b.blob.digest.str()];
    info.provider = layer->any_provider();
    // One that is gone and that nobody brings again is made anew of the directory.
    if (!info.provider && layer->data.snapshot() != 0)
      std::erase_if(info.blobs, [this](const layer_blob& b) { return !blobs_->has(b.blob.digest); });
    info.description = layer->data.description();
    info.created_at_ns = layer->data.created_at_ns();
    infos.push_back(std::move(info));
  }
  return infos;
}

status store_core::write_layer_tar(std::string_view layer_id, byte_sink& out, const job_context& job) {
  KILN_TRY(auto r, load(std::string(layer_id)));
  if (r->kind() == record_kind::merge)
    return make_error(errc::invalid_argument, "record " + r->id + " is a merge, not one layer");
  if (auto archives = blobs_of(r->copy(), blob_form::archive); !archives.empty()) {
    KILN_TRY(auto form, bring(r, std::move(archives), job));
    KILN_TRY(auto raw, blobs_->read(form.blob.digest));
    auto plain = make_decompressor(std::move(raw));
    cancellable_sink checked(out, job);
    auto moved = store::copy(*plain, checked);
    if (!moved.ok()) return std::move(moved).error().with_context("archive of layer " + r->id);
    return {};
  }
  return write_image_tar(r, out, job);
}

/// What the record changed, whatever its directory holds besides. Source: cache/blobs_linux.go.
status store_core::write_image_tar(const record_ptr& r, byte_sink& out, const job_context& job) {
  std::optional<scoped_mount> lower_mount, upper_mount;
  if (snapshots_->layered()) {
    KILN_CHECK(ensure_layers({r}, job));
    auto upper = snapshots_->fs_of(r->snapshot());
    if (!has_own_ground(r)) return write_upper_tar(upper, snapshots_->user_namespace(), out, job);
    KILN_TRY(auto lower, state_directory(r->parents[0], lower_mount, job));
    return write_layer_change_tar(lower, upper, snapshots_->user_namespace(), out, job);
  }
  bool is_diff = r->kind() == record_kind::diff;
  auto below = is_diff ? r->parents[0] : r->parents.empty() ? nullptr : r->parents[0];
  auto above = is_diff ? r->parents[1] : r;
  KILN_TRY(auto lower, state_directory(below, lower_mount, job));
  KILN_TRY(auto upper, state_directory(above, upper_mount, job));
  return write_difference_tar(lower, upper, out, job);
}

status store_core::add_layer_blob(std::string_view layer_id, const layer_blob& blob) {
  KILN_TRY(auto r, load(std::string(layer_id)));
  auto hold = blobs_->hold(blob.blob.digest);  // until the record does
  if (!blobs_->has(blob.blob.digest))
    return make_error(errc::not_found, "blob " + blob.blob.digest.str() + " is not in the store");
  std::string chain;
  if (r->kind() == record_kind::layer && r->copy().chain_id().empty()) {
    // Known by its content from now on, should an image bring the same layer.
    auto below = r->parents.empty() ? std::string() : r->parents[0]->copy().chain_id();
    if (r->parents.empty()) chain = blob.diff_id.str();
    else if (!below.empty()) chain = sha256(below + " " + blob.diff_id.str()).str();
    bool taken = false;
    KILN_CHECK(database_->read(
        [&](const transaction& t) { taken = t.get(table::chains, key_part(chain)).has_value(); }));
    if (taken) chain.clear();
  }
  if (!chain.empty()) {
    std::lock_guard lock(mutex_);
    auto& slot = live_chains_[chain];
    if (slot.expired()) slot = r;
    else chain.clear();
  }
  modify(r, [chain, stored_blob = to_stored(blob)](stored::Record& data) {
    if (!chain.empty()) data.set_chain_id(chain);
    add_blob(data, stored_blob);
  });
  return {};
}

// ---------------------------------------------------------------- scoped_mount

result<scoped_mount> scoped_mount::make(store_core& core, const std::vector<mount_spec>& specs) {
  scoped_mount out;
  KILN_TRY(out.path_, core.temporary_directory("mount"));
  auto done = mount_all(specs, out.path_);
  if (!done.ok()) {
    ::rmdir(out.path_.c_str());
    return std::move(done).error();
  }
  out.is_mount_ = true;
  return out;
}

scoped_mount::scoped_mount(scoped_mount&& other) noexcept
    : path_(std::move(other.path_)), is_mount_(std::exchange(other.is_mount_, false)) {}

scoped_mount::~scoped_mount() {
  if (!is_mount_) return;
  if (auto done = unmount(path_); !done) spdlog::warn("store: {}", done.error().message);
  if (::rmdir(path_.c_str()) != 0) spdlog::warn("store: cannot remove {}", path_.string());
}

}  // namespace kiln::store
