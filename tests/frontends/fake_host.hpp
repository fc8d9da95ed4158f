// A build in memory for frontend tests: local directories, images, remote files and metadata, and a record of
// what was asked. Thread-safe as the contract demands.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "frontends/frontend.hpp"
#include "solver/error_details.hpp"

namespace kiln::frontends::test {

struct fake_image {
  std::string config;
  std::string digest;
};

class fake_host final : public frontend_host {
 public:
  std::map<std::string, std::map<std::string, std::string>> locals;  // local name → path → content
  std::map<std::string, std::string> remote;                         // URL → content
  std::map<std::string, std::string>
      replaced;  // by a policy: reference → identifier of a source that is no image
  std::map<std::string, fake_image> images;  // "reference", "reference|os/arch", or "*" for any
  gw::ResolveSourceMetaResponse source_meta;
  std::vector<platform> worker_platforms{{"linux", "amd64", "", "", {}}};
  std::string session = "session1";
  gw::SolveResponse forwarded;  // what other frontends answer
  moby::buildkit::v1::types::WorkerRecord worker_record;
  std::map<std::string, result<bool>> may_stand_in;  // by image; not there: yes
  std::vector<std::string> stood_in;

  std::vector<gw::SolveRequest> solves;
  std::vector<gw::ResolveImageConfigRequest> resolves;
  std::vector<gw::WarnRequest> warnings;

  result<gw::SolveResponse> solve(const gw::SolveRequest& request) override {
    std::lock_guard lock(mutex_);
    solves.push_back(request);
    if (!request.frontend().empty()) return forwarded;
    gw::SolveResponse response;
    auto id = "ref" + std::to_string(solves.size());
    definitions_[id] = request.definition();
    response.mutable_result()->mutable_ref()->set_id(id);
    return response;
  }

  result<gw::ResolveImageConfigResponse> resolve_image_config(
      const gw::ResolveImageConfigRequest& request) override {
    std::lock_guard lock(mutex_);
    resolves.push_back(request);
    auto platform = format_platform(from_proto(request.platform()));
    auto at = images.find(request.ref() + "|" + platform);
    if (at == images.end()) at = images.find(request.ref());
    if (at == images.end()) at = images.find("*");
    if (auto policy = replaced.find(request.ref()); policy != replaced.end())
      return solver::replaced_image("docker-image://" + request.ref(), policy->second);
    if (at == images.end()) return make_error(errc::not_found, request.ref() + ": not found");
    gw::ResolveImageConfigResponse response;
    response.set_ref(request.ref());
    response.set_digest(at->second.digest);
    response.set_config(at->second.config);
    return response;
  }

  result<gw::ResolveSourceMetaResponse> resolve_source_meta(const gw::ResolveSourceMetaRequest&) override {
    return source_meta;
  }

  result<gw::ReadFileResponse> read_file(const gw::ReadFileRequest& request) override {
    std::lock_guard lock(mutex_);
    gw::ReadFileResponse response;
    for (const auto& bytes : definitions_[request.ref()].def()) {
      pb::Op op;
      if (!op.ParseFromString(bytes) || !op.has_source()) continue;
      const auto& id = op.source().identifier();
      if (id.starts_with("local://")) {
        auto& files = locals[id.substr(8)];
        if (auto at = files.find(request.filepath()); at != files.end()) {
          response.set_data(at->second);
          return response;
        }
      } else if (auto at = remote.find(id); at != remote.end()) {
        response.set_data(at->second);
        return response;
      }
    }
    return make_error(errc::not_found, "open " + request.filepath() + ": no such file or directory");
  }

  result<gw::ReadDirResponse> read_dir(const gw::ReadDirRequest&) override { return gw::ReadDirResponse{}; }
  result<gw::StatFileResponse> stat_file(const gw::StatFileRequest& request) override {
    return make_error(errc::not_found, request.path() + ": no such file or directory");
  }

  status warn(const gw::WarnRequest& request) override {
    std::lock_guard lock(mutex_);
    warnings.push_back(request);
    return {};
  }

  result<bool> stand_in(const std::string& image, const std::string& name) override {
    std::lock_guard lock(mutex_);
    if (auto said = may_stand_in.find(image); said != may_stand_in.end()) return said->second;
    stood_in.push_back(name + " for " + image);
    return true;
  }

  std::vector<platform> platforms() const override { return worker_platforms; }
  const moby::buildkit::v1::types::WorkerRecord& worker() const override { return worker_record; }
  const std::string& session_id() const override { return session; }
  std::stop_token stop_token() const override { return {}; }

  void add_image(const std::string& name, const std::string& config_json) {
    images[name] = {config_json, sha256(config_json).str()};
  }

 private:
  std::mutex mutex_;
  std::map<std::string, pb::Definition> definitions_;
};

/// A small base image with one layer.
inline std::string image_json(const std::string& config, const std::string& architecture = "amd64") {
  return R"({"architecture":")" + architecture + R"(","os":"linux","config":)" + config +
         R"(,"rootfs":{"type":"layers","diff_ids":["sha256:)" + std::string(64, 'a') +
         R"("]},"history":[{"created":"2024-01-02T03:04:05Z","created_by":"ADD rootfs"}]})";
}

}  // namespace kiln::frontends::test
