// Which frontend images the built-in Dockerfile frontend may stand in for: there is no need to fetch and run
// what is built in. Pure.
#pragma once

#include "messages/image_reference.hpp"

namespace kiln::frontends {

/// Docker's own Dockerfile frontend, by a tag that names a version no newer than ours ("1", "1.9",
/// "1.9.0-labs"). Not one that is pinned by its digest: that is wanted and nothing else. Nor "latest",
/// "master" and the like, which may be newer than anything.
bool stands_in_for(const image_reference& image);

}  // namespace kiln::frontends
