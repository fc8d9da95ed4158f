#include "gateway/peer/peer_refs.hpp"

#include <spdlog/spdlog.h>

#include <map>
#include <mutex>

#include "base/pause.hpp"
#include "content.grpc.pb.h"
#include "gateway/peer/peer_requests.hpp"
#include "gateway/peer/peer_service.hpp"
#include "gateway/transport/pulled_stream.hpp"
#include "messages/located_id.hpp"
#include "solver/error_details.hpp"
#include "store/files/turns.hpp"

namespace kiln::gateway {

namespace cfg = configs::peers;
namespace content_api = containerd::services::content::v1;

struct peer_refs::shared : std::enable_shared_from_this<peer_refs::shared> {
  shared(store::ref_store& s, std::shared_ptr<peer_directory> p, peer_refs_options o)
      : store(s), peers(std::move(p)), options(o) {}

  std::string remembered(const std::string& located) {
    std::lock_guard lock(mutex);
    auto found = known.find(located);
    return found == known.end() ? std::string() : found->second;
  }
  void remember(const std::string& located, const std::string& id) {
    std::lock_guard lock(mutex);
    if (known.size() >= cfg::remembered_refs_max) known.clear();
    known[located] = id;
  }
  void forget(const std::string& located) {
    std::lock_guard lock(mutex);
    known.erase(located);
  }
  /// A pause before the attempt after `n` that moved nothing.
  status pause(int n, const std::stop_token& stop) {
    if (pause_for(options.retry_pause * (1 << std::min(n - 1, 6)), stop)) return {};
    return make_error(errc::cancelled, "context canceled");
  }

  store::ref_store& store;
  const std::shared_ptr<peer_directory> peers;
  const peer_refs_options options;
  std::mutex mutex;
  store::turns turns;                        // of refs being made known here
  std::map<std::string, std::string> known;  // "node!id" → id here
};

namespace {

error frozen(const peer& p, std::chrono::milliseconds idle) {
  return make_error(errc::deadline_exceeded,
                    "node " + p.node + " has sent nothing for " + std::to_string(idle.count()) + " ms");
}

/// Whether asking once more may help.
bool is_passing(const error& e) {
  return e.code == errc::unavailable || e.code == errc::internal || e.code == errc::unknown ||
         e.code == errc::aborted || e.code == errc::cancelled;
}

/// Blobs of one ref, from the node that has it.
class peer_blobs final : public store::blob_provider {
 public:
  peer_blobs(std::shared_ptr<peer_refs::shared> shared, std::string located)
      : shared_(std::move(shared)), located_(std::move(located)), where_(located_id::parse(located_)) {}

  bool is_peer() const override { return true; }

  status fetch(const descriptor& blob, store::blob_store& into, const job_context& job) override {
    KILN_TRY(auto writer, into.bring(blob.digest, blob.size, job.stop));
    if (!writer) return {};
    bool is_local = false;  // the failure is this node's own
    auto s = pull(blob, *writer, job, is_local);
    if (s.ok()) return s;
    KILN_CHECK(job.check());
    if (is_local) return s;
    // The next who wants the ref asks its node anew.
    shared_->forget(located_);
    return solver::lost_ref(located_, s.error().message);
  }

 private:
  using stream = pulled_stream<content_api::ReadContentResponse>;

  error refuse(store::blob_writer& writer, const descriptor& blob, const std::string& what) {
    writer.discard();
    auto e = make_error(errc::data_loss,
                        "node " + where_.node + " sent " + what + " for blob " + blob.digest.str());
    spdlog::warn("{}", e.message);
    return e;
  }

