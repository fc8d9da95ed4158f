#include "actors/failure_stack.hpp"

#include <cerrno>

#include <unistd.h>

#include "base/quoting.hpp"
#include "configs/version.hpp"
#include "solver/error_details.hpp"

namespace kiln::actors {

namespace {

/// Folder and file: where a build tree lies is nobody's business.
std::string_view short_path(std::string_view path) {
  auto slash = path.rfind('/');
  if (slash == std::string_view::npos || slash == 0) return path;
  auto before = path.rfind('/', slash - 1);
  return before == std::string_view::npos ? path : path.substr(before + 1);
}

}  // namespace

void add_stack(error& e, source_location where) {
  if (solver::has_detail(e, stack_detail_type)) return;
  e.details.push_back(
      {std::string(stack_detail_type), "{\"frames\":[{\"Name\":" + go_json_string(where.function_name()) +
                                           ",\"File\":" + go_json_string(short_path(where.file_name())) +
                                           ",\"Line\":" + std::to_string(where.line()) + "}],\"cmdline\":[" +
                                           go_json_string(program_invocation_name) +
                                           "],\"pid\":" + std::to_string(::getpid()) +
                                           ",\"version\":" + go_json_string(configs::version) + "}"});
}

}  // namespace kiln::actors
