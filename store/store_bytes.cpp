// Records become directories: fetching, unpacking, computing differences, mounting.
#include <algorithm>
#include <atomic>
#include <cerrno>

#include <spdlog/spdlog.h>

#include "configs/store.hpp"
#include "store/codec.hpp"
#include "store/copy_tree.hpp"
#include "store/difference.hpp"
#include "store/layer_tar.hpp"
#include "store/mount.hpp"
#include "store/sinks.hpp"
#include "store/store_core.hpp"
#include "store/unpack.hpp"
#include "store/xattr.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

// ---------------------------------------------------------------- layers of a record

std::vector<record_ptr> store_core::flatten(const record_ptr& r) {
  std::vector<record_ptr> layers;
  if (!r) return layers;
  switch (r->kind()) {
    case record_kind::layer: {
      std::vector<record_ptr> top_down;
      auto at = r;
      for (; at && at->kind() == record_kind::layer; at = at->parents.empty() ? nullptr : at->parents[0])
        top_down.push_back(at);
      layers = flatten(at);
      layers.insert(layers.end(), top_down.rbegin(), top_down.rend());
      break;
    }
    case record_kind::merge:
      for (const auto& input : r->parents) {
        auto more = flatten(input);
        layers.insert(layers.end(), more.begin(), more.end());
      }
      break;
    case record_kind::diff: {
      auto lower = flatten(r->parents[0]);
      auto upper = flatten(r->parents[1]);
      bool built_on = !r->computed && lower.size() <= upper.size() &&
                      std::equal(lower.begin(), lower.end(), upper.begin());
      if (built_on) layers.assign(upper.begin() + static_cast<std::ptrdiff_t>(lower.size()), upper.end());
      else layers.push_back(r);
      break;
    }
  }
  return layers;
}

std::vector<record_ptr> store_core::once(const std::vector<record_ptr>& layers) {
  std::vector<record_ptr> kept;
  std::unordered_set<const record*> seen;
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer)
    if (seen.insert(layer->get()).second) kept.push_back(*layer);
  std::reverse(kept.begin(), kept.end());
  return kept;
}

std::vector<std::uint64_t> store_core::numbers_of(const std::vector<record_ptr>& layers) {
  std::vector<std::uint64_t> numbers;
  for (const auto& layer : layers) numbers.push_back(layer->snapshot());
  return numbers;
}

result<std::vector<record_ptr>> store_core::mount_layers(const record_ptr& r, const job_context& job) {
  KILN_CHECK(ensure_layers(once(flatten(r)), job));
  std::vector<record_ptr> all;
  KILN_CHECK(collect_mount_layers(r, nullptr, all, job));
  all = once(all);
  KILN_CHECK(ensure_layers(all, job));
  return all;
}

/// As flatten(), layer by layer, with those that `merge` puts on foreign ground in their plain form.
status store_core::collect_mount_layers(const record_ptr& r, const record_ptr& merge,
                                        std::vector<record_ptr>& out, const job_context& job) {
  if (!r) return {};
  auto put = [&](const record_ptr& layer) -> status {
    if (merge) {
      KILN_TRY(auto opaque, has_opaque(layer));
      if (opaque) {
        KILN_TRY(auto plain, plain_form(layer, merge, job));
        out.push_back(std::move(plain));
        return {};
      }
    }
    out.push_back(layer);
    return {};
  };
  switch (r->kind()) {
    case record_kind::layer: {
      std::vector<record_ptr> top_down;
      auto at = r;
      for (; at && at->kind() == record_kind::layer; at = at->parents.empty() ? nullptr : at->parents[0])
        top_down.push_back(at);
      KILN_CHECK(collect_mount_layers(at, merge, out, job));
      for (auto layer = top_down.rbegin(); layer != top_down.rend(); ++layer) KILN_CHECK(put(*layer));
      return {};
    }
    case record_kind::merge:
      for (std::size_t i = 0; i < r->parents.size(); ++i)
        KILN_CHECK(collect_mount_layers(r->parents[i], i == 0 || merge ? merge : r, out, job));
      return {};
    case record_kind::diff: {
      auto own = flatten(r);
      if (own.size() == 1 && own[0] == r) {
        out.push_back(r);
        return {};
      }
      std::vector<record_ptr> upper;  // as long as flatten() of it
      KILN_CHECK(collect_mount_layers(r->parents[1], merge, upper, job));
      out.insert(out.end(), upper.end() - static_cast<std::ptrdiff_t>(own.size()), upper.end());
      return {};
    }
  }
  return {};
}

