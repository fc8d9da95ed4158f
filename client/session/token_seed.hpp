// The client's share in token authorities: a random seed per registry host, kept in
// $DOCKER_CONFIG/.token_seed, and the Ed25519 key derived from it and the daemon's salt.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace kiln::client {

/// The host's seed (16 bytes), made and stored on first use. A directory that cannot be written to is fine:
/// the seed then lives as long as the process asks with the same object. Source: buildkit authprovider
/// tokenseed.go.
result<std::string> load_token_seed(const std::string& directory, const std::string& host);

/// 32 bytes of Ed25519 private seed: HMAC-SHA256 keyed by the salt, over the seed or over nothing.
std::string authority_key(std::string_view salt, std::string_view seed);
/// The key's public half, 32 bytes.
std::string public_key_of(std::string_view private_seed);
/// NaCl sign: 64 bytes of signature, then the payload.
std::string sign_message(std::string_view private_seed, std::string_view payload);

}  // namespace kiln::client