  status pull(const descriptor& blob, store::blob_writer& writer, const job_context& job, bool& is_local) {
    const auto name = "receiving " + blob.digest.str();
    error last = make_error(errc::unavailable, "");
    bool provided = false;
    for (int idle = 0; idle < shared_->options.attempts_max;) {
      if (idle > 0) KILN_CHECK(shared_->pause(idle, job.stop));
      KILN_CHECK(job.check());
      const auto begin = writer.offset();
      if (begin == blob.size && begin > 0) break;
      auto p = shared_->peers->await(where_.node, shared_->options.join_time, job.stop);
      if (!p) return make_error(errc::unavailable, "node " + where_.node + " is not in the cluster");
      auto outcome = read_some(*p, blob, writer, job, name, is_local);
      if (outcome.ok()) {
        if (writer.offset() == blob.size) break;
        last = make_error(errc::unavailable, "node " + p->node + " ended blob " + blob.digest.str() + " at " +
                                                 std::to_string(writer.offset()) + " of " +
                                                 std::to_string(blob.size) + " bytes");
      } else if (outcome.error().code == errc::not_found && !std::exchange(provided, true)) {
        KILN_CHECK(provide(*p, blob, job));
        continue;
      } else {
        last = std::move(outcome).error();
        if (is_local || !is_passing(last)) return last;
      }
      idle = writer.offset() > begin ? 0 : idle + 1;
      if (idle >= shared_->options.attempts_max) return last;
    }
    auto committed = writer.commit();
    if (!committed.ok()) {
      if (committed.error().code != errc::data_loss) {
        is_local = true;
        return std::move(committed).error();
      }
      auto e = make_error(errc::data_loss,
                          "node " + where_.node + " sent a wrong blob: " + committed.error().message);
      spdlog::warn("{}", e.message);
      return e;
    }
    job.progress->progress(name, blob.size, blob.size, true);
    return {};
  }

  /// One stream, from where the writer is.
  status read_some(peer& p, const descriptor& blob, store::blob_writer& writer, const job_context& job,
                   const std::string& name, bool& is_local) {
    content_api::ReadContentRequest request;
    request.set_digest(blob.digest.str());
    request.set_offset(writer.offset());
    auto stub = content_api::Content::NewStub(p.channel);
    any_stop stop(job.stop, p.gone.get_token());
    stream in(cfg::read_ahead_messages, stop.token(),
              [&](auto* context, auto* reactor) { stub->async()->Read(context, &request, reactor); });
    content_api::ReadContentResponse piece;
    for (;;) {
      switch (in.next(piece, shared_->options.idle_timeout)) {
        case stream::outcome::idle: return frozen(p, shared_->options.idle_timeout);
        case stream::outcome::end: return in.verdict();
        case stream::outcome::message: break;
      }
      auto n = static_cast<std::int64_t>(piece.data().size());
      shared_->peers->traffic().in += n;
      if (writer.offset() + n > blob.size)
        return refuse(writer, blob, "more than the " + std::to_string(blob.size) + " bytes it told of");
      if (auto kept = writer.write(piece.data()); !kept.ok()) {
        is_local = true;
        return kept;
      }
      job.progress->progress(name, writer.offset(), blob.size, false);
    }
  }

  /// Has the node fetch the blob itself, from a registry or yet another node.
  status provide(peer& p, const descriptor& blob, const job_context& job) {
    peer_api::ProvideBlobRequest request;
    request.set_ref(where_.id);
    request.set_digest(blob.digest.str());
    auto stub = peer_api::Peer::NewStub(p.channel);
    any_stop stop(job.stop, p.gone.get_token());
    using signs = pulled_stream<peer_api::ProvideBlobResponse>;
    signs in(cfg::read_ahead_messages, stop.token(),
             [&](auto* context, auto* reactor) { stub->async()->ProvideBlob(context, &request, reactor); });
    peer_api::ProvideBlobResponse sign;
    for (;;) switch (in.next(sign, shared_->options.idle_timeout)) {
        case signs::outcome::idle: return frozen(p, shared_->options.idle_timeout);
        case signs::outcome::end: return in.verdict();
        case signs::outcome::message: break;
      }
  }

