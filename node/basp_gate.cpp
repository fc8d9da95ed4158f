#include "node/basp_gate.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <caf/io/basp/header.hpp>
#include <caf/message_id.hpp>

namespace kiln::node {

namespace {

namespace cfg = configs::cluster;
using operation = caf::io::basp::message_type;

constexpr std::size_t header_bytes = caf::io::basp::header_size;
constexpr std::uint8_t named_receiver = caf::io::basp::header::named_receiver_flag;
constexpr std::uint8_t select_connection = caf::io::basp::header::select_connection_flag;

/// Something that nodes ask or tell each other.
struct shape {
  actor_kind to;
  std::string types;  // as on the wire, without "@<>+"
  std::size_t bytes_max;
  std::uint64_t atom = 0;  // the first element, if it is one
};

template <class T, class... Ts>
constexpr bool is_one_of = (std::is_same_v<T, Ts> || ...);

/// How large a message with such a part may be.
template <class T>
constexpr std::size_t bytes_max_with() {
  if constexpr (is_one_of<T, link_hello, types::WorkerRecord>) return cfg::hello_bytes_max;
  if constexpr (is_one_of<T, ctl::StatusResponse>) return cfg::status_bytes_max;
  if constexpr (is_one_of<T, cache_query, cache_records, run_request, run_reply, checksum_request,
                          gw::ReadFileResponse, gw::ReadDirResponse, gw::StatFileResponse, caf::error>)
    return cfg::message_bytes_max;
  return cfg::small_message_bytes_max;
}

template <class First, class... Rest>
std::uint64_t number_of() {
  if constexpr (caf::is_atom_constant<First>::value)
    return static_cast<std::uint64_t>(static_cast<caf::atom_value>(First::value));
  return 0;
}

template <class... Parts>
shape shape_of(actor_kind to) {
  std::string types;
  for (auto name : {wire_name<Parts>()...}) types.append(types.empty() ? "" : "+").append(name);
  return {to, std::move(types), std::max({bytes_max_with<Parts>()...}), number_of<Parts...>()};
}

template <class... In, class... Out>
void add_shapes(std::vector<shape>& all, actor_kind to,
                caf::typed_mpi<caf::detail::type_list<In...>, caf::output_tuple<Out...>>) {
  all.push_back(shape_of<In...>(to));
  if constexpr (!(std::is_void_v<Out> || ...)) all.push_back(shape_of<Out...>(actor_kind::asker));
}

template <class... Signatures>
void add_interface(std::vector<shape>& all, actor_kind to, caf::detail::type_list<Signatures...>) {
  (add_shapes(all, to, Signatures()), ...);
}

/// All that the interfaces of nodes have in them.
const std::vector<shape>& shapes() {
  static const auto all = [] {
    std::vector<shape> out;
    add_interface(out, actor_kind::cluster, node_actor::signatures());
    add_interface(out, actor_kind::inbound_worker, peer_worker_actor::signatures());
    add_interface(out, actor_kind::progress, progress_actor::signatures());
    out.push_back(shape_of<caf::error>(actor_kind::asker));
    return out;
  }();
  return all;
}

/// Walks over a direct message's payload: no forwarding stack, one message. Its type names and first atom.
bool walk_message(basp_walk& w, std::string_view& types, std::uint64_t& atom) {
  std::uint32_t stages = 0;
  if (!w.length(stages) || (stages != 0 && !w.fail()) || !w.head(types)) return false;
  types.remove_prefix(std::min(types.size(), std::strlen("@<>+")));
  bool first = true;
  for (auto left = types; !left.empty();) {
    auto name = left.substr(0, left.find('+'));
    if (first && name == "@atom") {
      if (!w.number(atom)) return false;
    } else if (!walk_named(w, name)) {
      return false;
    }
    first = false;
    left.remove_prefix(std::min(left.size(), name.size() + 1));
  }
  return w.at_end();
}

std::string kind_text(actor_kind kind) {
  switch (kind) {
    case actor_kind::asker: return "one who asked something";
    case actor_kind::cluster: return "the cluster's actor";
    case actor_kind::inbound_worker: return "a worker";
    case actor_kind::progress: return "one who hears of progress";
  }
  return "nobody";
}

}  // namespace

// The nodes.

result<std::shared_ptr<basp_peer>> basp_peers::enter(const std::string& node,
                                                     const certificate_identity& identity,
                                                     const std::string& self) {
  if (node == self && identity.fingerprint != own_.fingerprint)
    return make_error(errc::permission_denied, "it claims to be this node");
  std::lock_guard lock(mutex_);
  std::erase_if(peers_, [](const auto& entry) { return entry.second.expired(); });
  if (auto known = peers_[node].lock()) {
    if (known->identity.fingerprint == identity.fingerprint) return known;
    return make_error(errc::permission_denied,
                      "it claims to be a node that another certificate is connected as");
  }
  auto fresh = std::make_shared<basp_peer>();
  fresh->identity = identity;
  peers_[node] = fresh;
  return fresh;
}

std::vector<std::string> basp_peers::names_of(const caf::node_id& node) const {
  auto* data = node ? dynamic_cast<const caf::node_id::default_data*>(&*node) : nullptr;
  if (!data) return {};
  auto host = data->host_id();
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8)
    bytes.push_back(static_cast<char>(data->process_id() >> shift));
  bytes.append(reinterpret_cast<const char*>(host.data()), host.size());
  std::lock_guard lock(mutex_);
  auto found = peers_.find(bytes);
  if (found == peers_.end()) return {};
  auto peer = found->second.lock();
  return peer ? peer->identity.names : std::vector<std::string>{};
}

