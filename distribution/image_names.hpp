// Where the daemon keeps names of images: buckets of store::value_store. Keys are full references
// ("docker.io/library/app:latest"), values descriptor JSON.
#pragma once

#include <string_view>

namespace kiln::distribution {

/// Built here and exported with `type=image`.
inline constexpr std::string_view image_store_bucket = "images";
/// Tags as registries last resolved them; may be forgotten.
inline constexpr std::string_view resolved_bucket = "resolved-images";

}  // namespace kiln::distribution
