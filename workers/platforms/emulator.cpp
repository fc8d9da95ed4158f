#include "workers/platforms/emulator.hpp"

#include <cerrno>
#include <cstdlib>
#include <map>
#include <sstream>

#include <sys/stat.h>
#include <unistd.h>

#include "configs/executor.hpp"
#include "workers/platforms/machine_platforms.hpp"

namespace kiln::workers {

namespace fs = std::filesystem;

std::string emulator_name(const platform& wanted) {
  static const std::map<std::string, std::string> names{{"arm64", "aarch64"},
                                                        {"amd64", "x86_64"},
                                                        {"386", "i386"},
                                                        {"mips64le", "mips64el"},
                                                        {"loong64", "loongarch64"}};
  auto architecture = normalize(wanted).architecture;
  auto name = names.find(architecture);
  return "buildkit-qemu-" + (name == names.end() ? architecture : name->second);
}

result<std::optional<fs::path>> find_emulator(const platform& wanted, const std::vector<platform>& runs_here,
                                              const std::vector<fs::path>& directories) {
  auto p = normalize(wanted);
  std::optional<fs::path> found;
  if (p.architecture.empty() || runs_among(runs_here, p)) return found;
  if (p.architecture == "amd64" && !p.variant.empty() && p.variant != "v2") {
    std::string supported;
    for (const auto& there : runs_here)
      if (there.architecture == "amd64")
        supported += (supported.empty() ? "" : ", ") + format_platform(there);
    return make_error(errc::unimplemented, "no support for running processes with " + format_platform(p) +
                                               " platform, supported: " + supported);
  }
  auto name = emulator_name(p);
  for (const auto& directory : directories)
    if (auto file = directory / name; !found && ::access(file.c_str(), X_OK) == 0) found = file;
  return found;
}

std::vector<fs::path> emulator_directories() {
  std::vector<fs::path> out;
  std::error_code ignored;
  if (auto self = fs::read_symlink("/proc/self/exe", ignored); !self.empty())
    out.push_back(self.parent_path());
  const char* path = std::getenv("PATH");
  std::istringstream list(path != nullptr ? path : configs::default_path);
  for (std::string directory; std::getline(list, directory, ':');)
    if (directory.starts_with('/')) out.emplace_back(directory);
  return out;
}

status emulate(container_spec& step, const fs::path& emulator,
               const std::function<result<fs::path>()>& copy_to) {
  constexpr mode_t for_everybody = 0555;
  auto shown = emulator;
  struct stat st {};
  if (::stat(emulator.c_str(), &st) != 0) return errno_error(errno, emulator.string());
  if ((st.st_mode & for_everybody) != for_everybody) {
    KILN_TRY(shown, copy_to());
    std::error_code failure;
    fs::copy_file(emulator, shown, failure);
    if (failure)
      return make_error(errc::unavailable, "copying " + emulator.string() + ": " + failure.message());
    if (::chmod(shown.c_str(), for_everybody) != 0) return errno_error(errno, shown.string());
  }
  step.mounts.push_back({emulator_path, "bind", shown.string(), {"bind", "ro", "nosuid", "nodev"}});
  step.process.args.insert(step.process.args.begin(), emulator_path);
  return {};
}

}  // namespace kiln::workers
