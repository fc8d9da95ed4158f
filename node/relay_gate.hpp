// Who looks at what passes over the connections of a TLS relay.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln::node {

/// Whom the certificate of a connection's other end is for.
struct certificate_identity {
  std::string fingerprint;         // SHA-256 of the certificate
  std::vector<std::string> names;  // its alternative names that are DNS names
  bool operator==(const certificate_identity&) const = default;
};

/// Of one connection; all bytes come by, in order.
class relay_gate {
 public:
  virtual ~relay_gate() = default;
  /// From the network: what of it, and of what was kept back before, may go on is appended to `pass_on`. An
  /// error ends the connection and is logged.
  virtual status take_in(std::string_view bytes, std::string& pass_on) = 0;
  /// To the network, before it leaves.
  virtual void take_out(std::string_view bytes) = 0;
};

}  // namespace kiln::node
