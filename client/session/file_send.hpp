// Receives what exporters produce: single files (tar, oci, docker) and directory trees (local).
#pragma once

#include <map>
#include <memory>
#include <string>

#include "client/output_file.hpp"
#include "client/session/service.hpp"

namespace kiln::client {

/// Where one export goes, by the export's position among the --output flags.
struct export_target {
  enum class kind { file, directory };
  kind what = kind::file;
  std::shared_ptr<output_file> file;  // null: the target is declined ("target already exists")
  std::string directory;
  bool delete_extra = false;  // local exporter's mode=delete
};

/// Files are committed by whoever knows that the build has succeeded. Source: buildkit session/filesync
/// SyncTarget.
std::unique_ptr<session_service> make_file_send_service(std::map<int, export_target> targets);

}  // namespace kiln::client
