// Materializing without overlays: every record, merges and differences too, has the whole state in its own
// directory.
#include <unordered_set>

#include "store/files/copy_tree.hpp"
#include "store/files/difference.hpp"
#include "store/layers/layer_plan.hpp"
#include "store/materialize/materializer.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

/// What has to be made for the record, each after what it is made from; itself last.
std::vector<record_ptr> native_order(const record_ptr& r) {
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
    frame f{one, one->parents()};
    if (one->kind == record_kind::merge)
      for (const auto& layer : flatten(one)) {
        f.needed.insert(f.needed.end(), layer->parents().begin(), layer->parents().end());
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

}  // namespace

status materializer::make_native(const record_ptr& r, const job_context& job) {
  for (const auto& next : native_order(r)) {
    KILN_CHECK(job.check());
    KILN_CHECK(make_one_native(next, job));
  }
  return {};
}

status materializer::make_one_native(const record_ptr& r, const job_context& job) {
  making m;
  m.r = r;
  KILN_TRY(m.lock, materialize_lock::acquire(r, job));
  if (r->snapshot() != 0) return {};
  KILN_TRY(auto number,
           root_.make_snapshot([&](const fs::path& target) { return fill_native(m, target, job); }));
  r->set_snapshot(number);
  records_.save(r, true);
  return {};
}

status materializer::fill_native(making& m, const fs::path& target, const job_context& job) {
  auto& snapshots = root_.snapshots();
  auto state = [&snapshots](const record_ptr& p) {
    return p ? snapshots.fs_of(p->snapshot()) : snapshots.directory_of(0).parent_path() / "empty";
  };
  const auto& parents = m.r->parents();
  switch (m.r->kind) {
    case record_kind::layer:
      if (!parents.empty()) KILN_CHECK(copy_tree(state(parents[0]), target, {}, job));
      return unpack(m, target, {}, job);
    case record_kind::merge:
      KILN_CHECK(copy_tree(state(parents[0]), target, {}, job));
      for (std::size_t i = 1; i < parents.size(); ++i)
        for (const auto& layer : flatten(parents[i])) {
          auto sides = sides_of(layer);
          KILN_CHECK(apply_changes(state(sides.lower), state(sides.upper), target, job));
        }
      return {};
    case record_kind::diff: return apply_changes(state(parents[0]), state(parents[1]), target, job);
  }
  return {};
}

}  // namespace kiln::store
