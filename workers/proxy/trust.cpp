#include "workers/proxy/trust.hpp"

#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

#include "base/files.hpp"
#include "configs/proxy.hpp"
#include "store/files/regular_file.hpp"
#include "workers/executor/rooted.hpp"

namespace kiln::workers::proxy {

namespace {

// As BuildKit writes them: whoever looks for them in a step finds them.
constexpr std::string_view block_begin = "\n# buildkit proxy CA begin\n";
constexpr std::string_view block_end = "# buildkit proxy CA end\n";

constexpr const char* bundles[] = {"/etc/ssl/certs/ca-certificates.crt",
                                   "/etc/pki/tls/certs/ca-bundle.crt",
                                   "/etc/ssl/ca-bundle.pem",
                                   "/etc/pki/tls/cacert.pem",
                                   "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
                                   "/etc/ssl/cert.pem"};

void drop_all(std::string& text, std::string_view what) {
  for (auto at = text.find(what); at != text.npos; at = text.find(what, at)) text.erase(at, what.size());
}

status write_whole(int root_fd, const std::string& path, std::string_view text) {
  KILN_TRY(auto fd, store::open_regular_in_root(root_fd, path, O_WRONLY | O_TRUNC));
  auto written = write_all(fd.get(), text);
  return written.ok() ? status() : status(std::move(written).error().with_context(path));
}

status set_times(int root_fd, const std::string& path, const struct stat& facts) {
  KILN_TRY(auto fd, store::open_regular_in_root(root_fd, path, O_RDONLY));
  timespec times[] = {facts.st_atim, facts.st_mtim};
  if (::futimens(fd.get(), times) != 0) return errno_error(errno, "set the times of " + path);
  return {};
}

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

std::string with_ca(std::string_view bundle, const std::string& ca) {
  std::string out(bundle);
  if (!out.empty() && out.back() != '\n') out += '\n';
  out += block_begin;
  out += ca;
  if (!out.ends_with('\n')) out += '\n';
  out += block_end;
  return out;
}

std::string without_ca(std::string_view bundle, const std::string& ca) {
  std::string out(bundle);
  drop_all(out, std::string(block_begin) + ca + std::string(block_end));
  drop_all(out, ca);
  return out;
}

result<trusted_ca> trusted_ca::put(int root_fd, const std::string& ca) {
  trusted_ca out;
  out.ca_ = ca;
  for (const char* path : bundles) {
    unique_fd there(open_in_root(root_fd, path, O_PATH));
    if (!there || ::fstat(there.get(), &out.facts_) != 0 || !S_ISREG(out.facts_.st_mode)) continue;
    out.path_ = path;
    break;
  }
  if (out.path_.empty()) return out;
  auto put = [&]() -> status {
    KILN_TRY(out.before_, read_file_in_root(root_fd, out.path_, configs::proxy::trust_bundle_bytes_max));
    out.put_ = with_ca(out.before_, ca);
    KILN_CHECK(write_whole(root_fd, out.path_, out.put_));
    struct stat now {};
    unique_fd there(open_in_root(root_fd, out.path_, O_PATH));
    if (there && ::fstat(there.get(), &now) == 0) out.put_at_ = now.st_mtim;
    return {};
  };
  if (auto s = put(); !s.ok()) return std::move(s).error().with_context("the proxy's CA for a step");
  return out;
}

status trusted_ca::take_out(int root_fd) const {
  if (path_.empty()) return {};
  auto take = [&]() -> status {
    unique_fd there(open_in_root(root_fd, path_, O_PATH));
    struct stat now {};
    if (!there || ::fstat(there.get(), &now) != 0 || !S_ISREG(now.st_mode))
      return {};  // the step's own affair
    KILN_TRY(auto text, read_file_in_root(root_fd, path_, configs::proxy::trust_bundle_bytes_max));
    if (text == put_ && same_time(now.st_mtim, put_at_)) {
      KILN_CHECK(write_whole(root_fd, path_, before_));
      return set_times(root_fd, path_, facts_);
    }
    if (text == put_) return write_whole(root_fd, path_, before_);
    auto cleaned = without_ca(text, ca_);
    if (cleaned == text) return {};
    return write_whole(root_fd, path_, cleaned);
  };
  if (auto s = take(); !s.ok())
    return std::move(s).error().with_context("take the proxy's CA out of a step's files");
  return {};
}

}  // namespace kiln::workers::proxy
