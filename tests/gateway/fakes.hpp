// Fake actors behind a real gateway, and a real gRPC client in front of it.
#pragma once

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include <caf/all.hpp>

#include "control.grpc.pb.h"
#include "gateway/server.hpp"
#include "gateway/services.hpp"
#include "gateway/session/session_registry.hpp"
#include "messages/actor_error.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::testing {

struct actor_config : caf::actor_system_config {
  actor_config() {
    add_message_types<caf::id_block::kiln>();
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", 2);
  }
};

/// A value that one thread sets and another waits for.
template <class T>
class box {
 public:
  void put(T value) {
    std::lock_guard lock(mutex_);
    value_ = std::move(value);
    changed_.notify_all();
  }
  std::optional<T> get(std::chrono::seconds limit = std::chrono::seconds{10}) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, limit, [&] { return value_.has_value(); });
    return value_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<T> value_;
};

class temp_dir {
 public:
  temp_dir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kiln-gw-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~temp_dir() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

/// What the fake builds actor does; set before the gateway starts.
struct fake_behaviour {
  std::function<caf::result<ctl::SolveResponse>(caf::event_based_actor*, ctl::SolveRequest&)> solve;
  std::function<void(status_listener)> watch;
  build_actor build;
  box<std::string> cancelled;
  box<bool> requester_down;
  box<ctl::SolveRequest> solved;
};

/// Behaves as builds_actor. `solve` unset: never answers, but notes the requester going down.
inline builds_actor spawn_builds(caf::actor_system& system, std::shared_ptr<fake_behaviour> b) {
  return system.spawn(
      [b](builds_actor::pointer self, caf::unit_t) -> builds_actor::behavior_type {
        self->set_down_handler([b](caf::down_msg&) { b->requester_down.put(true); });
        auto promises = std::make_shared<std::vector<caf::typed_response_promise<ctl::SolveResponse>>>();
        return {
            [=](solve_atom, ctl::SolveRequest& request) -> caf::result<ctl::SolveResponse> {
              auto reply = b->solve;
              b->solved.put(request);
              if (reply) return reply(nullptr, request);
              self->monitor(self->current_sender());
              auto promise = self->make_response_promise<ctl::SolveResponse>();
              promises->push_back(promise);
              return promise;
            },
            [=](find_atom, const std::string& id) -> caf::result<build_actor> {
              if (b->build && id == "known") return b->build;
              return to_caf(make_error(errc::not_found, "no such job " + id));
            },
            [=](watch_atom, const std::string& ref, status_listener listener) -> caf::result<bool> {
              if (!b->watch) return to_caf(make_error(errc::not_found, "no such job " + ref));
              b->watch(listener);
              return true;
            },
            [=](cancel_atom, const std::string& ref) { b->cancelled.put(ref); },
        };
      },
      caf::unit);
}

inline workers_actor spawn_workers(caf::actor_system& system) {
  return system.spawn(
      [](workers_actor::pointer, caf::unit_t) -> workers_actor::behavior_type {
        return {[](list_atom, const ctl::ListWorkersRequest&) {
          ctl::ListWorkersResponse response;
          auto* worker = response.add_record();
          worker->set_id("w0");
          (*worker->mutable_labels())["org.mobyproject.buildkit.worker.executor"] = "oci";
          auto* platform = worker->add_platforms();
          platform->set_os("linux");
          platform->set_architecture("amd64");
          return response;
        }};
      },
      caf::unit);
}

/// A gateway on a unix socket in a directory of its own, with fakes behind it.
class gateway_fixture {
 public:
  gateway_fixture() : system(config), behaviour(std::make_shared<fake_behaviour>()) {}
  ~gateway_fixture() {
    if (server) server->shutdown();
    server.reset();
    for (auto& a : actors) caf::anon_send_exit(a, caf::exit_reason::user_shutdown);
    behaviour->build = nullptr;
  }

  gateway::services make_services() {
    gateway::services s;
    s.system = &system;
    auto builds = spawn_builds(system, behaviour);
    auto workers = spawn_workers(system);
    actors.push_back(caf::actor_cast<caf::actor>(builds));
    actors.push_back(caf::actor_cast<caf::actor>(workers));
    s.builds = gateway::always(builds);
    s.workers = gateway::always(workers);
    s.cache_manager = gateway::always(cache_manager);
    s.history = gateway::always(history);
    s.sessions = sessions;
    s.version = "v1.2.3-test";
    return s;
  }
  void start() {
    gateway::server_options options;
    options.addresses = {"unix://" + (dir.path / "kilnd.sock").string()};
    auto started = gateway::server::start(options, make_services());
    if (!started.ok()) throw std::runtime_error(started.error().message);
    server = *std::move(started);
  }
  std::shared_ptr<grpc::Channel> channel(std::string target = {}) {
    if (target.empty()) target = server->addresses().front();
    if (target.starts_with("unix://")) target = "unix:" + target.substr(7);
    if (target.starts_with("tcp://")) target = target.substr(6);
    grpc::ChannelArguments args;
    args.SetMaxReceiveMessageSize(16 << 20);
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), args);
  }
  std::unique_ptr<ctl::Control::Stub> control() { return ctl::Control::NewStub(channel()); }

  temp_dir dir;
  actor_config config;
  caf::actor_system system;
  std::shared_ptr<fake_behaviour> behaviour;
  std::shared_ptr<gateway::session_registry> sessions = std::make_shared<gateway::session_registry>();
  cache_manager_actor cache_manager;
  history_actor history;
  std::vector<caf::actor> actors;
  std::unique_ptr<gateway::server> server;
};

}  // namespace kiln::testing
