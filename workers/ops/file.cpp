// The file op: a small graph of actions over snapshots. Intermediate states stay in one snapshot as long as
// nobody else needs them; a state that is an output, or is used twice, is committed.
#include <fcntl.h>
#include <unistd.h>

#include <map>
#include <vector>

#include <spdlog/spdlog.h>

#include "base/unique_fd.hpp"
#include "configs/executor.hpp"
#include "store/files/confinement.hpp"
#include "workers/executor/rooted.hpp"
#include "workers/executor/users.hpp"
#include "workers/ops/file_actions.hpp"
#include "workers/ops/ops.hpp"

namespace kiln::workers {

namespace {

/// A snapshot being changed, mounted.
struct open_state {
  store::mutable_ref snapshot;
  store::mounted mount;
  unique_fd root;
};

/// A committed state, mounted for reading.
struct read_state {
  store::mounted mount;
  unique_fd root;
};

class file_solver {
 public:
  file_solver(store::ref_store& refs, const op_request& request, std::span<const store::ref> inputs,
              const job_context& job)
      : refs_(refs),
        request_(request),
        op_(request.op.file()),
        inputs_(inputs),
        job_(job),
        states_(inputs.size() + static_cast<std::size_t>(op_.actions_size())) {}

  result<std::vector<store::ref>> solve() {
    KILN_CHECK(plan());
    std::vector<store::ref> outputs(outputs_.size());
    for (const auto& [output, index] : outputs_) {
      KILN_CHECK(make(index));
      outputs[static_cast<std::size_t>(output)] = state_of(index).ref;
    }
    return outputs;
  }

 private:
  /// What an index of the op stands for, once made: a committed ref or an open snapshot.
  struct state {
    bool under_way = false;
    bool done = false;
    int uses = 0;
    bool commit = false;
    store::ref ref;
    std::unique_ptr<open_state> open;
  };

  int count() const { return static_cast<int>(inputs_.size()); }
  state& state_of(std::int64_t index) { return states_[static_cast<std::size_t>(index)]; }

  status plan() {
    auto total = static_cast<std::int64_t>(states_.size());
    auto use = [&](std::int64_t index) -> status {
      if (index < -1 || index >= total)
        return make_error(errc::invalid_argument, "invalid input index " + std::to_string(index) + ", " +
                                                      std::to_string(total) + " provided");
      if (index >= 0 && ++state_of(index).uses > 1) state_of(index).commit = true;
      return {};
    };
    for (int i = 0; i < op_.actions_size(); ++i) {
      const auto& action = op_.actions(i);
      KILN_CHECK(use(action.input()));
      for (auto read : read_by(action)) KILN_CHECK(use(read));
      if (action.output() == -1) continue;
      if (!outputs_.emplace(action.output(), count() + i).second)
        return make_error(errc::invalid_argument, "duplicate output " + std::to_string(action.output()));
      state_of(count() + i).commit = true;
    }
    if (outputs_.empty()) return make_error(errc::invalid_argument, "no outputs specified");
    for (std::size_t i = 0; i < outputs_.size(); ++i)
      if (!outputs_.count(static_cast<std::int64_t>(i)))
        return make_error(errc::invalid_argument, "missing output index " + std::to_string(i));
    return {};
  }

  static const pb::ChownOpt* owner_of(const pb::FileAction& action) {
    switch (action.action_case()) {
      case pb::FileAction::kCopy: return action.copy().has_owner() ? &action.copy().owner() : nullptr;
      case pb::FileAction::kMkfile: return action.mkfile().has_owner() ? &action.mkfile().owner() : nullptr;
      case pb::FileAction::kMkdir: return action.mkdir().has_owner() ? &action.mkdir().owner() : nullptr;
      case pb::FileAction::kSymlink:
        return action.symlink().has_owner() ? &action.symlink().owner() : nullptr;
      default: return nullptr;
    }
  }

  /// What an action only reads: the second input, and where names of owners are looked up.
  static std::vector<std::int64_t> read_by(const pb::FileAction& action) {
    std::vector<std::int64_t> inputs{action.secondaryinput()};
    auto* owner = owner_of(action);
    if (!owner) return inputs;
    if (owner->user().has_byname()) inputs.push_back(owner->user().byname().input());
    if (owner->group().has_byname()) inputs.push_back(owner->group().byname().input());
    return inputs;
  }