// Frames.

basp_gate::header basp_gate::read_header(std::string_view bytes) {
  header h;
  basp_walk w(bytes, 0, 0);
  w.number(h.operation);
  w.number(h.padding1);
  w.number(h.padding2);
  w.number(h.flags);
  w.number(h.payload_bytes);
  w.number(h.data);
  w.number(h.source);
  w.number(h.dest);
  return h;
}

basp_walk basp_gate::walk(std::string_view payload) const {
  return basp_walk(payload, peers_->limits().elements_max, peers_->limits().depth_max);
}

error basp_gate::refuse(std::string what) { return make_error(errc::permission_denied, std::move(what)); }

status basp_gate::take_in(std::string_view bytes, std::string& pass_on) {
  while (!bytes.empty()) {
    auto wanted = header_bytes + (in_.has_header ? in_.head.payload_bytes : 0);
    auto n = std::min(wanted - in_.bytes.size(), bytes.size());
    in_.bytes.append(bytes.substr(0, n));
    bytes.remove_prefix(n);
    if (!peers_->hold(n)) return refuse("too much has come of messages that are not whole");
    if (in_.bytes.size() < wanted) return {};
    if (!in_.has_header) {
      in_.head = read_header(in_.bytes);
      KILN_CHECK(check_header(in_.head));
      in_.has_header = true;
      if (in_.head.payload_bytes > 0) continue;
    }
    KILN_TRY(auto how, check(in_.head, std::string_view(in_.bytes).substr(header_bytes)));
    if (how == verdict::pass) pass_on += in_.bytes;
    peers_->let_go(in_.bytes.size());
    in_ = {};
  }
  return {};
}

status basp_gate::check_header(const header& h) const {
  if (h.operation > static_cast<std::uint8_t>(operation::heartbeat))
    return refuse("no operation has number " + std::to_string(h.operation));
  auto what = static_cast<operation>(h.operation);
  std::size_t most = what == operation::direct_message ? peers_->limits().message_bytes_max
                     : what == operation::heartbeat    ? 0
                                                       : cfg::small_message_bytes_max;
  if (h.padding1 != 0 || h.padding2 != 0) return refuse("a header is not one");
  if (h.payload_bytes > most)
    return refuse("a message claims " + std::to_string(h.payload_bytes) + " bytes, more than any has");
  return {};
}

