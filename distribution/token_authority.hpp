// Clients that fetch tokens from registries themselves, and how they prove who they are: the daemon gets no
// secret of theirs, only a public key that stands for credentials of a host, and what its holder signs.
// Source: session/auth/auth.go; moby.filesync.v1.Auth.
#pragma once

#include <stop_token>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "configs/registry.hpp"
#include "messages/session.hpp"

namespace kiln::distribution {

/// Asks the client's Auth service; the answer parsed.
template <class Response, class Request>
result<Response> ask_auth(session_caller& s, std::string_view method, const Request& request,
                          std::stop_token stop) {
  KILN_TRY(std::string bytes, s.call("/moby.filesync.v1.Auth/" + std::string(method),
                                     request.SerializeAsString(), {}, configs::auth_timeout, stop));
  Response out;
  if (!out.ParseFromString(bytes))
    return make_error(errc::internal, "client sent an unreadable answer to " + std::string(method));
  return out;
}

/// The public key that stands for the client's credentials of a host; empty for one that leaves tokens to us.
result<std::string> token_authority(session_caller& s, const std::string& host, std::stop_token stop);

/// Whether the client holds the key's other half: it signs what nobody could know before.
result<bool> has_authority(session_caller& s, const std::string& host, const std::string& public_key,
                           std::stop_token stop);

}  // namespace kiln::distribution
