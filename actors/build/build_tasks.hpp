// The progress of a build's own work, as vertices of its log: looking sources up, importing caches,
// exporting. Used on the build's actor only.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "actors/build/build_log.hpp"

namespace kiln::actors {

class build_tasks {
 public:
  /// `log` must outlive this; `ref` and `session` of the request keep the vertices of different builds apart.
  build_tasks(build_log& log, std::string ref, std::string session)
      : log_(log), salt_(std::move(ref) + "\n" + std::move(session) + "\n") {}

  /// The digest of the task of that name, which whoever does it elsewhere reports its progress with.
  std::string digest_of(const std::string& name) const;
  /// A task begins; with a digest of its own if none is given.
  ctl::Vertex open(const std::string& name, std::string digest = "");
  /// It ends; `error` is empty when it went well.
  void close(ctl::Vertex task, const std::string& error);
  void warn(const std::vector<std::string>& texts, const std::string& digest);

 private:
  build_log& log_;
  std::string salt_;
  int count_ = 0;
};

}  // namespace kiln::actors
