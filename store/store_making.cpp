// Records become directories: fetching blobs, unpacking them, computing differences. One job at a time makes
// a snapshot; several snapshots are made at once.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include <spdlog/spdlog.h>

#include "base/parallel.hpp"
#include "configs/store.hpp"
#include "store/archive/codec.hpp"
#include "store/files/copy_tree.hpp"
#include "store/files/difference.hpp"
#include "store/store_core.hpp"
#include "store/archive/unpack.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

result<materialize_lock> materialize_lock::acquire(const record_ptr& r, const job_context& job) {
  std::unique_lock lock(r->mutex);
  if (!r->made.wait(lock, job.stop, [&r] { return !r->being_made; })) {
    if (auto wanted = job.check(); !wanted) return std::move(wanted).error();
  }
  r->being_made = true;
  return materialize_lock(r);
}

materialize_lock::~materialize_lock() {
  if (!record_) return;
  {
    std::lock_guard lock(record_->mutex);
    record_->being_made = false;
  }
  record_->made.notify_all();
}

struct store_core::making {
  record_ptr r;
  std::optional<materialize_lock> right;
  std::uint64_t number = 0;  // of the snapshot made; 0 when it could not be
  bool needs_parents = false;
  bool applied_root = false;
  status outcome;
};

status store_core::unlazy(const record_ptr& r, const job_context& job) {
  if (!r) return {};
  if (!snapshots_->layered()) return make_native(r, job);
  return ensure_layers(dedupe_layers(flatten(r)), job);
}

/// Everything that mounts of the record need: none of it is made any more while a right is held.
status store_core::prepare_mount(const record_ptr& r, const job_context& job) {
  auto layers = mount_layers(r, job);
  return layers.ok() ? status{} : status(std::move(layers).error());
}

/// Makes the snapshots that are missing, several at once: an upper directory needs nothing of those below.
/// Rights are taken in the order of ids, all at once, and none is asked for while holding others.
status store_core::ensure_layers(const std::vector<record_ptr>& layers, const job_context& job) {
  std::vector<record_ptr> missing;
  for (const auto& layer : layers)
    if (layer->snapshot() == 0) missing.push_back(layer);
  if (missing.empty()) return {};
  for (const auto& layer : missing)
    if (layer->kind() == record_kind::diff)
      for (const auto& side : layer->parents) KILN_CHECK(prepare_mount(side, job));

  std::vector<record_ptr> again;  // cannot be placed without their parents
  {
    std::vector<making> work(missing.size());
    for (std::size_t i = 0; i < missing.size(); ++i) work[i].r = missing[i];
    std::vector<making*> by_id;
    for (auto& m : work) by_id.push_back(&m);
    std::sort(by_id.begin(), by_id.end(), [](auto* a, auto* b) { return a->r->id < b->r->id; });
    for (auto* m : by_id) {
      KILN_TRY(auto right, materialize_lock::acquire(m->r, job));
      m->right.emplace(std::move(right));
    }
    std::erase_if(work, [](const making& m) { return m.r->snapshot() != 0; });  // made by others meanwhile

    std::stop_source stop;  // one failure ends the others
    std::stop_callback forward(job.stop, [&stop] { stop.request_stop(); });
    auto inner = job;
    inner.stop = stop.get_token();
    parallel_for("unpack", work.size(), limits::parallel_layers, [&](std::size_t i) {
      work[i].outcome = inner.check();
      if (work[i].outcome.ok()) work[i].outcome = make_one(work[i], inner);
      if (!work[i].outcome.ok()) stop.request_stop();
    });
    status failure;
    for (auto& m : work) {
      if (m.needs_parents) again.push_back(m.r);
      if (!m.outcome.ok()) {
        // The first error that is not only the echo of another.
        if (failure.ok() || failure.error().code == errc::cancelled) failure = std::move(m.outcome);
        continue;
      }
      if (m.number == 0) continue;
      KILN_CHECK(keep_made(m));
    }
    if (!failure.ok()) {
      if (failure.error().code == errc::cancelled)
        if (auto wanted = job.check(); !wanted) return wanted;
      return failure;
    }
  }
  for (const auto& r : again) {
    KILN_CHECK(ensure_layers(dedupe_layers(flatten(r->parents[0])), job));
    making m;
    m.r = r;
    KILN_TRY(auto right, materialize_lock::acquire(r, job));
    m.right.emplace(std::move(right));
    if (r->snapshot() != 0) continue;
    KILN_CHECK(make_above_parents(m, job));
    KILN_CHECK(keep_made(m));
  }
  return {};
}

