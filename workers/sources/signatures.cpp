#include "workers/sources/signatures.hpp"

#include <charconv>
#include <cstdlib>
#include <fstream>
#include <vector>

#include <sys/stat.h>

#include "base/text.hpp"
#include "base/program.hpp"

namespace kiln::workers {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view pgp_begin = "-----BEGIN PGP SIGNATURE-----";
constexpr std::string_view ssh_begin = "-----BEGIN SSH SIGNATURE-----";
constexpr int min_rsa_bits = 2048;

error refused(std::string why) { return make_error(errc::permission_denied, std::move(why)); }

/// The directory that helper programs work in.
class scratch_directory {
 public:
  explicit scratch_directory(fs::path path) : path_(std::move(path)) {}
  scratch_directory(const scratch_directory&) = delete;
  scratch_directory& operator=(const scratch_directory&) = delete;
  ~scratch_directory() {
    std::error_code ec;
    fs::remove_all(path_, ec);
  }
  std::string path(std::string_view name = "") const { return (path_ / name).string(); }
  status make() const {
    ::mkdir(path_.c_str(), 0700);
    if (::chmod(path_.c_str(), 0700) != 0) return errno_error(errno, "chmod " + path_.string());
    return {};
  }
  status write(std::string_view name, std::string_view text) const {
    std::ofstream out(path_ / name, std::ios::binary);
    out << text;
    out.close();
    if (!out) return make_error(errc::resource_exhausted, "failed to write " + path(name));
    return {};
  }
  result<program_outcome> run(std::vector<std::string> argv, std::stop_token stop,
                              std::string input = "") const {
    program_call call{std::move(argv), {"LC_ALL=C", "HOME=" + path()}, path()};
    if (const char* value = std::getenv("PATH")) call.environment.push_back(std::string("PATH=") + value);
    if (!input.empty()) call.input = std::move(input);
    auto done = run_program(std::move(call), stop);
    if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
    return done;
  }

 private:
  fs::path path_;
};

std::string last_line(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return std::string(text.substr(text.rfind('\n') + 1));
}

/// The fields after "[GNUPG:] NAME", of the first such line; empty without one.
std::vector<std::string_view> fields_of(std::string_view report, std::string_view name) {
  for (auto line : split_views(report, '\n')) {
    auto fields = split_views(line, ' ');
    if (fields.size() >= 2 && fields[0] == "[GNUPG:]" && fields[1] == name)
      return {fields.begin() + 2, fields.end()};
  }
  return {};
}

int number(std::string_view text) {
  int out = -1;
  std::from_chars(text.data(), text.data() + text.size(), out);
  return out;
}

/// Of `gpg --with-colons --list-keys`: RSA keys that are too short by now.
status check_key_lengths(std::string_view listing) {
  for (auto line : split_views(listing, '\n')) {
    auto fields = split_views(line, ':');
    if (fields.size() < 5 || fields[0] != "pub") continue;
    bool rsa = fields[3] == "1" || fields[3] == "3";
    if (rsa && number(fields[2]) < min_rsa_bits)
      return refused("RSA key too short: " + std::string(fields[2]) + " bits");
  }
  return {};
}

status verify_ssh(const scratch_directory& scratch, const signed_object& object, const signature_rules& rules,
                  std::stop_token stop) {
  std::string signers;
  for (auto line : split_views(rules.keys, '\n'))
    if (line.starts_with("ssh-") || line.starts_with("ecdsa-") || line.starts_with("sk-"))
      signers += "signer namespaces=\"git\" " + std::string(line) + "\n";
  if (signers.empty()) return refused("failed to parse ssh public key: no line of the keys is one");
  KILN_CHECK(scratch.write("signers", signers));
  KILN_CHECK(scratch.write("signature", object.signature));
  KILN_CHECK(scratch.write("payload", object.payload));
  KILN_TRY(auto done, scratch.run({"ssh-keygen", "-Y", "verify", "-f", scratch.path("signers"), "-I",
                                   "signer", "-n", "git", "-s", scratch.path("signature")},
                                  stop, scratch.path("payload")));
  if (done.exit_code == 0) return {};
  return refused("failed to verify ssh signature: " + last_line(done.err.empty() ? done.out : done.err));
}

status verify_pgp_in(const scratch_directory& scratch, const fs::path& file, std::string_view signature,
                     const signature_rules& rules, std::stop_token stop) {
  KILN_CHECK(scratch.write("keys", rules.keys));
  KILN_CHECK(scratch.write("signature", signature));
  std::vector<std::string> gpg{
      "gpg",           "--homedir", scratch.path(), "--batch", "--quiet", "--no-autostart",
      "--trust-model", "always",    "--status-fd",  "1"};
  auto with = [&](std::vector<std::string> more) {
    auto argv = gpg;
    argv.insert(argv.end(), more.begin(), more.end());
    return argv;
  };
  KILN_TRY(auto imported, scratch.run(with({"--import", scratch.path("keys")}), stop));
  if (fields_of(imported.out, "IMPORT_OK").empty())
    return refused("failed to read armored public key: " + last_line(imported.err));
  KILN_TRY(auto checked, scratch.run(with({"--verify", scratch.path("signature"), file.string()}), stop));
  KILN_CHECK(check_pgp_report(checked.out, rules.reject_expired_keys));
  auto valid = fields_of(checked.out, "VALIDSIG");
  KILN_TRY(auto listed, scratch.run(with({"--with-colons", "--list-keys", std::string(valid[0])}), stop));
  return check_key_lengths(listed.out);
}

}  // namespace

