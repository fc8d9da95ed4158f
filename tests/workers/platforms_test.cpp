// Which platforms run on a machine: what is tried, what is made of it, emulators.
#include <catch2/catch.hpp>

#include <cstdlib>
#include <fstream>
#include <map>

#include <sys/stat.h>
#include <unistd.h>

#include "base/program.hpp"
#include "tests/support/temp_dir.hpp"
#include "workers/platforms/emulator.hpp"
#include "workers/platforms/machine_platforms.hpp"
#include "workers/platforms/probe.hpp"
#include "workers/platforms/tiny_programs.hpp"

namespace kiln::workers {
namespace {

namespace fs = std::filesystem;

platform on_linux(std::string architecture, std::string variant = "") {
  return {"linux", std::move(architecture), std::move(variant), "", {}};
}

std::vector<std::string> names_of(const std::vector<platform>& all) {
  std::vector<std::string> out;
  for (const auto& p : all) out.push_back(format_platform(p));
  return out;
}

using names = std::vector<std::string>;

/// A machine whose kernel starts the programs of these.
program_probe runs(std::vector<std::string> architectures, int amd64_end = amd64_level_base + 2) {
  return [=](const std::string& program) -> result<int> {
    for (const auto& a : architectures)
      if (program == tiny_program(a)) return a == "amd64" ? amd64_end : 0;
    return make_error(errc::unimplemented, "not here");
  };
}

void put_file(const fs::path& file, const std::string& bytes, mode_t mode) {
  std::ofstream(file, std::ios::binary) << bytes;
  REQUIRE(::chmod(file.c_str(), mode) == 0);
}

}  // namespace

TEST_CASE("A machine's own platform comes first, then its levels, then what its kernel runs besides") {
  CHECK(names_of(find_platforms(runs({}), on_linux("amd64"), 1)) == names{"linux/amd64"});
  CHECK(names_of(find_platforms(runs({"386", "arm64"}), on_linux("amd64"), 3)) ==
        names{"linux/amd64", "linux/amd64/v2", "linux/amd64/v3", "linux/arm64", "linux/386"});
  CHECK(names_of(find_platforms(runs({"amd64", "arm"}), on_linux("arm64"), 1)) ==
        names{"linux/arm64", "linux/amd64", "linux/amd64/v2", "linux/arm/v7", "linux/arm/v6"});
  CHECK(names_of(find_platforms(runs({"amd64"}, amd64_level_base + 1), on_linux("riscv64"), 1)) ==
        names{"linux/riscv64", "linux/amd64"});
}

TEST_CASE("A worker offers what is configured first and then what else runs here") {
  auto found = find_platforms(runs({"386", "riscv64"}), on_linux("amd64"), 2);
  CHECK(offered_platforms({}, found) == found);
  CHECK(names_of(offered_platforms({on_linux("arm64"), on_linux("amd64")}, found)) ==
        names{"linux/arm64", "linux/amd64", "linux/amd64/v2", "linux/riscv64"});
}

TEST_CASE("Platforms are found again when they are old and somebody asks") {
  int tries = 0;
  std::vector<std::string> there;
  auto probe = [&](const std::string& program) {
    tries += program == tiny_program("riscv64");
    return runs(there)(program);
  };
  machine_platforms always(probe, std::chrono::nanoseconds{0});
  CHECK_FALSE(runs_among(always.known(), on_linux("riscv64")));
  there = {"riscv64"};
  CHECK_FALSE(runs_among(always.known(), on_linux("riscv64")));
  always.refresh();
  CHECK(runs_among(always.known(), on_linux("riscv64")));
  CHECK(tries == 2);

  machine_platforms once(probe, std::chrono::nanoseconds{-1});
  CHECK(once.known().size() == always.known().size());
  there = {};
  once.refresh();
  CHECK(runs_among(once.known(), on_linux("riscv64")));
  machine_platforms hourly(probe, std::chrono::hours{1});
  hourly.refresh();
  hourly.refresh();
  CHECK(tries == 4);
}

TEST_CASE("A platform that does not run here is told with the reason") {
  machine_platforms here(runs({"arm"}), std::chrono::hours{1});
  CHECK(here.why_not(host_platform()).ok());
  CHECK(here.why_not({"windows", "amd64", "", "", {}}).ok());
  auto why = here.why_not(on_linux("s390x"));
  REQUIRE_FALSE(why.ok());
  CHECK(why.error().message == "linux/s390x does not run here: not here");
}

TEST_CASE("The kernel itself is asked: this machine's own program ends as it says, garbage does not start") {
  test::temp_dir dir;
  auto own = probe_program(dir.path(), tiny_program(host_platform().architecture));
  REQUIRE(own.ok());
  CHECK((*own == 0 || host_platform().architecture == "amd64"));
  if (host_platform().architecture == "amd64") {
    CHECK(*own >= amd64_level_base + 1);
    CHECK((*own >= amd64_level_base + 2) == (native_amd64_level() >= 2));
  }
  test::temp_dir other;
  auto garbage = probe_program(other.path(),
                               "\x7f"
                               "ELFnot");
  REQUIRE_FALSE(garbage.ok());
  CHECK(garbage.error().code == errc::unimplemented);
}

TEST_CASE("The program of every architecture does nothing but end, as emulators see it") {
  for (const auto& [architecture, emulator] : std::map<std::string, std::string>{{"amd64", "x86_64"},
                                                                                 {"arm64", "aarch64"},
                                                                                 {"riscv64", "riscv64"},
                                                                                 {"ppc64", "ppc64"},
                                                                                 {"ppc64le", "ppc64le"},
                                                                                 {"s390x", "s390x"},
                                                                                 {"386", "i386"},
                                                                                 {"mips64le", "mips64el"},
                                                                                 {"mips64", "mips64"},
                                                                                 {"loong64", "loongarch64"},
                                                                                 {"arm", "arm"}}) {
    auto program = "/usr/bin/qemu-" + emulator + "-static";
    if (::access(program.c_str(), X_OK) != 0) continue;
    test::temp_dir dir;
    auto file = dir.path() / "program";
    put_file(file, tiny_program(architecture), 0755);
    auto end = run_program({{program, file.string()}, {}, "/", "/dev/null"}, {});
    INFO(architecture);
    REQUIRE(end.ok());
    CHECK(end->exit_code == (architecture == "amd64" ? amd64_level_base + 2 : 0));
  }
}

TEST_CASE("An emulator is taken only for what does not run by itself") {
  test::temp_dir dir;
  std::vector<fs::path> directories{dir.path() / "none", dir.path()};
  std::vector<platform> here{on_linux("amd64"), on_linux("amd64", "v2"), on_linux("386")};
  put_file(dir.path() / "buildkit-qemu-aarch64", "x", 0755);
  put_file(dir.path() / "buildkit-qemu-i386", "x", 0755);
  put_file(dir.path() / "buildkit-qemu-riscv64", "not to be started", 0644);

  auto arm = find_emulator(on_linux("aarch64"), here, directories);
  REQUIRE(arm.ok());
  CHECK(*arm == dir.path() / "buildkit-qemu-aarch64");
  for (const auto& none :
       {on_linux("386"), on_linux("amd64", "v2"), on_linux("riscv64"), on_linux("s390x")}) {
    auto found = find_emulator(none, here, directories);
    INFO(format_platform(none));
    REQUIRE(found.ok());
    CHECK_FALSE(found->has_value());
  }
  auto more = find_emulator(on_linux("amd64", "v4"), here, directories);
  REQUIRE_FALSE(more.ok());
  CHECK(more.error().message ==
        "no support for running processes with linux/amd64/v4 platform, supported: linux/amd64, "
        "linux/amd64/v2");
}

TEST_CASE("A step sees its emulator as one that everybody may run") {
  test::temp_dir dir;
  auto open = dir.path() / "open", closed = dir.path() / "closed", copy = dir.path() / "copy";
  put_file(open, "emulator", 0755);
  put_file(closed, "emulator", 0700);
  container_spec step;
  step.process.args = {"uname", "-m"};
  REQUIRE(emulate(step, open, [&]() -> result<fs::path> { return copy; }).ok());
  CHECK(step.process.args == names{"/dev/.buildkit_qemu_emulator", "uname", "-m"});
  REQUIRE(step.mounts.size() == 1);
  CHECK(step.mounts[0].destination == "/dev/.buildkit_qemu_emulator");
  CHECK(step.mounts[0].source == open.string());
  CHECK_FALSE(fs::exists(copy));

  container_spec other;
  REQUIRE(emulate(other, closed, [&]() -> result<fs::path> { return copy; }).ok());
  CHECK(other.mounts[0].source == copy.string());
  struct stat st {};
  REQUIRE(::stat(copy.c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0555);
}

}  // namespace kiln::workers
