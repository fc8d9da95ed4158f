#include "actors/containers/containers.hpp"

#include <atomic>
#include <map>

#include "actors/containers/container_process.hpp"
#include "actors/containers/held_container.hpp"
#include "configs/containers.hpp"

namespace kiln::actors {

namespace {

namespace cfg = configs::containers;

using held_pointer = std::shared_ptr<held_container>;

/// Decides how many processes run at a time; given back from pool threads.
class process_slots {
 public:
  bool take() {
    if (used_.fetch_add(1) < cfg::processes_max) return true;
    used_.fetch_sub(1);
    return false;
  }
  void give_back() { used_.fetch_sub(1); }

 private:
  std::atomic<std::size_t> used_{0};
};

class containers_state {
 public:
  containers_state(containers_impl::pointer self, containers_options options)
      : self_(self), options_(std::move(options)), slots_(std::make_shared<process_slots>()) {
    self->set_down_handler([this](caf::down_msg& down) {
      auto it = builds_.find(down.source);
      if (it == builds_.end()) return;
      for (auto& [id, held] : it->second) release(held, [](result<bool>) {});
      builds_.erase(it);
    });
  }
  ~containers_state() {
    for (auto& [build, containers] : builds_)
      for (auto& [id, held] : containers) {
        held->kill();
        options_.calls->submit([held = held] { (void)held->release(); });
      }
  }

  containers_impl::behavior_type behavior() {
    return {
        [this](build_actor& build, gw::NewContainerRequest& request) {
          return make(build, std::move(request));
        },
        [this](build_actor& build, gw::ReleaseContainerRequest& request) {
          return release(build, request.containerid());
        },
        [this](build_actor& build, gw::ReadFileRequest& request) {
          return look<gw::ReadFileResponse>(build, std::move(request), &workers::client_container::read_file);
        },
        [this](build_actor& build, gw::ReadDirRequest& request) {
          return look<gw::ReadDirResponse>(build, std::move(request), &workers::client_container::read_dir);
        },
        [this](build_actor& build, gw::StatFileRequest& request) {
          return look<gw::StatFileResponse>(build, std::move(request), &workers::client_container::stat_file);
        },
        [this](exec_atom, build_actor& build, gw::ExecMessage& init, process_listener& listener) {
          return start(build, std::move(init), listener);
        },
        [this](job_done_atom, std::uint64_t id) { jobs_.finish(id); },
    };
  }

 private:
  using container_map = std::map<std::string, held_pointer>;

  held_pointer find(const build_actor& build, const std::string& id) {
    auto b = builds_.find(build.address());
    if (b == builds_.end()) return nullptr;
    auto c = b->second.find(id);
    return c == b->second.end() ? nullptr : c->second;
  }

  caf::result<gw::NewContainerResponse> make(const build_actor& build, gw::NewContainerRequest request) {
    const auto id = request.containerid();
    if (id.empty()) return to_caf(make_error(errc::invalid_argument, "ContainerID required"));
    auto [entry, fresh] = builds_.try_emplace(build.address());
    if (fresh) self_->monitor(build);
    auto& mine = entry->second;
    if (mine.contains(id))
      return to_caf(make_error(errc::already_exists, "Container " + id + " already exists"));
    if (mine.size() >= cfg::containers_per_build_max)
      return to_caf(make_error(
          errc::resource_exhausted,
          "a build may hold " + std::to_string(cfg::containers_per_build_max) + " containers, not more"));
    auto held = std::make_shared<held_container>();
    mine.emplace(id, held);
    auto promise = self_->make_response_promise<gw::NewContainerResponse>();
    container_inputs wanted;
    for (const auto& m : request.mounts()) wanted.refs.push_back(m.resultid());
    self_->request(caf::actor_cast<container_lender>(build), caf::infinite, std::move(wanted))
        .then(
            [this, held, id, promise, request = std::move(request),
             owner = build.address()](container_inputs& inputs) mutable {
              prepare(held, owner, id, std::move(request), std::move(inputs), promise);
            },
            [this, id, held, promise, owner = build.address()](caf::error& e) mutable {
              forget(owner, id, held);
              promise.deliver(std::move(e));
            });
    return promise;
  }

