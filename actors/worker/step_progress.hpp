// What a job reports: of its own vertex, and of the layers it has to bring to the disk, in the name of the
// vertices these are of. For the job's thread and those it works with; any.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "actors/progress.hpp"
#include "messages/layer_progress.hpp"

namespace kiln::store {
class ref_store;
}

namespace kiln::actors {

class step_progress : public layer_progress {
 public:
  /// Whether others have said that the vertex itself is under way, or this does once there is something to
  /// tell.
  enum class own { told, untold };

  step_progress(store::ref_store& store, progress_actor to, std::string vertex, const result_owners& owners,
                own state = own::told);
  /// Vertices that this said were under way have ended.
  ~step_progress() override;

  /// All is on disk that is needed: the vertex's own work begins.
  void begin();

  void log(int stream, std::string_view bytes) override;
  void progress(std::string_view id, std::int64_t current, std::int64_t total, bool done) override;
  void warn(std::string_view text) override;
  progress_sink& of_layer(std::string_view record) override;

 private:
  /// Tells that its vertex is under way when there is something to tell of.
  class resumed_vertex : public progress_sender {
   public:
    resumed_vertex(progress_actor to, std::string vertex, bool told);
    void progress(std::string_view id, std::int64_t current, std::int64_t total, bool done) override;
    void begin();
    void end();

   private:
    void tell(bool ended) const;
    progress_actor to_;
    std::string vertex_;
    std::mutex mutex_;
    bool told_;
    std::int64_t began_ns_ = 0;  // 0: it was not this that resumed it
  };

  progress_actor to_;
  resumed_vertex own_;
  std::map<std::string, std::string, std::less<>> owners_;  // of layers, by record
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<resumed_vertex>> others_;  // by vertex
};

}  // namespace kiln::actors
