#include "actors/build/build_tasks.hpp"

#include "actors/progress.hpp"
#include "base/digest.hpp"

namespace kiln::actors {

std::string build_tasks::digest_of(const std::string& name) const { return sha256(salt_ + name).str(); }

ctl::Vertex build_tasks::open(const std::string& name, std::string digest) {
  ctl::Vertex v;
  v.set_digest(digest.empty() ? digest_of(name + "\n" + std::to_string(++count_)) : std::move(digest));
  v.set_name(name);
  set_time(*v.mutable_started(), unix_now_ns());
  ctl::StatusResponse out;
  *out.add_vertexes() = v;
  log_.add(std::move(out));
  return v;
}

void build_tasks::close(ctl::Vertex task, const std::string& error) {
  set_time(*task.mutable_completed(), unix_now_ns());
  task.set_error(error);
  ctl::StatusResponse out;
  *out.add_vertexes() = std::move(task);
  log_.add(std::move(out));
}

void build_tasks::warn(const std::vector<std::string>& texts, const std::string& digest) {
  ctl::StatusResponse out;
  for (const auto& text : texts) {
    auto& w = *out.add_warnings();
    w.set_vertex(digest);
    w.set_level(1);
    w.set_short_(text);
  }
  if (out.warnings_size() > 0) log_.add(std::move(out));
}

}  // namespace kiln::actors
