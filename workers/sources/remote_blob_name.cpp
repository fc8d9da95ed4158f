// How blobs are named (workers/sources/remote_blob.hpp).
#include "workers/sources/remote_blob.hpp"

namespace kiln::workers {

result<remote_blob> parse_remote_blob(std::string_view text) {
  remote_blob out;
  out.layout = text.starts_with("oci-layout+blob://");
  if (!out.layout && !text.starts_with("docker-image+blob://"))
    return make_error(errc::invalid_argument, "invalid image blob source \"" + std::string(text) + "\"");
  auto name = text.substr(text.find("://") + 3);
  KILN_TRY(out.ref, read_image_reference(name));
  if (!out.ref.digest)
    return make_error(errc::invalid_argument,
                      "invalid reference digest: blob \"" + std::string(text) + "\" needs a digest");
  if (!out.ref.tag.empty())
    return make_error(errc::invalid_argument, "blob \"" + std::string(text) + "\" must not have a tag");
  if (out.layout) out.store_id = name.substr(0, name.rfind('@'));
  return out;
}

}  // namespace kiln::workers
