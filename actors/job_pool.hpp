// Threads for blocking work, and the way its outcome gets back into an actor.
//
// No work waits for work of its own pool, or enough of it would wait for ever: what may wait for clients,
// registries or other nodes (`calls`) has other threads than short work on the disk (`io`) that their answers
// need; frontends, which wait for the frontends they call, have a pool for each depth.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "base/result.hpp"
#include "base/thread_pool.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

/// A pool that refuses nothing: more work waits in order. With no threads at all it runs inside submit(), for
/// deterministic tests.
class job_pool : public thread_pool {
 public:
  explicit job_pool(unsigned threads_max) : thread_pool("job", threads_max) {}
};

/// Pools for work that waits for deeper work of its kind: one for each depth, made when it is first needed.
/// Thread-safe.
class layered_pool {
 public:
  /// Threads at each depth; 0 as in job_pool.
  explicit layered_pool(unsigned threads_max) : threads_max_(threads_max) {}
  /// For work that was called for at `depth` (from 0), and waits for deeper work only.
  job_pool& at(std::size_t depth);

 private:
  const unsigned threads_max_;
  std::mutex mutex_;
  std::deque<job_pool> pools_;
};

/// A job has ended: (job_done_atom, its number), for job_runner::finish().
using job_done_atom = caf::atom_constant<caf::atom("jobdone")>;

/// One actor's side of a pool. The actor forwards (job_done_atom, id) messages to finish(); `done` then
/// runs as part of it. Owned by the actor's state; work that outlives the actor is dropped quietly.
class job_runner {
 public:
  job_runner() : shared_(std::make_shared<shared_state>()) {}

  template <class T>
  void run(caf::local_actor* self, job_pool& pool, std::function<result<T>()> work,
           std::function<void(result<T>)> done) {
    auto id = ++last_id_;
    auto home = caf::actor_cast<caf::actor>(self->ctrl());
    pool.submit([shared = shared_, home = std::move(home), id, work = std::move(work),
                 done = std::move(done)]() mutable {
      auto outcome = guarded<T>(work);
      {
        std::lock_guard lock{shared->mutex};
        shared->finished.emplace(id, [done = std::move(done), outcome = std::move(outcome)]() mutable {
          done(std::move(outcome));
        });
      }
      caf::anon_send(home, job_done_atom::value, id);
    });
  }

  /// As run(), or here and now when the work is known to be `small`.
  template <class T>
  void run_unless(bool small, caf::local_actor* self, job_pool& pool, std::function<result<T>()> work,
                  std::function<void(result<T>)> done) {
    if (!small) return run<T>(self, pool, std::move(work), std::move(done));
    done(guarded<T>(work));
  }

  void finish(std::uint64_t id) {
    std::function<void()> done;
    {
      std::lock_guard lock{shared_->mutex};
      auto found = shared_->finished.find(id);
      if (found == shared_->finished.end()) return;
      done = std::move(found->second);
      shared_->finished.erase(found);
    }
    done();
  }

 private:
  struct shared_state {
    std::mutex mutex;
    std::map<std::uint64_t, std::function<void()>> finished;
  };

  template <class T>
  static result<T> guarded(std::function<result<T>()>& work) {
    try {
      return work();
    } catch (const std::exception& e) {
      return make_error(errc::internal, std::string("unexpected: ") + e.what());
    }
  }

  std::shared_ptr<shared_state> shared_;
  std::uint64_t last_id_ = 0;
};

}  // namespace kiln::actors
