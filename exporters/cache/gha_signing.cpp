#include "exporters/cache/gha_signing.hpp"

#include <unistd.h>

#include "base/digest.hpp"
#include "base/files.hpp"
#include "base/program.hpp"
#include "base/text.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/cache_attributes.hpp"
#include "exporters/sigstore/verification.hpp"

namespace kiln::exporters {
namespace {

error denied(std::string why) {
  return make_error(errc::permission_denied, "signature verification failed: " + std::move(why));
}

/// Where Sigstore's clients keep the root that they have made sure of, unless the operator names another.
std::string trusted_root_file(const configs::gha_cache_config& config) {
  if (!config.trusted_root.empty()) return config.trusted_root;
  return environment("TUF_ROOT", environment("HOME", "/root") + "/.sigstore/root") + "/" +
         configs::sigstore_repository + "/targets/trusted_root.json";
}

/// An anonymous file of the text, as a path.
class input_file {
 public:
  static result<input_file> of(const std::string& text) {
    KILN_TRY(auto fd, open_file("/tmp", O_TMPFILE | O_RDWR, 0600));
    KILN_CHECK(write_all(fd.get(), text));
    return input_file(std::move(fd));
  }
  std::string path() const { return fd_path(fd_.get()); }

 private:
  explicit input_file(unique_fd fd) : fd_(std::move(fd)) {}
  unique_fd fd_;
};

}  // namespace

bool matches_pattern(const std::string& pattern, const std::string& text) {
  if (pattern == "*") return true;
  bool open_begin = pattern.starts_with('*'), open_end = pattern.ends_with('*');
  std::string_view core = pattern;
  if (open_begin) core.remove_prefix(1);
  if (open_end) core.remove_suffix(1);
  if (open_begin && open_end) return text.find(core) != text.npos;
  if (open_begin) return text.ends_with(core);
  if (open_end) return text.starts_with(core);
  return text == pattern;
}

result<std::string> sign_cache(const configs::gha_cache_config& config, const std::string& text,
                               const job_context& job) {
  program_call call;
  call.argv = config.sign_command;
  call.environment = own_environment();
  KILN_TRY(auto input, input_file::of(text));
  call.input = input.path();
  KILN_TRY(auto done, run_program(call, job.stop));
  KILN_CHECK(job.check());
  if (done.exit_code != 0)
    return make_error(errc::failed_precondition, "signing command " + call.argv[0] + " ended with code " +
                                                     std::to_string(done.exit_code) + ": " +
                                                     std::string(trim(done.err)));
  KILN_CHECK(check_cache_signature(config, text, done.out));
  return std::move(done.out);
}

status check_cache_signature(const configs::gha_cache_config& config, const std::string& text,
                             const std::string& bundle) {
  auto file = trusted_root_file(config);
  auto root = read_file(file, configs::sigstore_root_size);
  if (!root.ok())
    return make_error(errc::failed_precondition,
                      "no trusted root of Sigstore for github actions cache: " + root.error().message +
                          " (cosign keeps one there; or set trustedRoot in [cache.gha.verify])");
  auto trusted = sigstore::parse_trusted_root(*root);
  if (!trusted.ok()) return std::move(trusted).error().with_context(file);
  KILN_TRY(auto parsed, sigstore::parse_bundle(bundle));
  auto who = sigstore::verify(text, parsed, *trusted);
  if (!who.ok()) return denied(who.error().message);
  if (who->times < config.times_min)
    return denied("not enough timestamp authorities: have " + std::to_string(who->times) + ", need " +
                  std::to_string(config.times_min));
  if (who->log_times < config.log_times_min)
    return denied("not enough tlog authorities: have " + std::to_string(who->log_times) + ", need " +
                  std::to_string(config.log_times_min));
  for (const auto& [name, pattern] : config.certificate)
    if (!matches_pattern(pattern, who->fields[name]))
      return denied("certificate field \"" + name + "\" does not match policy (\"" + who->fields[name] +
                    "\" != \"" + pattern + "\")");
  return {};
}

}  // namespace kiln::exporters