result<basp_gate::verdict> basp_gate::check(const header& h, std::string_view payload) {
  switch (static_cast<operation>(h.operation)) {
    case operation::server_handshake:
    case operation::client_handshake: return check_handshake(h, payload);
    case operation::direct_message: return check_message(h, payload);
    case operation::monitor_message:
    case operation::down_message: return check_news(h, payload);
    case operation::heartbeat:
      if (h.flags != 0 || h.data != 0 || h.source != 0 || h.dest != 0) return refuse("a header is not one");
      return verdict::pass;
    default: return refuse("it sends what is to be passed on to others");
  }
}

result<basp_gate::verdict> basp_gate::check_handshake(const header& h, std::string_view payload) {
  auto w = walk(payload);
  std::string node;
  std::uint64_t published = 0;
  if (!w.node(node) || node.empty()) return refuse("a handshake without a node");
  bool is_server = static_cast<operation>(h.operation) == operation::server_handshake;
  if (is_server != dialled_) return refuse("a handshake from the wrong side");
  if (h.source != 0 || h.dest != 0) return refuse("a handshake of an actor");
  if (is_server) {
    std::vector<std::string> applications;
    std::set<std::string> interface;
    if (handshakes_ > 0 || h.flags != 0 || !w.value(applications) || !w.number(published) ||
        !w.value(interface))
      return refuse("a handshake that is not one");
  } else if (handshakes_ > 1 || h.data != 0 || (h.flags & ~select_connection) != 0 ||
             (handshakes_ > 0 && node != node_)) {
    return refuse("a handshake that is not one");
  }
  if (!w.at_end()) return refuse("a handshake that is not one");
  ++handshakes_;
  if (peer_) return verdict::pass;
  KILN_TRY(peer_, peers_->enter(node, other_, self_));
  node_ = std::move(node);
  for (auto [actor, kind] : std::exchange(told_, {})) tell(actor, kind);
  if (published != 0) KILN_CHECK(knows(published));
  return verdict::pass;
}

status basp_gate::knows(std::uint64_t actor) {
  peer_->theirs.insert(actor);
  if (peer_->theirs.size() > peers_->limits().actors_max)
    return refuse("it tells of more actors than a node has");
  return {};
}

status basp_gate::check_handles(const basp_walk& walked) {
  for (const auto& h : walked.handles()) {
    if (h.node == node_) {
      KILN_CHECK(knows(h.id));
    } else if (h.node != self_ || !peer_->told.contains(h.id)) {
      return refuse("it names an actor that it does not know");
    }
  }
  return {};
}

result<basp_gate::verdict> basp_gate::check_message(const header& h, std::string_view payload) {
  if (!peer_) return refuse("a message before the handshake");
  // Nodes introduce CAF's own actors to each other, for what is not wanted here.
  if (h.flags == named_receiver) return verdict::drop;
  if (h.flags != 0) return refuse("a message has unknown flags");
  caf::message_id id{h.data};
  if (!id.is_normal_message() || id.is_answered()) return refuse("a message of an odd category");
  auto w = walk(payload);
  std::string_view types;
  std::uint64_t atom = 0;
  if (!walk_message(w, types, atom)) return refuse("a message is none that nodes send each other");
  auto dest = peer_->told.find(h.dest);
  if (dest == peer_->told.end()) return refuse("a message is for an actor that it was not told of");
  if (h.source != 0) KILN_CHECK(knows(h.source));
  KILN_CHECK(check_handles(w));
  bool answers = id.is_response();
  if (answers && dest->second.asked.erase(id.request_id().integer_value()) == 0)
    return refuse("an answer to what was not asked");
  for (const auto& s : shapes()) {
    bool fits = s.types == types && s.atom == atom && payload.size() <= s.bytes_max;
    if (fits && (answers ? s.to == actor_kind::asker
                         : dest->second.kinds.contains(s.to) && s.to != actor_kind::asker))
      return verdict::pass;
  }
  auto whom = dest->second.kinds.empty() ? std::string("nobody") : kind_text(*dest->second.kinds.rbegin());
  return refuse("a message (" + std::string(types.substr(0, cfg::reason_bytes_max / 4)) + ", " +
                std::to_string(payload.size()) + " bytes) is none that " + whom + " is sent");
}