signed_object split_signed_object(std::string_view raw) {
  signed_object out;
  bool tag = raw.starts_with("object ");
  bool in_headers = true, in_signature = false;
  while (!raw.empty()) {
    auto end = raw.find('\n');
    auto line = raw.substr(0, end == raw.npos ? end : end + 1);
    raw.remove_prefix(line.size());
    if (in_headers && line == "\n") in_headers = in_signature = false;
    if (in_headers && !tag) {
      bool begins = line.starts_with("gpgsig ") || line.starts_with("gpgsig-sha256 ");
      if (begins || (in_signature && line.starts_with(' '))) {
        out.signature += line.substr(line.find(' ') + 1);
        in_signature = true;
        continue;
      }
      in_signature = false;
    }
    if (tag && !in_headers && (line.starts_with(pgp_begin) || line.starts_with(ssh_begin)))
      in_signature = true;
    (in_signature ? out.signature : out.payload) += line;
  }
  return out;
}

status check_pgp_report(std::string_view report, bool reject_expired_keys) {
  if (auto bad = fields_of(report, "BADSIG"); !bad.empty())
    return refused("signature by " + std::string(bad[0]) + ": what was signed is something else");
  if (auto revoked = fields_of(report, "REVKEYSIG"); !revoked.empty())
    return refused("signature by " + std::string(revoked[0]) + ": key revoked");
  auto valid = fields_of(report, "VALIDSIG");
  if (valid.size() < 8) {
    if (auto unknown = fields_of(report, "NO_PUBKEY"); !unknown.empty())
      return refused("signature by " + std::string(unknown[0]) +
                     ": made by unknown entity, none of the keys given");
    if (auto unchecked = fields_of(report, "ERRSIG"); !unchecked.empty())
      return refused("signature by " + std::string(unchecked[0]) + " cannot be checked");
    return refused("no signature packet found");
  }
  for (const char* name : {"EXPKEYSIG", "EXPSIG"})
    if (auto expired = fields_of(report, name); reject_expired_keys && !expired.empty())
      return refused("signature by " + std::string(expired[0]) + ": key expired");
  // RFC 4880, 9.1 and 9.4; 22 is EdDSA.
  int algorithm = number(valid[6]), hash = number(valid[7]);
  if (hash < 8 || hash > 10) return refused("rejecting weak or unknown hash " + std::string(valid[7]));
  if (algorithm != 1 && algorithm != 3 && algorithm != 19 && algorithm != 22)
    return refused("rejecting unsupported public key algorithm " + std::string(valid[6]));
  return {};
}

status verify_pgp(const fs::path& file, std::string_view signature, const signature_rules& rules,
                  const fs::path& scratch, std::stop_token stop) {
  scratch_directory directory(scratch);
  KILN_CHECK(directory.make());
  return verify_pgp_in(directory, file, signature, rules, stop);
}

status verify_git_object(std::string_view raw, const signature_rules& rules, const fs::path& scratch,
                         std::stop_token stop) {
  auto object = split_signed_object(raw);
  if (object.signature.empty()) return refused("git object is not signed");
  scratch_directory directory(scratch);
  KILN_CHECK(directory.make());
  if (object.signature.starts_with(ssh_begin)) return verify_ssh(directory, object, rules, stop);
  if (!object.signature.starts_with(pgp_begin)) return refused("invalid signature format");
  KILN_CHECK(directory.write("payload", object.payload));
  return verify_pgp_in(directory, directory.path("payload"), object.signature, rules, stop);
}

}  // namespace kiln::workers