  /// Brings the state of an index about, committed or open in a snapshot of its own, after all it is made
  /// from. An op may chain any number of actions, so without recursion.
  status make(std::int64_t wanted) {
    std::vector<std::int64_t> path{wanted};
    while (!path.empty()) {
      auto index = path.back();
      if (auto missing = missing_for(index)) {
        if (std::exchange(state_of(*missing).under_way, true))
          return make_error(errc::invalid_argument, "loop from index " + std::to_string(*missing));
        path.push_back(*missing);
        continue;
      }
      if (!state_of(index).done) KILN_CHECK(perform(index));
      path.pop_back();
    }
    return {};
  }

  /// Something an index is made from that is not there yet. What it builds on comes first: what it only reads
  /// is made right before that, and need not stay open while a long chain is made.
  std::optional<std::int64_t> missing_for(std::int64_t index) {
    if (index < count() || state_of(index).done) return std::nullopt;
    const auto& action = op_.actions(static_cast<int>(index - count()));
    if (action.input() >= 0 && !state_of(action.input()).done) return action.input();
    for (auto read : read_by(action))
      if (read >= 0 && !state_of(read).done) return read;
    return std::nullopt;
  }

  status perform(std::int64_t index) {
    auto& s = state_of(index);
    if (index < count()) {
      s.ref = inputs_[static_cast<std::size_t>(index)];
      s.done = true;
      return {};
    }
    const auto& action = op_.actions(static_cast<int>(index - count()));
    // Many states may be read; few need to stay mounted for that.
    if (readers_.size() > configs::file_op_readers_max) readers_.clear();
    KILN_TRY(auto target, open_for(action.input()));
    auto done = run(action, *target);
    if (!done.ok()) {
      leave(static_cast<int>(index - count()), std::move(target));
      return std::move(done).error();
    }
    // A state that is not committed has no other user.
    for (auto read : read_by(action))
      if (read >= 0) take(state_of(read));
    if (s.commit || open_ >= configs::file_op_open_max) {
      target->root.reset();
      KILN_CHECK(target->mount.unmount());
      KILN_TRY(s.ref, refs_.commit(std::move(target->snapshot)));
    } else {
      s.open = std::move(target);
      ++open_;
    }
    s.done = true;
    return {};
  }

  /// What it is open in, for the one that goes on with it; null when it is not open.
  std::unique_ptr<open_state> take(state& s) {
    if (s.open) --open_;
    return std::move(s.open);
  }

  /// An action has failed: shows what it was given and what it made of it.
  void leave(int failed, std::unique_ptr<open_state> target) {
    if (!request_.left || job_.stop.stop_requested()) return;
    auto& left = *request_.left;
    left.any = true;
    left.action = failed;
    left.inputs.assign(inputs_.begin(), inputs_.end());
    left.mounts.assign(static_cast<std::size_t>(op_.actions_size()), {});
    left.mounts[static_cast<std::size_t>(failed)] = freeze(std::move(target));
    auto secondary = op_.actions(failed).secondaryinput();
    if (secondary < count()) return;
    auto& s = state_of(secondary);
    left.mounts[static_cast<std::size_t>(secondary - count())] = s.open ? freeze(std::move(s.open)) : s.ref;
  }

  store::ref freeze(std::unique_ptr<open_state> open) {
    open->root.reset();
    auto frozen = open->mount.unmount() ? refs_.freeze(std::move(open->snapshot)) : store::ref{};
    if (frozen) return *std::move(frozen);
    spdlog::warn("state of failed file op {}: {}", request_.vertex, frozen.error().message);
    return {};
  }

  /// The snapshot an action writes to: the one its input is still open in, or a new one on top.
  result<std::unique_ptr<open_state>> open_for(std::int64_t input) {
    if (input >= 0)
      if (auto open = take(state_of(input))) return open;
    auto o = std::make_unique<open_state>();
    store::record_options options;
    options.description = request_.name;
    KILN_TRY(o->snapshot, refs_.create(input >= 0 ? state_of(input).ref : store::ref{}, options, job_));
    KILN_TRY(auto specs, refs_.files().mounts(o->snapshot));
    KILN_TRY(o->mount, store::mounted::make(refs_, specs));
    KILN_TRY(o->root, store::open_confined(o->mount.path()));
    return o;
  }