status store_core::make_one(making& m, const job_context& job) {
  return m.r->kind() == record_kind::diff ? make_difference(m, job) : make_from_blob(m, {}, job);
}

/// Some form of the layer's blob that is in the store, fetching it if none is.
result<layer_blob> store_core::fetch_blob(const record_ptr& r, const job_context& job) {
  std::vector<layer_blob> forms;
  {
    std::lock_guard lock(r->mutex);
    forms = blobs_of(r->data, blob_form::transport);
    auto own = blobs_of(r->data, blob_form::own);
    forms.insert(forms.end(), std::make_move_iterator(own.begin()), std::make_move_iterator(own.end()));
  }
  if (forms.empty())
    return make_error(errc::not_found, "layer " + r->id + " has neither a snapshot nor a blob");
  return bring(r, std::move(forms), job);
}

/// The first of these forms that is in the store, or can be brought there.
result<layer_blob> store_core::bring(const record_ptr& r, std::vector<layer_blob> forms,
                                     const job_context& job) {
  std::shared_ptr<blob_provider> provider;
  {
    std::lock_guard lock(r->mutex);
    provider = r->any_provider();
  }
  for (const auto& form : forms)
    if (auto info = blobs_->info(form.blob.digest); info.ok()) {
      if (form.blob.size <= 0 || info->size == form.blob.size) return form;
      spdlog::warn("store: blob {} has a wrong size; dropping it", form.blob.digest.str());
      KILN_CHECK(blobs_->remove(form.blob.digest));
    }
  if (!provider)
    return make_error(errc::not_found, "blob " + forms[0].blob.digest.str() + " of layer " + r->id +
                                           " is not here and nothing is known to bring it");
  status last;
  for (const auto& form : forms) {
    last = provider->fetch(form.blob, *blobs_, job);
    if (last.ok()) {
      if (blobs_->has(form.blob.digest)) return form;
      last = make_error(errc::data_loss,
                        "blob " + form.blob.digest.str() + " was fetched but is not in the store");
    }
    KILN_CHECK(job.check());
  }
  return std::move(last).error();
}

