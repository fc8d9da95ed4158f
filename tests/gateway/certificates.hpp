// Certificates as nodes of a cluster have them, made with the openssl tool: "node" of the authority "ca" for
// nodes a, b and x, "other_node" for node c, "nameless" for none, "stranger" of another authority, "expired"
// of the right one.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "base/files.hpp"
#include "gateway/server.hpp"

namespace kiln::testing {

class certificates {
 public:
  certificates() : directory_(std::filesystem::temp_directory_path() / ("kiln-certs-" + new_id())) {
    std::filesystem::create_directories(directory_);
    auto run = [this](const std::string& command) {
      auto line = "cd " + directory_.string() + " && " + command + " >/dev/null 2>&1";
      if (std::system(line.c_str()) != 0) throw std::runtime_error(command);
    };
    const std::string key = " -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes ";
    for (std::string ca : {"ca", "other"}) {
      run("openssl req -x509" + key + "-days 2 -subj /CN=" + ca + " -keyout " + ca + ".key -out " + ca +
          ".pem");
      std::ofstream(directory_ / (ca + ".cnf"))
          << "[ca]\ndefault_ca=d\n[d]\ndatabase=" << ca << ".index\nserial=" << ca
          << ".serial\nnew_certs_dir=.\n"
          << "certificate=" << ca << ".pem\nprivate_key=" << ca << ".key\ndefault_md=sha256\npolicy=p\n"
          << "x509_extensions=e\n[p]\ncommonName=supplied\n[e]\nsubjectAltName=$ENV::NAMES\n";
      std::ofstream(directory_ / (ca + ".index")).flush();
      std::ofstream(directory_ / (ca + ".serial")) << "01\n";
    }
    auto issue = [&](const std::string& name, const std::string& ca, const std::string& when,
                     const std::string& names = "DNS:a,DNS:b,DNS:x") {
      run("openssl req" + key + "-subj /CN=" + name + " -keyout " + name + ".key -out " + name + ".csr");
      run("NAMES=" + names + " openssl ca -batch -config " + ca + ".cnf " + when + " -in " + name +
          ".csr -out " + name + ".pem -notext");
    };
    issue("node", "ca", "-days 2");
    issue("stranger", "other", "-days 2");
    issue("other_node", "ca", "-days 2", "DNS:c");
    issue("nameless", "ca", "-days 2", "IP:127.0.0.1");
    issue("expired", "ca", "-startdate 200101000000Z -enddate 200102000000Z");
  }
  ~certificates() { std::filesystem::remove_all(directory_); }
  certificates(const certificates&) = delete;

  std::string path(const std::string& name) const { return (directory_ / name).string(); }
  std::string text(const std::string& name) const {
    std::ifstream in(path(name));
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
  }
  /// What a node with this certificate is given. Strangers trust the authority too.
  gateway::tls_files files(const std::string& name) const {
    return {path(name + ".pem"), path(name + ".key"), path("ca.pem")};
  }

 private:
  std::filesystem::path directory_;
};

}  // namespace kiln::testing
