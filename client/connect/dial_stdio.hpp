// `dial-stdio`: joins stdin and stdout to the daemon's socket, for connection helpers on the other side.
#pragma once

#include <string>

#include "base/result.hpp"

namespace kiln::client {

/// Runs until the daemon closes the connection. Only unix:// addresses. Source: buildctl dialstdio.go.
status dial_stdio(const std::string& address, int input, int output);

}  // namespace kiln::client
