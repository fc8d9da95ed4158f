// Ids of refs and sessions among nodes. Pure.
#pragma once

#include <string>
#include <string_view>

namespace kiln {

/// An id and the node whose it is. As text it is "node!id", or "id" for what is here; the names of nodes have
/// letters, digits, '.', '-' and '_' only. The empty id (scratch) is nobody's.
struct located_id {
  std::string node;  // empty: here
  std::string id;
  bool operator==(const located_id&) const = default;

  static located_id parse(std::string_view text);
  std::string text() const;
  bool is_remote() const { return !node.empty(); }
};

/// An id as text, of which `teller` speaks, as `hearer` is to be told it: what is the teller's own gets its
/// name, what is the hearer's own loses it. Nodes by name.
std::string retold(std::string_view text, std::string_view teller, std::string_view hearer);

/// Whether that id, as text, is of another node.
inline bool is_remote(std::string_view text) { return text.find('!') != std::string_view::npos; }

}  // namespace kiln