status store_core::unpack_blob(making& m, const fs::path& target, layers_below below,
                               const job_context& job) {
  for (int attempt = 0;; ++attempt) {
    KILN_TRY(auto form, fetch_blob(m.r, job));
    auto exact = blobs_of(m.r->copy(), blob_form::transport);
    auto name = "extracting " + form.blob.digest.str();
    job.progress->progress(name, 0, 0, false);
    KILN_TRY(auto raw, blobs_->read(form.blob.digest));
    auto plain = make_decompressor(std::move(raw));
    hashing_source hashed(*plain);
    unpack_options options;
    options.user_namespace = snapshots_->user_namespace();
    // What was made elsewhere may hide things without having been sent with what it hides.
    bool received = !m.r->copy().origin().empty();
    bool base = m.r->parents.empty();
    options.on_whiteout = (base && !received) || !snapshots_->layered() ? unpack_options::whiteouts::remove
                                                                        : unpack_options::whiteouts::overlay;
    options.stop_if_parents_needed = !base && !below && snapshots_->layered();
    if (below) options.parents = *below;
    options.exact = std::any_of(exact.begin(), exact.end(),
                                [&](const layer_blob& t) { return t.blob.digest == form.blob.digest; });
    auto failed = [&](error e) {
      return std::move(e).with_context("failed to extract layer " + form.blob.digest.str());
    };
    auto outcome = unpack_tar(hashed, target, options, job);
    if (outcome.ok() && outcome->needs_parents) {
      m.needs_parents = true;
      return {};
    }
    status verdict;
    if (!outcome.ok()) {
      verdict = std::move(outcome).error();
    } else {
      m.applied_root = outcome->applied_root;
      auto actual = hashed.finish();
      if (!actual.ok()) verdict = std::move(actual).error();
      else if (*actual != form.diff_id)
        verdict = make_error(errc::data_loss, "wrong diff id calculated on extraction \"" + actual->str() +
                                                  "\", expected \"" + form.diff_id.str() + "\"");
    }
    job.progress->progress(name, 0, 0, true);
    if (verdict.ok()) return {};
    if (verdict.error().code == errc::cancelled || attempt > 0) return failed(std::move(verdict).error());
    // Perhaps the file rotted: verify it, and if so fetch it once more.
    KILN_TRY(auto again, blobs_->read(form.blob.digest));
    hashing_source whole(*again);
    auto actual = whole.finish();
    if (form.blob.digest.algorithm() != "sha256" || (actual.ok() && *actual == form.blob.digest))
      return failed(std::move(verdict).error());
    spdlog::warn("store: blob {} is corrupt; dropping it", form.blob.digest.str());
    KILN_CHECK(blobs_->remove(form.blob.digest));
    KILN_CHECK(empty_directory(target));
  }
}

status store_core::make_from_blob(making& m, layers_below below, const job_context& job) {
  m.needs_parents = false;
  KILN_TRY(auto number, snapshots_->create());
  auto done = unpack_blob(m, snapshots_->fs_of(number), std::move(below), job);
  if (done.ok() && !m.needs_parents) {
    m.number = number;
    return {};
  }
  if (auto gone = snapshots_->remove(number); !gone) spdlog::warn("store: {}", gone.error().message);
  return done;
}

/// Unpacks again, with the layers below to look at.
status store_core::make_above_parents(making& m, const job_context& job) {
  auto layers = dedupe_layers(flatten(m.r->parents[0]));
  std::vector<fs::path> below;
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer)
    below.push_back(snapshots_->fs_of((*layer)->snapshot()));
  return make_from_blob(m, std::move(below), job);
}

/// The snapshot is the record's; its root directory looks as that of the layers below, unless the layer told
/// of its own.
status store_core::keep_made(const making& m) {
  if (!m.applied_root && m.r->kind() == record_kind::layer && !m.r->parents.empty()) {
    auto below = flatten(m.r->parents[0]);
    if (!below.empty() && below.back()->snapshot() != 0) {
      auto source = open_file(snapshots_->fs_of(below.back()->snapshot()), O_RDONLY | O_DIRECTORY);
      auto target = open_file(snapshots_->fs_of(m.number), O_RDONLY | O_DIRECTORY);
      struct stat info {};
      if (source.ok() && target.ok() && ::fstat(source->get(), &info) == 0)
        KILN_CHECK(copy_metadata(source->get(), ".", info, target->get(), "."));
    }
  }
  {
    std::lock_guard lock(m.r->mutex);
    m.r->data.set_snapshot(m.number);
    m.r->data.set_snapshot_size(0);
  }
  store_record(m.r, true);
  return {};
}