  const std::shared_ptr<peer_refs::shared> shared_;
  const std::string located_;
  const located_id where_;
};

/// Asks a node what its ref is made of.
result<peer_api::RefDescription> describe(peer_refs::shared& shared, const located_id& where,
                                          const job_context& job) {
  error last = make_error(errc::unavailable, "");
  for (int n = 1;; ++n) {
    KILN_CHECK(job.check());
    auto p = shared.peers->await(where.node, shared.options.join_time, job.stop);
    if (!p) return make_error(errc::unavailable, "node " + where.node + " is not in the cluster");
    peer_api::DescribeRefRequest request;
    request.set_id(where.id);
    auto stub = peer_api::Peer::NewStub(p->channel);
    any_stop stop(job.stop, p->gone.get_token());
    using stream = pulled_stream<peer_api::DescribeRefResponse>;
    stream in(cfg::read_ahead_messages, stop.token(),
              [&](auto* context, auto* reactor) { stub->async()->DescribeRef(context, &request, reactor); });
    std::optional<peer_api::RefDescription> answer;
    peer_api::DescribeRefResponse message;
    for (bool more = true; more;) switch (in.next(message, shared.options.idle_timeout)) {
        case stream::outcome::idle: return frozen(*p, shared.options.idle_timeout);
        case stream::outcome::end: more = false; break;
        case stream::outcome::message:
          if (message.has_result()) answer = std::move(*message.mutable_result());
          break;
      }
    auto verdict = in.verdict();
    if (verdict.ok()) {
      if (answer) return *std::move(answer);
      return make_error(errc::data_loss, "node " + where.node + " did not describe the ref");
    }
    last = std::move(verdict).error();
    if (!is_passing(last) || n >= shared.options.attempts_max) return last;
    KILN_CHECK(shared.pause(n, job.stop));
  }
}

}  // namespace

peer_refs::peer_refs(store::ref_store& store, std::shared_ptr<peer_directory> peers,
                     peer_refs_options options)
    : shared_(std::make_shared<shared>(store, std::move(peers), options)) {}

result<store::ref> peer_refs::fetch(const std::string& located, const job_context& job) {
  auto where = located_id::parse(located);
  auto& store = shared_->store;
  if (where.id.empty()) return store::ref{};
  if (where.node.empty() || where.node == shared_->peers->self()) {
    auto own = store.get(where.id);
    if (!own.ok() && own.error().code == errc::not_found)
      return solver::lost_ref(located, own.error().message);
    return own;
  }
  KILN_TRY(auto turn, shared_->turns.wait("ref " + located, job.stop));
  auto provider = std::make_shared<peer_blobs>(shared_, located);
  if (auto id = shared_->remembered(located); !id.empty()) {
    if (auto have = store.get(id); have.ok()) {
      store.peers().add_peer_source(*have, provider);
      return have;
    }
    shared_->forget(located);
  }
  auto described = describe(*shared_, where, job);
  if (!described.ok()) {
    KILN_CHECK(job.check());
    return solver::lost_ref(located, described.error().message);
  }
  auto refuse = [&](const std::string& why) {
    spdlog::warn("node {} described ref {} in a way that makes no sense: {}", where.node, where.id, why);
    return solver::lost_ref(located,
                            "node " + where.node + " described it in a way that makes no sense: " + why);
  };
  if (described->layers_size() > cfg::layers_max)
    return refuse(std::to_string(described->layers_size()) + " layers");
  std::vector<store::shipped_layer> layers;
  for (const auto& proto : described->layers()) {
    auto layer = from_proto(proto);
    if (!layer.ok()) return refuse(layer.error().message);
    layers.push_back(*std::move(layer));
  }
  store::ref at;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    store::record_options options;
    options.description = layers[i].description;
    options.created_at_ns = layers[i].created_at_ns;
    bool known_type =
        described->type() >= 0 && described->type() <= static_cast<int>(store::record_type::exec_cachemount);
    if (i + 1 == layers.size() && known_type)
      options.type = static_cast<store::record_type>(described->type());
    auto next = store.peers().import_from_peer(at, layers[i], provider, options);
    if (!next.ok()) {
      if (next.error().code == errc::invalid_argument) return refuse(next.error().message);
      return std::move(next).error();
    }
    at = *std::move(next);
  }
  if (at) shared_->remember(located, at.id());
  return at;
}

}  // namespace kiln::gateway
