// Frames of BASP as CAF 0.17.6 writes them, and as somebody else might.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <caf/all.hpp>
#include <caf/io/basp/message_type.hpp>

#include "messages/actor_cluster.hpp"

namespace kiln::test {

using operation = caf::io::basp::message_type;

/// Big-endian numbers, texts, handles.
class bytes {
 public:
  template <class T>
  bytes& number(T value) {
    for (int shift = static_cast<int>(sizeof(T)) * 8 - 8; shift >= 0; shift -= 8)
      out_.push_back(static_cast<char>(static_cast<std::uint64_t>(value) >> shift));
    return *this;
  }
  bytes& length(std::size_t n) {
    for (; n > 0x7f; n >>= 7) out_.push_back(static_cast<char>(0x80 | (n & 0x7f)));
    out_.push_back(static_cast<char>(n));
    return *this;
  }
  bytes& text(std::string_view s) { return length(s.size()).raw(s); }
  bytes& raw(std::string_view s) {
    out_ += s;
    return *this;
  }
  bytes& node(char name) {
    number(static_cast<std::uint64_t>(caf::node_id::default_data::class_id)).number(std::uint32_t{7});
    out_.append(20, name);
    return *this;
  }
  bytes& handle(char node_name, std::uint64_t id) { return number(id).node(node_name); }
  bytes& atom(caf::atom_value a) { return number(static_cast<std::uint64_t>(a)); }
  /// No forwarding stack, one message of those types.
  bytes& message(std::string_view types) {
    return length(0).number(std::uint16_t{0}).text("@<>" + std::string(types));
  }
  template <class T>
  bytes& value(caf::actor_system& system, T x) {
    std::vector<char> buffer;
    caf::binary_serializer sink{system, buffer};
    if (sink(x)) throw std::runtime_error("not serialized");
    return raw({buffer.data(), buffer.size()});
  }
  const std::string& str() const { return out_; }

 private:
  std::string out_;
};

inline std::string frame(operation what, const std::string& payload, std::uint64_t data = 0,
                         std::uint64_t source = 0, std::uint64_t dest = 0, std::uint8_t flags = 0) {
  return bytes()
      .number(static_cast<std::uint8_t>(what))
      .number(std::uint16_t{0})
      .number(flags)
      .number(static_cast<std::uint32_t>(payload.size()))
      .number(data)
      .number(source)
      .number(dest)
      .raw(payload)
      .str();
}

inline std::string server_handshake(char node, std::uint64_t published) {
  return frame(operation::server_handshake,
               bytes().node(node).length(1).text("generic-caf-app").number(published).length(0).str(), 4);
}
inline std::string client_handshake(char node, std::uint8_t flags = 0) {
  return frame(operation::client_handshake, bytes().node(node).str(), 0, 0, 0, flags);
}

constexpr std::uint64_t normal = 0x1000000000000000;  // the category of ordinary messages
constexpr std::uint64_t response = 0x8000000000000000;

inline std::string message(const std::string& payload, std::uint64_t source, std::uint64_t dest,
                           std::uint64_t id = normal) {
  return frame(operation::direct_message, payload, id, source, dest);
}

/// An error in an error in an error…
inline std::string nested(std::size_t depth) {
  bytes out;
  out.message("+@error");
  for (std::size_t i = 0; i < depth; ++i)
    out.number(std::uint8_t{1}).atom(caf::atom("system")).number(std::uint16_t{0}).text("@<>+@error");
  return out.str();
}
/// A message in a message in a message…
inline std::string nested_messages(std::size_t depth) {
  bytes out;
  out.length(0);
  for (std::size_t i = 0; i < depth; ++i) out.number(std::uint16_t{0}).text("@<>+@message");
  return out.number(std::uint16_t{0}).text("@<>").str();
}

}  // namespace kiln::test
