// A step trusts the proxy's CA while it runs: it stands among the others in the root file system's bundle of
// certificates, and goes again with its end, whatever else the step has done to the file.
// Source: BuildKit executor/proxyca_linux.go.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <sys/stat.h>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace kiln::workers::proxy {

/// The bundle with the CA behind the others. Pure.
std::string with_ca(std::string_view bundle, const std::string& ca);
/// The bundle without it, wherever it has got to. Pure.
std::string without_ca(std::string_view bundle, const std::string& ca);

class trusted_ca {
 public:
  /// Puts it into the first bundle of those that Linux systems have; without any there is nothing to do.
  static result<trusted_ca> put(int root_fd, const std::string& ca);
  /// Takes it out again; a bundle that the step left alone is then as it was, its times too. A step may have
  /// made anything of the file: what cannot be cleaned is an error, for then the CA would stay.
  status take_out(int root_fd) const;
  bool is_anywhere() const { return !path_.empty(); }

 private:
  std::string path_, ca_;
  std::string before_, put_;  // the file's text
  struct stat facts_ {};      // of the file before
  timespec put_at_{};         // its time once the CA was in it
};

}  // namespace kiln::workers::proxy
