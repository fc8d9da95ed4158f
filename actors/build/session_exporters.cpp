#include "actors/build/session_exporters.hpp"

#include "configs/solving.hpp"
#include "exporter.pb.h"

namespace kiln::actors {

namespace {

namespace se = moby::exporter::v1;

/// Whether an error only says that the client does not care.
bool has_no_service(const error& e) { return e.code == errc::unavailable || e.code == errc::unimplemented; }

result<std::shared_ptr<session_caller>> client_of(session_directory* directory, const std::string& session,
                                                  std::stop_token stop) {
  if (!directory) return make_error(errc::failed_precondition, "no active sessions");
  return directory->find(session, configs::solving::session_wait, stop);
}

}  // namespace

result<std::vector<export_spec>> find_session_exporters(session_directory* directory,
                                                        const std::string& session,
                                                        const std::map<std::string, std::string>& metadata,
                                                        const std::vector<std::string>& refs, int first,
                                                        std::stop_token stop) {
  KILN_TRY(auto client, client_of(directory, session, stop));
  se::FindExportersRequest request;
  for (const auto& [key, value] : metadata) (*request.mutable_metadata())[key] = value;
  for (const auto& ref : refs) request.add_refs(ref);
  auto bytes = client->call("/moby.exporter.v1.Exporter/FindExporters", request.SerializeAsString(), {},
                            configs::solving::session_export_wait, stop);
  std::vector<export_spec> out;
  if (!bytes.ok()) {
    if (has_no_service(bytes.error())) return out;
    return std::move(bytes).error();
  }
  se::FindExportersResponse reply;
  if (!reply.ParseFromString(*bytes)) return make_error(errc::internal, "malformed answer to FindExporters");
  for (const auto& e : reply.exporters())
    out.push_back({e.type(), {e.attrs().begin(), e.attrs().end()}, first + static_cast<int>(out.size())});
  return out;
}

status finalize_session_export(session_directory* directory, const std::string& session,
                               const std::map<std::string, std::string>& response, std::stop_token stop) {
  KILN_TRY(auto client, client_of(directory, session, stop));
  se::FinalizeExportRequest request;
  for (const auto& [key, value] : response) (*request.mutable_exporter_response())[key] = value;
  auto bytes = client->call("/moby.exporter.v1.Exporter/FinalizeExport", request.SerializeAsString(), {},
                            configs::solving::session_export_wait, stop);
  if (!bytes.ok() && !has_no_service(bytes.error())) return std::move(bytes).error();
  return {};
}

}  // namespace kiln::actors