  void prepare(held_pointer held, caf::actor_addr owner, const std::string& id,
               gw::NewContainerRequest request, container_inputs inputs,
               caf::typed_response_promise<gw::NewContainerResponse> promise) {
    jobs_.run<std::shared_ptr<workers::client_container>>(
        self_, *options_.calls,
        [make = options_.make, request = std::move(request), inputs = std::move(inputs)] {
          return make(request, inputs);
        },
        [this, held, owner, id, promise](result<std::shared_ptr<workers::client_container>> made) mutable {
          if (!made.ok()) {
            forget(owner, id, held);
            promise.deliver(to_caf(std::move(made).error()));
            return;
          }
          held->set(*std::move(made));
          if (!builds_.contains(owner) || held->released().stop_requested()) {  // released meanwhile
            options_.calls->submit([held] { (void)held->release(); });
            promise.deliver(to_caf(make_error(errc::cancelled, "context canceled")));
            return;
          }
          promise.deliver(gw::NewContainerResponse());
        });
  }

  void forget(const caf::actor_addr& owner, const std::string& id, const held_pointer& held) {
    auto b = builds_.find(owner);
    if (b == builds_.end()) return;
    auto c = b->second.find(id);
    if (c != b->second.end() && c->second == held) b->second.erase(c);
  }

  void release(const held_pointer& held, std::function<void(result<bool>)> done) {
    held->kill();
    jobs_.run<bool>(
        self_, *options_.calls,
        [held]() -> result<bool> {
          KILN_CHECK(held->release());
          return true;
        },
        std::move(done));
  }

  caf::result<gw::ReleaseContainerResponse> release(const build_actor& build, const std::string& id) {
    auto held = find(build, id);
    if (!held) return to_caf(make_error(errc::unknown, "container details for " + id + " not found"));
    forget(build.address(), id, held);
    auto promise = self_->make_response_promise<gw::ReleaseContainerResponse>();
    release(held, [promise](result<bool> done) mutable {
      if (done.ok()) promise.deliver(gw::ReleaseContainerResponse());
      else promise.deliver(to_caf(std::move(done).error()));
    });
    return promise;
  }

  template <class Reply, class Request>
  caf::result<Reply> look(const build_actor& build, Request request,
                          result<Reply> (workers::client_container::*question)(const Request&)) {
    auto held = find(build, request.ref());
    auto container = held ? held->get() : nullptr;
    if (!container)
      return to_caf(make_error(errc::unknown, "container details for " + request.ref() + "@" +
                                                  std::to_string(request.mountindex()) + " not found"));
    auto promise = self_->make_response_promise<Reply>();
    jobs_.run<Reply>(
        self_, *options_.io,
        [container = std::move(container), request = std::move(request), question]() mutable {
          auto reply = ((*container).*question)(request);
          container.reset();  // here, where unmounting may block
          return reply;
        },
        [promise](result<Reply> reply) mutable { answer(promise, std::move(reply)); });
    return promise;
  }

  caf::result<process_actor> start(const build_actor& build, gw::ExecMessage init,
                                   const process_listener& listener) {
    const auto& id = init.init().containerid();
    auto held = find(build, id);
    auto container = held ? held->get() : nullptr;
    if (!container)
      return to_caf(
          make_error(errc::not_found, "container \"" + id + "\" previously released or not created"));
    if (!slots_->take())
      return to_caf(make_error(errc::resource_exhausted,
                               std::to_string(cfg::processes_max) + " processes run in containers already"));
    held->enter();
    process_options p;
    p.init = std::move(init);
    p.listener = listener;
    p.container = std::move(container);
    p.pool = options_.processes;
    p.released = held->released();
    p.ended = [held, slots = slots_](status how) {
      slots->give_back();
      held->leave(std::move(how));
    };
    return caf::actor_cast<process_actor>(self_->spawn(container_process, std::move(p)));
  }

  containers_impl::pointer self_;
  containers_options options_;
  std::shared_ptr<process_slots> slots_;
  job_runner jobs_;
  std::map<caf::actor_addr, container_map> builds_;
};

}  // namespace

containers_impl::behavior_type containers(containers_impl::stateful_pointer<actor_state> self,
                                          containers_options options) {
  return self->state.hold<containers_state>("containers", self, std::move(options)).behavior();
}

}  // namespace kiln::actors
