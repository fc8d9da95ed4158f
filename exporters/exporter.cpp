#include "exporters/exporter.hpp"

#include "exporters/factories.hpp"

namespace kiln::exporters {

result<std::unique_ptr<exporter>> make_exporter(std::string_view type,
                                                const std::map<std::string, std::string>& attributes, int id,
                                                exporter_resources resources) {
  if (type == "image") return make_image_exporter(attributes, resources);
  if (type == "oci") return make_archive_exporter(false, attributes, id, resources);
  if (type == "docker") return make_archive_exporter(true, attributes, id, resources);
  if (type == "local") return make_local_exporter(attributes, id, resources);
  if (type == "tar") return make_tar_exporter(attributes, id, resources);
  return make_error(errc::not_found, "exporter \"" + std::string(type) + "\" could not be found");
}

}  // namespace kiln::exporters