status store_core::make_difference(making& m, const job_context& job) {
  std::optional<scoped_mount> lower_mount, upper_mount;
  const auto& above = m.r->parents[1];
  bool is_plain_form =
      m.r->computed && above && has_own_ground(above) && above->parents[0] == m.r->parents[0];
  KILN_TRY(auto lower, state_directory(m.r->parents[0], lower_mount, job));
  fs::path upper;
  if (is_plain_form) upper = snapshots_->fs_of(above->snapshot());
  else {
    KILN_TRY(upper, state_directory(above, upper_mount, job));
  }
  KILN_TRY(auto number, snapshots_->create());
  auto make = is_plain_form ? make_plain_upper : make_upper;
  auto done = make(lower, upper, snapshots_->fs_of(number), snapshots_->user_namespace(), job);
  if (done.ok()) {
    m.number = number;
    m.applied_root = true;
    return {};
  }
  if (auto gone = snapshots_->remove(number); !gone) spdlog::warn("store: {}", gone.error().message);
  return done;
}

/// Without overlays every record, merges and differences too, has the whole state in its own directory.
status store_core::make_native(const record_ptr& r, const job_context& job) {
  for (const auto& next : native_order(r)) {
    KILN_CHECK(job.check());
    KILN_CHECK(make_one_native(next, job));
  }
  return {};
}

/// What has to be made for the record, each after what it is made from; itself last.
std::vector<record_ptr> store_core::native_order(const record_ptr& r) {
  struct frame {
    record_ptr r;
    std::vector<record_ptr> needed;
    std::size_t next = 0;
  };
  std::vector<record_ptr> order;
  std::unordered_set<const record*> seen;
  std::vector<frame> open;
  auto enter = [&](const record_ptr& one) {
    if (!one || one->snapshot() != 0 || !seen.insert(one.get()).second) return;
    frame f{one, one->parents};
    if (one->kind() == record_kind::merge)
      for (const auto& layer : flatten(one)) {
        f.needed.insert(f.needed.end(), layer->parents.begin(), layer->parents.end());
        f.needed.push_back(layer);
      }
    open.push_back(std::move(f));
  };
  enter(r);
  while (!open.empty()) {
    auto& top = open.back();
    if (top.next < top.needed.size()) {
      auto needed = top.needed[top.next++];
      enter(needed);
      continue;
    }
    order.push_back(std::move(top.r));
    open.pop_back();
  }
  return order;
}

status store_core::make_one_native(const record_ptr& r, const job_context& job) {
  making m;
  m.r = r;
  KILN_TRY(auto right, materialize_lock::acquire(r, job));
  m.right.emplace(std::move(right));
  if (r->snapshot() != 0) return {};
  KILN_TRY(auto number, snapshots_->create());
  auto target = snapshots_->fs_of(number);
  auto state = [this](const record_ptr& p) {
    return p ? snapshots_->fs_of(p->snapshot()) : snapshots_->directory_of(0).parent_path() / "empty";
  };
  auto work = [&]() -> status {
    switch (r->kind()) {
      case record_kind::layer: {
        if (!r->parents.empty()) KILN_CHECK(copy_tree(state(r->parents[0]), target, {}, job));
        return unpack_blob(m, target, {}, job);
      }
      case record_kind::merge: {
        KILN_CHECK(copy_tree(state(r->parents[0]), target, {}, job));
        for (std::size_t i = 1; i < r->parents.size(); ++i)
          for (const auto& layer : flatten(r->parents[i])) {
            bool is_diff = layer->kind() == record_kind::diff;
            auto below = is_diff ? layer->parents[0] : layer->parents.empty() ? nullptr : layer->parents[0];
            auto above = is_diff ? layer->parents[1] : layer;
            KILN_CHECK(apply_changes(state(below), state(above), target, job));
          }
        return {};
      }
      case record_kind::diff: return apply_changes(state(r->parents[0]), state(r->parents[1]), target, job);
    }
    return {};
  };
  if (auto done = work(); !done) {
    if (auto gone = snapshots_->remove(number); !gone) spdlog::warn("store: {}", gone.error().message);
    return done;
  }
  {
    std::lock_guard lock(r->mutex);
    r->data.set_snapshot(number);
    r->data.set_snapshot_size(0);
  }
  store_record(r, true);
  return {};
}

}  // namespace kiln::store