  /// A root to read from; open snapshots are read where they are.
  result<int> read_root(std::int64_t index) {
    if (index < 0) {
      if (!scratch_) {
        KILN_TRY(scratch_path_, refs_.scratch().make("scratch"));
        scratch_ = unique_fd{open(scratch_path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
        rmdir(scratch_path_.c_str());
      }
      return scratch_.get();
    }
    if (state_of(index).open) return state_of(index).open->root.get();
    auto& r = readers_[index];
    if (!r) {
      auto fresh = std::make_unique<read_state>();
      KILN_TRY(auto specs, refs_.files().mounts(state_of(index).ref, job_));
      KILN_TRY(fresh->mount, store::mounted::make(refs_, specs));
      KILN_TRY(fresh->root, store::open_confined(fresh->mount.path()));
      r = std::move(fresh);
    }
    return r->root.get();
  }

  /// Names that nobody has are root's, as other builders have it. Source: solver/llbsolver/ops/user_linux.go.
  result<std::optional<file_owner>> resolve_owner(const pb::FileAction& action) {
    auto* chown = owner_of(action);
    if (!chown) return std::optional<file_owner>{};
    file_owner owner;
    if (chown->user().has_byname()) {
      KILN_TRY(auto root, read_root(chown->user().byname().input()));
      const auto& name = chown->user().byname().name();
      KILN_TRY(auto ids, user_named_in_root(root, name));
      if (!ids) job_.progress->warn("no user \"" + name + "\" in /etc/passwd: root is made the owner");
      owner.uid = ids ? ids->uid : 0;
      owner.gid = ids ? ids->gid : 0;
    } else if (chown->has_user()) {
      owner.uid = chown->user().byid();
      owner.gid = owner.uid;
    }
    if (chown->group().has_byname()) {
      KILN_TRY(auto root, read_root(chown->group().byname().input()));
      const auto& name = chown->group().byname().name();
      KILN_TRY(auto gid, group_named_in_root(root, name));
      if (!gid) job_.progress->warn("no group \"" + name + "\" in /etc/group: it stays the owner's");
      owner.gid = gid.value_or(owner.gid);
    } else if (chown->has_group()) {
      owner.gid = chown->group().byid();
    }
    return std::optional{owner};
  }

  status run(const pb::FileAction& action, open_state& target) {
    KILN_CHECK(job_.check());
    KILN_TRY(auto owner, resolve_owner(action));
    int root = target.root.get();
    switch (action.action_case()) {
      case pb::FileAction::kMkdir: return make_directory(root, action.mkdir(), owner);
      case pb::FileAction::kMkfile: return make_file(root, action.mkfile(), owner);
      case pb::FileAction::kSymlink: return make_symlink(root, action.symlink(), owner);
      case pb::FileAction::kRm: return remove_path(root, action.rm());
      case pb::FileAction::kCopy: {
        KILN_TRY(auto source, read_root(action.secondaryinput()));
        return copy_path(source, root, target.mount.path().string(), action.copy(), owner, job_);
      }
      default: return make_error(errc::invalid_argument, "invalid file action");
    }
  }

  store::ref_store& refs_;
  const op_request& request_;
  const pb::FileOp& op_;
  std::span<const store::ref> inputs_;
  const job_context& job_;
  std::map<std::int64_t, std::int64_t> outputs_;  // output → index
  std::vector<state> states_;                     // by index: inputs, then actions
  std::size_t open_ = 0;                          // of them
  std::map<std::int64_t, std::unique_ptr<read_state>> readers_;
  std::filesystem::path scratch_path_;
  unique_fd scratch_;
};

class file_handler final : public op_handler {
 public:
  explicit file_handler(store::ref_store& refs) : refs_(refs) {}

  result<solver::cache_map> cache_map(const op_request& request, int, const job_context&) override {
    return solver::cache_map_of(request.op, request.platform);
  }

  result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref> inputs,
                                      const job_context& job) override {
    return file_solver{refs_, request, inputs, job}.solve();
  }

 private:
  store::ref_store& refs_;
};

}  // namespace

std::shared_ptr<op_handler> make_file_handler(worker_resources& resources) {
  return std::make_shared<file_handler>(*resources.refs);
}

}  // namespace kiln::workers
