// A small finished build in a store of its own, and a client that offers a content store, for cache tests.
#pragma once

#include <mutex>
#include <set>
#include <thread>

#include "content.pb.h"
#include "exporters/cache/cache_exporter.hpp"
#include "exporters/cache/cache_importer.hpp"
#include "exporters/cache/collect.hpp"
#include "distribution/hosts.hpp"
#include "solver/cache_key.hpp"
#include "tests/store/store_fixture.hpp"
#include "tests/support/fake_client.hpp"
#include "tests/support/stream_pair.hpp"

namespace kiln::exporters::testing {

using store::testing::layer_of;
using store::testing::listing;
using store::testing::must;

inline std::string op(const std::string& name) { return sha256(name).str(); }

/// A daemon's worth of state.
struct test_daemon {
  store::testing::temporary_root root;
  std::unique_ptr<store::ref_store> refs = store::testing::open_store(root);
  distribution::hosts hosts;
  exporter_resources resources{refs.get(), &hosts};
};

/// image → run → copy (of `files`, by content) and, beside it, tool → run2, whose output copy takes as well:
/// steps 0 image, 1 run, 2 tool (run on image), 3 copy(run, tool). Keys as vertices make them.
struct finished_build : test_daemon {
  store::ref image, run, tool, copy;
  std::string image_key = solver::root_key(op("image"), 0), run_key, tool_key, copy_key;
  std::string content = solver::content_key(sha256("what copy takes of tool"));
  cache_scope scope;

