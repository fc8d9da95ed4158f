// One factory a kind of exporter; make_exporter chooses.
#pragma once

#include "exporters/attributes.hpp"
#include "exporters/exporter.hpp"

namespace kiln::exporters {

result<std::unique_ptr<exporter>> make_image_exporter(attributes attrs, exporter_resources resources);
/// `docker`: with a manifest.json, and for single images only; otherwise `oci`.
result<std::unique_ptr<exporter>> make_archive_exporter(bool docker, attributes attrs, int id,
                                                        exporter_resources resources);
result<std::unique_ptr<exporter>> make_local_exporter(attributes attrs, int id, exporter_resources resources);
result<std::unique_ptr<exporter>> make_tar_exporter(attributes attrs, int id, exporter_resources resources);

}  // namespace kiln::exporters
