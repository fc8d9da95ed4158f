// Networks made by CNI plugins: each container gets a namespace of its own, joined to the host by whatever
// the configuration says. Namespaces and what plugins said of them are kept below a directory, so that the
// next daemon can take down what a killed one left. Thread-safe. Source: BuildKit util/network/cniprovider.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "workers/executor/cni_config.hpp"
#include "workers/executor/network.hpp"

namespace kiln::workers {

struct cni_options {
  std::filesystem::path root;                  // of namespaces; emptied at the start
  std::vector<std::filesystem::path> plugins;  // directories of the plugins' programs
  std::string arguments;                       // CNI_ARGS for every container; may be empty
  int pool_size = 0;                           // namespaces there are beforehand, and kept
};

/// Takes down what is left in root, then tries the network once; further namespaces are made while the daemon
/// starts. not_found without the plugins; "CNI setup error: …" when they do not work.
result<std::unique_ptr<network_provider>> cni_provider(cni_network network, cni_options options);

}  // namespace kiln::workers