namespace {

result<bool> find_opaque(int directory, const std::string& attribute, int depth) {
  if (depth > limits::tree_depth) return make_error(errc::out_of_range, "directories are nested too deeply");
  KILN_TRY(auto names, list_names(directory));
  for (const auto& name : names) {
    auto child = open_at(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK);
    if (!child.ok()) continue;  // no directory
    auto value = get_xattr(directory, name, attribute);
    if (value.ok() && *value == "y") return true;
    KILN_TRY(auto inside, find_opaque(child->get(), attribute, depth + 1));
    if (inside) return true;
  }
  return false;
}

}  // namespace

result<bool> store_core::has_opaque(const record_ptr& layer) {
  if (layer->kind() != record_kind::layer || layer->parents.empty()) return false;  // nothing below to hide
  std::uint64_t number = 0;
  {
    std::lock_guard lock(layer->mutex);
    if (layer->opaque) return *layer->opaque;
    number = layer->data.snapshot();
  }
  if (number == 0) return false;
  KILN_TRY(auto directory, open_file(snapshots_->fs_of(number), O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto found,
           find_opaque(directory.get(), overlay_xattr(snapshots_->user_namespace(), "opaque"), 0));
  std::lock_guard lock(layer->mutex);
  layer->opaque = found;
  return found;
}

/// What the layer changed over its own parent, with every removal a whiteout of its own.
result<record_ptr> store_core::plain_form(const record_ptr& layer, const record_ptr& merge,
                                          const job_context& job) {
  constexpr std::string_view key = "store.plain";
  record_ptr plain;
  {
    std::lock_guard lock(layer->mutex);
    plain = layer->plain.lock();
  }
  if (!plain)
    if (auto id = metadata(layer->id, key))
      if (auto loaded = load(*id); loaded.ok() && (*loaded)->computed) plain = *loaded;
  if (!plain) {
    auto made = fresh(record_kind::diff, {.description = "plain form of " + layer->id});
    made.set_computed(true);
    plain = admit(std::move(made), {layer->parents[0], layer});
    store_record(plain, false);
    if (auto kept = set_metadata(layer->id, key, plain->id); !kept)
      spdlog::warn("store: {}", kept.error().message);
  }
  {
    std::lock_guard lock(layer->mutex);
    layer->plain = plain;
  }
  {
    std::lock_guard lock(merge->mutex);
    if (std::find(merge->pins.begin(), merge->pins.end(), plain) == merge->pins.end())
      merge->pins.push_back(plain);
  }
  KILN_CHECK(ensure_layers({plain}, job));
  return plain;
}

// ---------------------------------------------------------------- making snapshots

result<making_right> making_right::acquire(const record_ptr& r, const job_context& job) {
  std::unique_lock lock(r->mutex);
  if (!r->made.wait(lock, job.stop, [&r] { return !r->being_made; })) {
    if (auto wanted = job.check(); !wanted) return std::move(wanted).error();
  }
  r->being_made = true;
  return making_right(r);
}

making_right::~making_right() {
  if (!record_) return;
  {
    std::lock_guard lock(record_->mutex);
    record_->being_made = false;
  }
  record_->made.notify_all();
}

struct store_core::making {
  record_ptr r;
  std::optional<making_right> right;
  std::uint64_t number = 0;  // of the snapshot made; 0 when it could not be
  bool needs_parents = false;
  bool saw_root = false;
  status outcome;
};

status store_core::unlazy(const record_ptr& r, const job_context& job) {
  if (!r) return {};
  if (!snapshots_->layered()) return make_native(r, job);
  return ensure_layers(once(flatten(r)), job);
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
      for (const auto& side : layer->parents) KILN_CHECK(unlazy(side, job));

  std::vector<record_ptr> again;  // cannot be placed without their parents
  {
    std::vector<making> work(missing.size());
    for (std::size_t i = 0; i < missing.size(); ++i) work[i].r = missing[i];
    std::vector<making*> by_id;
    for (auto& m : work) by_id.push_back(&m);
    std::sort(by_id.begin(), by_id.end(), [](auto* a, auto* b) { return a->r->id < b->r->id; });
    for (auto* m : by_id) {
      KILN_TRY(auto right, making_right::acquire(m->r, job));
      m->right.emplace(std::move(right));
    }
    std::erase_if(work, [](const making& m) { return m.r->snapshot() != 0; });  // made by others meanwhile

    std::stop_source stop;  // one failure ends the others
    std::stop_callback forward(job.stop, [&stop] { stop.request_stop(); });
    auto inner = job;
    inner.stop = stop.get_token();
    std::atomic<std::size_t> next{0};
    auto run = [&] {
      for (std::size_t i; (i = next++) < work.size();) {
        work[i].outcome = inner.check();
        if (work[i].outcome.ok()) work[i].outcome = make_one(work[i], inner);
        if (!work[i].outcome.ok()) stop.request_stop();
      }
    };
    auto helpers = std::min<std::size_t>(limits::parallel_layers, work.size());
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 1; i < helpers; ++i) threads.emplace_back(run);
      run();
    }
    status failure;
    for (auto& m : work) {
      if (m.needs_parents) again.push_back(m.r);
      if (!m.outcome.ok()) {
        // The first error that is not only the echo of another.
        if (failure.ok() || failure.error().code == errc::cancelled) failure = std::move(m.outcome);
        continue;
      }
      if (m.number == 0) continue;
      if (!m.saw_root && m.r->kind() == record_kind::layer && !m.r->parents.empty()) {
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
        m.r->data.set_size(0);
      }
      store_record(m.r, true);
    }
    if (!failure.ok()) {
      if (failure.error().code == errc::cancelled)
        if (auto wanted = job.check(); !wanted) return wanted;
      return failure;
    }
  }
  for (const auto& r : again) {
    KILN_CHECK(unlazy(r->parents[0], job));
    making m;
    m.r = r;
    KILN_TRY(auto right, making_right::acquire(r, job));
    m.right.emplace(std::move(right));
    if (r->snapshot() != 0) continue;
    KILN_CHECK(place_on_parents(m, job));
    {
      std::lock_guard lock(r->mutex);
      r->data.set_snapshot(m.number);
      r->data.set_size(0);
    }
    store_record(r, true);
  }
  return {};
}

