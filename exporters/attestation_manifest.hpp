// The manifest that carries an image's attestations beside it in an index.
// Source: exporter/containerimage/writer.go, commitAttestationsManifest.
#pragma once

#include <vector>

#include "exporters/attestations.hpp"
#include "exporters/stored_documents.hpp"
#include "messages/descriptor.hpp"

namespace kiln::exporters {

/// Stores statements and manifest; the descriptor is ready for the index: platform unknown/unknown, with
/// the annotations that name `image`. `artifact`: as an OCI artifact whose subject is the image, otherwise in
/// the form of an image.
result<descriptor> write_attestations(stored_documents& documents, const std::vector<statement>& statements,
                                      const descriptor& image, bool oci, bool artifact,
                                      const job_context& job);

}  // namespace kiln::exporters