  finished_build() {
    image = layer_of(*refs, {}, {{"etc/base", "base"}});
    run = layer_of(*refs, image, {{"ran", "yes"}}, {.description = "RUN it"});
    tool = layer_of(*refs, image, {{"tool", "made"}, {"tool.o", "left over"}});
    copy = layer_of(*refs, run, {{"tool", "made"}});
    run_key = add("run", {{image_key, {0, 0, op("run"), "sel"}}});
    tool_key = add("tool", {{image_key, {0, 0, op("tool"), ""}}});
    copy_key = add("copy", {{run_key, {0, 0, op("copy"), ""}},
                            {tool_key, {1, 0, op("copy"), "path"}},
                            {content, {1, 0, op("copy"), ""}}});
    save(image_key, image, 1'000'000'000);
    save(run_key, run, 2'000'000'000);
    save(tool_key, tool, 3'000'000'000);
    save(copy_key, copy, 4'000'000'000);
    scope.steps = {{{image_key}, image.id(), {}, {}},
                   {{run_key}, run.id(), {0}, {}},
                   {{tool_key}, tool.id(), {0}, {}},
                   {{copy_key}, copy.id(), {1, 2}, {}}};
    scope.results = {3};
  }
  std::string add(const std::string& name, const std::vector<std::pair<std::string, cache_link>>& from) {
    auto key = sha256("local key of " + name).str();
    cache_records batch;
    for (const auto& [parent, link] : from) batch.links.push_back({parent, link, key});
    must(refs->keys().add(batch));
    return key;
  }
  void save(const std::string& key, const store::ref& r, std::int64_t created) {
    cache_records batch;
    batch.results.push_back({key, {r.id(), created}});
    must(refs->keys().add(batch));
  }
};

/// What a vertex of another daemon finds for copy: keys by run's key (found first) and tool's content.
inline std::vector<std::string> find_copy(const solver::key_lookup& cache) {
  auto ran = cache.children(solver::root_key(op("image"), 0), {0, 0, op("run"), "sel"});
  if (ran.size() != 1) return {};
  solver::cache_map map;
  map.op_digest = sha256("copy");
  map.dependencies = {{}, {"another selector", true, {}}};
  solver::key_search search(map, 0);
  search.add_input_keys(0, ran, cache);
  search.set_content(1, sha256("what copy takes of tool"), cache);
  return search.matches();
}

/// A client's content store under one id.
class content_client {
 public:
  explicit content_client(std::string store_id) : store_id_(std::move(store_id)) {
    namespace proto = containerd::services::content::v1;
    session_->on_call("/containerd.services.content.v1.Content/Info",
                      [this](std::string_view bytes, const call_metadata& m) -> result<std::string> {
                        KILN_CHECK(right_store(m));
                        proto::InfoRequest q;
                        q.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
                        std::lock_guard lock(mutex_);
                        auto found = blobs_.find(q.digest());
                        if (found == blobs_.end())
                          return make_error(errc::not_found, q.digest() + ": not found");
                        proto::InfoResponse a;
                        a.mutable_info()->set_digest(q.digest());
                        a.mutable_info()->set_size(static_cast<std::int64_t>(found->second.size()));
                        return a.SerializeAsString();
                      });
    session_->on_open("/containerd.services.content.v1.Content/Read", [this](const call_metadata& m) {
      return serve(m, [this](auto& s) { return read(s); });
    });
    session_->on_open("/containerd.services.content.v1.Content/Write", [this](const call_metadata& m) {
      return serve(m, [this](auto& s) { return write(s); });
    });
    directory_.add(session_);
  }
  ~content_client() { threads_.clear(); }

  job_context job() { return directory_.job(); }
  std::map<std::string, std::string> blobs() {
    std::lock_guard lock(mutex_);
    return blobs_;
  }
  void set(const std::string& d, const std::string& bytes) {
    std::lock_guard lock(mutex_);
    blobs_[d] = bytes;
  }
  int writes() {
    std::lock_guard lock(mutex_);
    return writes_;
  }
  /// Refuses this many attempts to write, as while another writer has the blob.
  void lock(int attempts) {
    std::lock_guard lock(mutex_);
    locked_ = attempts;
  }

 private:
  using stream = kiln::test::stream_end;

  status right_store(const call_metadata& m) const {
    for (const auto& [name, value] : m)
      if (name == "buildkit-attachable-store-id" && value == store_id_) return {};
    return make_error(errc::not_found, "unknown store: not found");
  }

  result<std::unique_ptr<message_stream>> serve(const call_metadata& m, std::function<status(stream&)> f) {
    KILN_CHECK(right_store(m));
    auto [mine, theirs] = kiln::test::make_stream_pair();
    std::lock_guard lock(mutex_);
    threads_.emplace_back([f = std::move(f), s = std::move(mine)]() mutable { s->end(f(*s)); });
    return std::unique_ptr<message_stream>(std::move(theirs));
  }

  status read(stream& s) {
    namespace proto = containerd::services::content::v1;
    std::string message, bytes;
    proto::ReadContentRequest q;
    if (!s.read(message) || !q.ParseFromString(message)) return make_error(errc::internal, "no request");
    {
      std::lock_guard lock(mutex_);
      auto found = blobs_.find(q.digest());
      if (found == blobs_.end()) return make_error(errc::not_found, q.digest() + ": not found");
      bytes = found->second;
    }
    for (auto at = static_cast<std::size_t>(q.offset()); at < bytes.size(); at += 1000) {
      proto::ReadContentResponse a;
      a.set_offset(static_cast<std::int64_t>(at));
      a.set_data(bytes.substr(at, 1000));
      s.write(a.SerializeAsString());
    }
    return {};
  }

  status write(stream& s) {
    namespace proto = containerd::services::content::v1;
    std::string message, bytes;
    while (s.read(message)) {
      proto::WriteContentRequest q;
      if (!q.ParseFromString(message)) return make_error(errc::internal, "bad request");
      std::lock_guard lock(mutex_);
      if (blobs_.contains(q.expected())) return make_error(errc::already_exists, "content already exists");
      if (q.action() == proto::STAT && locked_ > 0 && locked_-- > 0)
        return make_error(errc::unavailable, "ref " + q.ref() + " locked for 1s (since now): unavailable");
      proto::WriteContentResponse a;
      a.set_action(q.action());
      if (q.action() == proto::WRITE) {
        if (q.offset() == 0) bytes.clear();
        if (q.offset() != static_cast<std::int64_t>(bytes.size()))
          return make_error(errc::out_of_range, "write must occur at current offset");
        bytes += q.data();
      }
      if (q.action() == proto::COMMIT) {
        if (sha256(bytes).str() != q.expected())
          return make_error(errc::failed_precondition, "unexpected commit digest");
        ++writes_;
        blobs_[q.expected()] = bytes;
      }
      a.set_offset(static_cast<std::int64_t>(bytes.size()));
      s.write(a.SerializeAsString());
    }
    return {};
  }

  std::string store_id_;
  std::mutex mutex_;
  std::map<std::string, std::string> blobs_;
  int locked_ = 0;
  int writes_ = 0;
  std::shared_ptr<kiln::test::fake_session> session_ = std::make_shared<kiln::test::fake_session>("client");
  kiln::test::fake_directory directory_;
  std::vector<std::jthread> threads_;
};

}  // namespace kiln::exporters::testing
