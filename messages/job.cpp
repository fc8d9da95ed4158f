#include "messages/job.hpp"

namespace kiln {

namespace {

class null_sink final : public progress_sink {
 public:
  void log(int, std::string_view) override {}
  void progress(std::string_view, std::int64_t, std::int64_t, bool) override {}
  void warn(std::string_view) override {}
};

constexpr std::chrono::milliseconds session_wait{5'000};

}  // namespace

progress_sink& null_progress() {
  static null_sink sink;
  return sink;
}

status with_any_session(session_directory& directory, const session_group& group, std::stop_token stop,
                        const std::function<status(session_caller&)>& use) {
  error last = make_error(errc::failed_precondition, "no active sessions");
  for (const auto& id : group.ids) {
    auto session = directory.find(id, session_wait, stop);
    if (!session.ok()) {
      last = std::move(session).error();
      continue;
    }
    auto outcome = use(**session);
    if (outcome.ok()) return outcome;
    last = std::move(outcome).error();
    if (last.code == errc::cancelled) break;
  }
  return last;
}

}  // namespace kiln
