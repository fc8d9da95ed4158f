#include "store/materialize/materializer.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/files.hpp"
#include "base/parallel.hpp"
#include "configs/store.hpp"
#include "store/files/copy_tree.hpp"
#include "store/files/difference.hpp"
#include "store/layers/layer_plan.hpp"
#include "store/materialize/ref_files.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

status materializer::make(const record_ptr& r, const job_context& job) {
  if (!r) return {};
  if (!root_.snapshots().layered()) return make_native(r, job);
  return make_layers(dedupe_layers(flatten(r)), job);
}

/// Everything that mounts of a difference's sides need: none of it is made any more while a lock is held.
status materializer::prepare_sides(const record_ptr& difference, const job_context& job) {
  for (const auto& side : difference->parents()) {
    auto layers = files_.mount_layers(side, job);
    if (!layers.ok()) return std::move(layers).error();
  }
  return {};
}

status materializer::make_layers(const std::vector<record_ptr>& layers, const job_context& job) {
  std::vector<record_ptr> missing;
  for (const auto& layer : layers)
    if (layer->snapshot() == 0) missing.push_back(layer);
  if (missing.empty()) return {};
  for (const auto& layer : missing)
    if (layer->kind == record_kind::diff) KILN_CHECK(prepare_sides(layer, job));

  std::vector<record_ptr> again;  // cannot be placed without their parents
  {
    std::vector<making> work(missing.size());
    for (std::size_t i = 0; i < missing.size(); ++i) work[i].r = missing[i];
    KILN_CHECK(make_at_once(work, job));
    for (const auto& m : work)
      if (m.needs_parents) again.push_back(m.r);
  }  // no lock is held any more
  for (const auto& r : again) KILN_CHECK(make_above_parents(r, job));
  return {};
}

/// Makes each, but those that need their parents.
status materializer::make_at_once(std::vector<making>& work, const job_context& job) {
  std::vector<making*> by_id;
  for (auto& m : work) by_id.push_back(&m);
  std::sort(by_id.begin(), by_id.end(), [](auto* a, auto* b) { return a->r->id < b->r->id; });
  for (auto* m : by_id) {
    KILN_TRY(m->lock, materialize_lock::acquire(m->r, job));
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
    if (!m.outcome.ok()) {
      // The first error that is not only the echo of another.
      if (failure.ok() || failure.error().code == errc::cancelled) failure = std::move(m.outcome);
    } else if (m.number != 0) {
      KILN_CHECK(keep(m));
    }
  }
  if (!failure.ok() && failure.error().code == errc::cancelled) KILN_CHECK(job.check());
  return failure;
}

status materializer::make_one(making& m, const job_context& job) {
  return m.r->kind == record_kind::diff ? make_difference(m, job) : make_from_blob(m, {}, job);
}

status materializer::make_from_blob(making& m, const layers_below& below, const job_context& job) {
  m.needs_parents = false;
  auto made = root_.make_snapshot([&](const fs::path& target) { return unpack(m, target, below, job); });
  if (!made.ok()) return std::move(made).error();
  if (m.needs_parents) root_.drop_snapshot(*made);
  else m.number = *made;
  return {};
}

/// Unpacks again, with the layers below to look at.
status materializer::make_above_parents(const record_ptr& r, const job_context& job) {
  auto layers = dedupe_layers(flatten(r->parents()[0]));
  KILN_CHECK(make_layers(layers, job));
  making m;
  m.r = r;
  KILN_TRY(m.lock, materialize_lock::acquire(r, job));
  if (r->snapshot() != 0) return {};
  std::vector<fs::path> below;
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer)
    below.push_back(root_.snapshots().fs_of((*layer)->snapshot()));
  KILN_CHECK(make_from_blob(m, std::move(below), job));
  return keep(m);
}

status materializer::make_difference(making& m, const job_context& job) {
  std::optional<mounted> lower_mount, upper_mount;
  auto sides = sides_of(m.r);
  bool normalizes = m.r->computed && sides.upper && is_made_on_parent(sides.upper) &&
                    sides.upper->parents()[0] == sides.lower;
  KILN_TRY(auto lower, files_.state_directory(sides.lower, lower_mount, job));
  fs::path upper;
  if (normalizes) upper = root_.snapshots().fs_of(sides.upper->snapshot());
  else {
    KILN_TRY(upper, files_.state_directory(sides.upper, upper_mount, job));
  }
  auto fill = normalizes ? make_plain_upper : make_upper;
  KILN_TRY(m.number, root_.make_snapshot([&](const fs::path& target) {
    return fill(lower, upper, target, root_.snapshots().user_namespace(), job);
  }));
  m.applied_root = true;
  return {};
}

/// The snapshot is the record's.
status materializer::keep(const making& m) {
  KILN_CHECK(copy_root_look(m));
  m.r->set_snapshot(m.number);
  records_.save(m.r, true);
  return {};
}

/// Its root directory looks as that of the layers below, unless the layer told of its own.
status materializer::copy_root_look(const making& m) {
  if (m.applied_root || m.r->kind != record_kind::layer || m.r->parents().empty()) return {};
  auto below = flatten(m.r->parents()[0]);
  if (below.empty() || below.back()->snapshot() == 0) return {};
  auto source = open_file(root_.snapshots().fs_of(below.back()->snapshot()), O_RDONLY | O_DIRECTORY);
  auto target = open_file(root_.snapshots().fs_of(m.number), O_RDONLY | O_DIRECTORY);
  struct stat info {};
  if (!source.ok() || !target.ok() || ::fstat(source->get(), &info) != 0) return {};
  return copy_metadata(source->get(), ".", info, target->get(), ".");
}

}  // namespace kiln::store
