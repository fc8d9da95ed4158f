// The code of an error that clients are told. Inside, codes tell kinds of failures apart; BuildKit tells most
// of them as "unknown", and its clients print any other code in front of the text. Pure. Source: BuildKit
// util/grpcerrors/grpcerrors.go.
#pragma once

#include "base/result.hpp"

namespace kiln {

/// Clients will be told `code` of it, whatever its code inside is and becomes.
error told_as(errc code, error e);

/// As clients are told it: with the code that told_as() chose; otherwise `unknown` for what is wrong with a
/// request or with what it names, and its own for what befell the daemon or the call (cancelled, internal,
/// …). For the edge of a build: told_as() is forgotten then.
error as_told(error e);

}  // namespace kiln