status store_core::make_one(making& m, const job_context& job) {
  return m.r->kind() == record_kind::diff ? make_difference(m, job) : make_from_blob(m, job);
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
result<layer_blob> store_core::bring(const record_ptr& r, std::vector<layer_blob> forms, const job_context& job) {
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

status store_core::unpack_blob(making& m, const fs::path& target, bool onto_parents, bool& needs_parents,
                               bool& saw_root, const job_context& job) {
  for (int attempt = 0;; ++attempt) {
    KILN_TRY(auto form, fetch_blob(m.r, job));
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
    options.on_whiteout = onto_parents || (base && !received) || !snapshots_->layered() ? unpack_options::whiteouts::remove
                                                                         : unpack_options::whiteouts::overlay;
    options.stop_if_parents_needed = !base && !onto_parents;
    auto failed = [&](error e) {
      return std::move(e).with_context("failed to extract layer " + form.blob.digest.str());
    };
    auto outcome = unpack_tar(hashed, target, options, job);
    if (outcome.ok() && outcome->needs_parents) {
      needs_parents = true;
      return {};
    }
    status verdict;
    if (!outcome.ok()) {
      verdict = std::move(outcome).error();
    } else {
      saw_root = outcome->saw_root;
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

status store_core::make_from_blob(making& m, const job_context& job) {
  KILN_TRY(auto number, snapshots_->create());
  auto done = unpack_blob(m, snapshots_->fs_of(number), false, m.needs_parents, m.saw_root, job);
  if (done.ok() && !m.needs_parents) {
    m.number = number;
    return {};
  }
  if (auto gone = snapshots_->remove(number); !gone) spdlog::warn("store: {}", gone.error().message);
  return done;
}

/// Unpacks onto a mount of the layers below, as containerd always does.
status store_core::place_on_parents(making& m, const job_context& job) {
  KILN_TRY(auto number, snapshots_->create());
  auto layers = mount_layers(m.r->parents[0], job);
  if (!layers.ok()) {
    if (auto gone = snapshots_->remove(number); !gone) spdlog::warn("store: {}", gone.error().message);
    return std::move(layers).error();
  }
  auto below = numbers_of(*layers);
  auto work = [&]() -> status {
    if (!below.empty()) {
      KILN_TRY(auto source, open_file(snapshots_->fs_of(below.back()), O_RDONLY | O_DIRECTORY));
      KILN_TRY(auto target, open_file(snapshots_->fs_of(number), O_RDONLY | O_DIRECTORY));
      struct stat info {};
      if (::fstat(source.get(), &info) != 0) return errno_error(errno, "stat of a root directory");
      KILN_CHECK(copy_metadata(source.get(), ".", info, target.get(), "."));
    }
    KILN_TRY(auto spec, snapshots_->read_write(number, below));
    {
      KILN_TRY(auto mount, scoped_mount::make(*this, {spec}));
      bool ignored = false;
      KILN_CHECK(unpack_blob(m, mount.path(), true, ignored, m.saw_root, job));
    }
    return snapshots_->seal(number);
  };
  auto done = work();
  if (done.ok()) {
    m.number = number;
    return {};
  }
  if (auto gone = snapshots_->remove(number); !gone) spdlog::warn("store: {}", gone.error().message);
  return done;
}

status store_core::make_difference(making& m, const job_context& job) {
  std::optional<scoped_mount> lower_mount, upper_mount;
  KILN_TRY(auto lower, state_directory(m.r->parents[0], lower_mount, job));
  KILN_TRY(auto upper, state_directory(m.r->parents[1], upper_mount, job));
  KILN_TRY(auto number, snapshots_->create());
  auto done = make_upper(lower, upper, snapshots_->fs_of(number), snapshots_->user_namespace(), job);
  if (done.ok()) {
    m.number = number;
    m.saw_root = true;
    return {};
  }
  if (auto gone = snapshots_->remove(number); !gone) spdlog::warn("store: {}", gone.error().message);
  return done;
}

/// Without overlays every record, merges and differences too, has the whole state in its own directory.
status store_core::make_native(const record_ptr& r, const job_context& job) {
  if (r->snapshot() != 0) return {};
  std::vector<record_ptr> needed = r->parents;
  if (r->kind() == record_kind::merge)
    for (const auto& layer : flatten(r))
      needed.insert(needed.end(), layer->parents.begin(), layer->parents.end());
  for (const auto& p : needed)
    if (p) KILN_CHECK(make_native(p, job));
  if (r->kind() == record_kind::merge)
    for (const auto& layer : flatten(r)) KILN_CHECK(make_native(layer, job));
  making m;
  m.r = r;
  KILN_TRY(auto right, making_right::acquire(r, job));
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
        bool ignored = false;
        return unpack_blob(m, target, true, ignored, m.saw_root, job);
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
    r->data.set_size(0);
  }
  store_record(r, true);
  return {};
}

// ---------------------------------------------------------------- mounting and reading

result<std::vector<mount_spec>> store_core::mounts(const record_ptr& r, const job_context& job) {
  if (!r) return std::vector{snapshots_->read_only({}, false)};
  KILN_CHECK(unlazy(r, job));
  if (!snapshots_->layered()) {
    std::vector<std::uint64_t> own{r->snapshot()};
    return std::vector{snapshots_->read_only(own, false)};
  }
  KILN_TRY(auto layers, mount_layers(r, job));
  if (layers.size() > limits::layers_per_mount)
    return make_error(errc::resource_exhausted, "a mount of " + std::to_string(layers.size()) +
                                                    " layers; overlayfs takes at most " +
                                                    std::to_string(limits::layers_per_mount));
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
    info.provider = layer->any_provider();
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
    checked_sink checked(out, job);
    auto moved = store::copy(*plain, checked);
    if (!moved.ok()) return std::move(moved).error().with_context("archive of layer " + r->id);
    return {};
  }
  if (snapshots_->layered()) {
    KILN_CHECK(ensure_layers({r}, job));
    return write_upper_tar(snapshots_->fs_of(r->snapshot()), snapshots_->user_namespace(), out, job);
  }
  bool is_diff = r->kind() == record_kind::diff;
  auto below = is_diff ? r->parents[0] : r->parents.empty() ? nullptr : r->parents[0];
  auto above = is_diff ? r->parents[1] : r;
  std::optional<scoped_mount> ignored;
  KILN_TRY(auto lower, state_directory(below, ignored, job));
  KILN_TRY(auto upper, state_directory(above, ignored, job));
  return write_difference_tar(lower, upper, out, job);
}

status store_core::add_layer_blob(std::string_view layer_id, const layer_blob& blob) {
  KILN_TRY(auto r, load(std::string(layer_id)));
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
