#include "workers/sources/git_bundle.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.hpp"

namespace kiln::workers {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t header_bytes_max = 64 << 10;  // up to the refs

error refused(std::string_view why) {
  return make_error(errc::invalid_argument, "git bundle " + std::string(why));
}

result<std::string> beginning_of(const fs::path& file) {
  KILN_TRY(auto fd, open_file(file.string(), O_RDONLY, 0));
  std::string out(header_bytes_max, '\0');
  std::size_t have = 0;
  while (have < out.size()) {
    auto count = ::read(fd.get(), out.data() + have, out.size() - have);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno_error(errno, "read the bundle");
    if (count == 0) break;
    have += static_cast<std::size_t>(count);
  }
  out.resize(have);
  return out;
}

}  // namespace

result<bundle_header> parse_bundle_header(std::string_view text) {
  auto line = [&] {
    auto end = std::min(text.find('\n'), text.size());
    auto out = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return out;
  };
  auto signature = line();
  if (signature != "# v2 git bundle" && signature != "# v3 git bundle")
    return refused("expected: the file is none, or of an unknown version");
  bundle_header out;
  for (;;) {
    if (text.empty()) return refused("without refs, or with too much before them");
    if (text[0] == '-') return refused("needs commits that it does not have: it must have the whole history");
    if (text[0] != '@') break;
    auto capability = line();
    if (capability == "@object-format=sha256") out.sha256 = true;
    else if (capability.starts_with("@filter=")) return refused("lacks objects that a filter left out");
  }
  if (text[0] == '\n') return refused("without refs");
  return out;
}

status import_git_bundle(const git_command& git, const fs::path& bundle, std::stop_token stop) {
  KILN_TRY(auto beginning, beginning_of(bundle));
  KILN_TRY(auto header, parse_bundle_header(beginning));
  KILN_CHECK(git.run(git_init(std::string(header.sha256 ? 64 : 40, '0'), {"--bare"}), stop));
  auto reading = git;
  reading.from = git_command::reach::daemon;
  auto done =
      reading.ask({"fetch", "--no-recurse-submodules", "--", bundle.string(), "+refs/*:refs/*"}, stop);
  return done.ok() ? status{} : status{std::move(done).error()};
}

result<fs::path> make_git_bundle(const git_command& git, const std::string& object, const std::string& ref,
                                 const fs::path& directory, std::stop_token stop) {
  // A repository that has nothing but the name: the shared one has no part in it.
  auto own = git;
  own.git_dir = (directory / "repository").string();
  own.work_tree.clear();
  KILN_CHECK(own.run(git_init(object, {"--bare"}), stop));
  KILN_CHECK(
      write_file((directory / "repository/objects/info/alternates").string(), git.git_dir + "/objects\n"));
  KILN_CHECK(own.run({"update-ref", ref, object}, stop));
  auto out = directory / bundle_name;
  // Threads share out deltas by chance.
  KILN_CHECK(own.run({"-c", "pack.threads=1", "bundle", "create", out.string(), ref}, stop));
  return out;
}

std::vector<std::string> git_init(std::string_view sha, std::vector<std::string> more) {
  std::vector<std::string> out = {"-c", "init.defaultBranch=master", "init", "--quiet"};
  out.insert(out.end(), more.begin(), more.end());
  if (sha.size() == 64) out.push_back("--object-format=sha256");
  return out;
}

std::vector<std::string> kept_refs(const std::string& ref, bool annotated) {
  constexpr std::string_view heads = "refs/heads/", tags = "refs/tags/";
  if (ref.starts_with(heads)) return {ref, std::string(tags) + ref.substr(heads.size())};
  if (!ref.starts_with(tags)) return {ref, std::string(tags) + ref};
  if (annotated) return {ref};
  return {ref, std::string(heads) + ref.substr(tags.size())};
}

}  // namespace kiln::workers
