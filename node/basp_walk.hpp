// Walks over values as CAF 0.17.6 writes them to other nodes, without making anything of them: says whether
// they would be read as what they claim to be, and which actors they name. Pure; whatever the bytes are, it
// ends, reads nothing beyond them and keeps next to nothing. Source: CAF 0.17.6, binary_deserializer.cpp,
// data_processor.hpp, message.cpp, error.cpp, node_id.cpp.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <caf/all.hpp>

#include "messages/actor_cluster.hpp"

namespace kiln::node {

/// What an actor may be asked by another node.
enum class actor_kind : std::uint8_t {
  asker,           // nothing: it is told what it asked for
  cluster,         // node_actor
  inbound_worker,  // peer_worker_actor
  progress,        // progress_actor: it hears how a step gets on
};

/// How CAF names a type on the wire.
template <class T>
constexpr std::string_view wire_name() {
  if constexpr (caf::is_atom_constant<T>::value || std::is_same_v<T, caf::atom_value>) {
    return "@atom";
  } else if constexpr (std::is_same_v<T, std::string>) {
    return "@str";
  } else if constexpr (std::is_same_v<T, std::uint64_t>) {
    return "@u64";
  } else if constexpr (std::is_same_v<T, std::int32_t>) {
    return "@i32";
  } else if constexpr (std::is_same_v<T, caf::error>) {
    return "@error";
  } else if constexpr (std::is_same_v<T, caf::strong_actor_ptr>) {
    return "@strong_actor_ptr";
  } else {
    return caf::type_name<T>::value;
  }
}

/// An actor as it is named on the wire. Nodes are compared by the bytes that name them; empty: none.
struct wire_handle {
  std::string node;
  std::uint64_t id = 0;
  actor_kind kind = actor_kind::asker;
};

/// Stops at the first thing that is wrong; sound() then stays false.
class basp_walk {
 public:
  // What makes it an inspector of CAF's kind, one that reads.
  using result_type = bool;
  static constexpr bool reads_state = false;
  static constexpr bool writes_state = true;

  /// Lists together may have `elements_max` elements, messages may lie `depth_max` deep in errors of
  /// messages.
  basp_walk(std::string_view bytes, std::size_t elements_max, int depth_max)
      : rest_(bytes), elements_left_(elements_max), depth_left_(depth_max) {}

  bool sound() const { return sound_; }
  bool at_end() const { return sound_ && rest_.empty(); }
  const std::vector<wire_handle>& handles() const { return handles_; }

  template <class... Ts>
  bool operator()(Ts&&... parts) {
    return (value(parts) && ...);
  }

  template <class T>
  bool value(T& x) {
    if constexpr (caf::meta::is_annotation<T>::value) {
      return true;
    } else if constexpr (std::is_same_v<T, bool>) {
      return skip(1);
    } else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
      return skip(sizeof(T));
    } else if constexpr (std::is_same_v<T, std::string>) {
      std::uint32_t size = 0;
      return length(size) && skip(size);
    } else if constexpr (std::is_same_v<T, caf::error>) {
      return error();
    } else if constexpr (std::is_same_v<T, caf::strong_actor_ptr>) {
      return handle(actor_kind::cluster);
    } else if constexpr (std::is_same_v<T, peer_worker_actor>) {
      return handle(actor_kind::inbound_worker);
    } else if constexpr (std::is_same_v<T, progress_actor>) {
      return handle(actor_kind::progress);
    } else if constexpr (requires { typename T::mapped_type; }) {
      std::pair<typename T::key_type, typename T::mapped_type> one{};
      return list([&] { return value(one.first) && value(one.second); });
    } else if constexpr (requires {
                           typename T::value_type;
                           x.begin();
                         }) {
      typename T::value_type one{};
      return list([&] { return value(one); });
    } else {
      return inspect(*this, x);
    }
  }

  template <std::unsigned_integral T>
  bool number(T& out) {
    if (!sound_ || rest_.size() < sizeof(T)) return fail();
    out = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i)
      out = static_cast<T>(out << 8 | static_cast<unsigned char>(rest_[i]));
    rest_.remove_prefix(sizeof(T));
    return true;
  }
  bool text(std::string_view& out) {
    std::uint32_t size = 0;
    if (!length(size) || size > rest_.size()) return fail();
    out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }
  /// The bytes that name a node; empty for none. Nodes named by URI are nobody of ours.
  bool node(std::string& out) {
    std::uint64_t how = 0;
    if (!number(how)) return false;
    out.clear();
    if (how == static_cast<std::uint64_t>(caf::atom(""))) return true;
    if (how != static_cast<std::uint64_t>(caf::node_id::default_data::class_id)) return fail();
    if (rest_.size() < node_bytes) return fail();
    out = rest_.substr(0, node_bytes);
    rest_.remove_prefix(node_bytes);
    return true;
  }
  bool handle(actor_kind kind) {
    wire_handle h;
    h.kind = kind;
    if (!number(h.id) || !node(h.node)) return false;
    if (h.id != 0 && !h.node.empty()) handles_.push_back(std::move(h));
    return true;
  }
  /// How many elements a list has, or bytes a text.
  bool length(std::uint32_t& out) {
    out = 0;
    for (int n = 0; n < 5; ++n) {
      std::uint8_t low = 0;
      if (!number(low)) return false;
      if (n == 4 && low > 0x0f) return fail();
      out |= static_cast<std::uint32_t>(low & 0x7f) << (7 * n);
      if ((low & 0x80) == 0) return true;
    }
    return fail();
  }
  /// A message's head: "@<>+name+name".
  bool head(std::string_view& names) {
    std::uint16_t zero = 0;
    return number(zero) && (zero == 0 || fail()) && text(names) &&
           ((names.starts_with("@<>") && names.size() <= names_bytes_max) || fail());
  }
  /// An error: code, category, and a message for its context.
  bool error();
  bool fail() { return sound_ = false; }

 private:
  static constexpr std::size_t names_bytes_max = 256;  // the longest that nodes send have a third of that
  static constexpr std::size_t node_bytes = 4 + caf::node_id::default_data::host_id_size;

  bool skip(std::size_t n) {
    if (!sound_ || n > rest_.size()) return fail();
    rest_.remove_prefix(n);
    return true;
  }
  template <class Each>
  bool list(Each each) {
    std::uint32_t size = 0;
    if (!length(size) || size > elements_left_) return fail();
    elements_left_ -= size;
    for (std::uint32_t i = 0; i < size; ++i)
      if (!each()) return fail();
    return true;
  }

  std::string_view rest_;
  std::size_t elements_left_;
  int depth_left_;
  bool sound_ = true;
  std::vector<wire_handle> handles_;
};

/// Walks over one value of the type of that name; false also for types that do not travel.
bool walk_named(basp_walk& walk, std::string_view type);

}  // namespace kiln::node