/// Who is watched, and who has ended.
result<basp_gate::verdict> basp_gate::check_news(const header& h, std::string_view payload) {
  if (!peer_) return refuse("a message before the handshake");
  bool is_down = static_cast<operation>(h.operation) == operation::down_message;
  auto w = walk(payload);
  std::string from, to;
  if (h.flags != 0 || h.data != 0 || !w.node(from) || !w.node(to)) return refuse("a header is not one");
  if (from != node_ || to != self_) return refuse("it speaks for another node");
  if (is_down && (h.source == 0 || h.dest != 0 || !w.error())) return refuse("an end that is not one");
  if (!is_down && (h.source != 0 || h.dest == 0)) return refuse("a header is not one");
  if (!w.at_end()) return refuse("a message is longer than it is");
  if (is_down) peer_->theirs.erase(h.source);
  return verdict::pass;
}

// What this node says.

void basp_gate::take_out(std::string_view bytes) {
  while (!bytes.empty()) {
    if (out_.left_out > 0) {
      auto n = std::min(out_.left_out, bytes.size());
      out_.left_out -= n;
      bytes.remove_prefix(n);
      continue;
    }
    auto wanted = header_bytes + (out_.has_header ? out_.head.payload_bytes : 0);
    auto n = std::min(wanted - out_.bytes.size(), bytes.size());
    out_.bytes.append(bytes.substr(0, n));
    bytes.remove_prefix(n);
    if (out_.bytes.size() < wanted) return;
    if (!out_.has_header) {
      out_.head = read_header(out_.bytes);
      out_.has_header = true;
      if (out_.head.payload_bytes >
          peers_->limits().message_bytes_max) {  // the other side will not take it either
        auto left = out_.head.payload_bytes;
        out_ = {};
        out_.left_out = left;
        continue;
      }
      if (out_.head.payload_bytes > 0) continue;
    }
    note(out_.head, std::string_view(out_.bytes).substr(header_bytes));
    out_ = {};
  }
}

void basp_gate::note(const header& h, std::string_view payload) {
  auto w = walk(payload);
  switch (static_cast<operation>(h.operation)) {
    case operation::client_handshake: w.node(self_); break;
    case operation::server_handshake: {
      std::vector<std::string> applications;
      std::uint64_t published = 0;
      if (w.node(self_) && w.value(applications) && w.number(published)) tell(published, actor_kind::cluster);
      break;
    }
    case operation::direct_message: note_message(h, payload); break;
    case operation::down_message: note_end(h.source); break;
    default: break;
  }
}

void basp_gate::note_message(const header& h, std::string_view payload) {
  if (h.flags != 0 || !peer_) return;
  if (h.source != 0) {
    tell(h.source, actor_kind::asker);
    caf::message_id id{h.data};
    if (id.is_request()) peer_->told[h.source].asked.insert(id.request_id().integer_value());
  }
  auto w = walk(payload);
  std::string_view types;
  std::uint64_t atom = 0;
  if (!walk_message(w, types, atom)) return;
  for (const auto& handle : w.handles())
    if (handle.node == self_) tell(handle.id, handle.kind);
}

void basp_gate::tell(std::uint64_t actor, actor_kind kind) {
  if (actor == 0) return;
  if (peer_) {
    peer_->told[actor].kinds.insert(kind);
  } else {
    told_.emplace_back(actor, kind);
  }
}

/// What is on its way to it is no fault of the other side.
void basp_gate::note_end(std::uint64_t actor) {
  if (!peer_ || !peer_->told.contains(actor)) return;
  peer_->ended.push_back(actor);
  if (peer_->ended.size() <= peers_->limits().ended_kept_max) return;
  peer_->told.erase(peer_->ended.front());
  peer_->ended.pop_front();
}

}  // namespace kiln::node
