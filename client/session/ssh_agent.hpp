// The SSH agent protocol (draft-miller-ssh-agent): messages are a big-endian uint32 length and that many
// bytes. Keys come from files: OpenSSH's own format without passphrase, and PEM. Signing by OpenSSL.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln::client {

namespace agent_message {
inline constexpr unsigned char failure = 5;
inline constexpr unsigned char request_identities = 11;
inline constexpr unsigned char identities_answer = 12;
inline constexpr unsigned char sign_request = 13;
inline constexpr unsigned char sign_response = 14;
}  // namespace agent_message

/// Biggest agent message, in bytes. Source: golang.org/x/crypto/ssh/agent maxAgentResponseBytes.
inline constexpr std::size_t agent_message_bytes_max = 16 << 20;

/// A private key an agent can sign with. Thread-safe.
class agent_key {
 public:
  virtual ~agent_key() = default;
  /// The public key in SSH wire form.
  virtual const std::string& public_blob() const = 0;
  virtual const std::string& comment() const = 0;
  /// The signature in SSH wire form; `flags` choose the RSA hash (2: SHA-256, 4: SHA-512).
  virtual result<std::string> sign(std::string_view data, std::uint32_t flags) const = 0;
};

/// Reads a private key; invalid_argument when it needs a passphrase or is of an unknown kind.
result<std::shared_ptr<agent_key>> parse_private_key(std::string_view text, const std::string& comment);

/// Answers one agent request (without its length) from the keys; anything but listing and signing is a
/// failure.
std::string answer_agent_request(const std::vector<std::shared_ptr<agent_key>>& keys,
                                 std::string_view request);
/// Whether a forwarded agent may see the request: listing and signing.
bool agent_request_allowed(std::string_view request);

}  // namespace kiln::client
