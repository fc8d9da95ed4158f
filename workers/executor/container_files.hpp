// The files the executor makes for a container: /etc/hosts and /etc/resolv.conf, and the mount stubs it
// cleans. The texts are pure functions. Source: executor/oci/hosts.go, resolvconf.go, executor/stubs.go.
#pragma once

#include <optional>
#include <ctime>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <time.h>

#include "base/result.hpp"

namespace kiln::workers {

struct dns_settings;

/// /etc/hosts for this hostname ("" = the default) with extra (name, address) lines.
std::string hosts_text(const std::string& hostname,
                       const std::vector<std::pair<std::string, std::string>>& extra_hosts);

/// The host's resolv.conf as a container may use it: overrides applied, loopback name servers left out
/// (public ones instead when none remains) unless `host_network`. invalid_argument: "bad nameserver address".
result<std::string> resolv_conf_text(std::string_view host_text, const dns_settings& dns, bool host_network);
/// Which file of the host to read: systemd-resolved's own when /etc/resolv.conf names only its stub.
std::string resolv_conf_path(std::string_view etc_text, bool host_network);

struct mount_point {
  std::string destination;
  bool is_directory = true;
  std::string source =
      {};  // of a bind mount that can be written: where what is mounted below it has its place
};

/// Makes the mount points that do not exist in a root before a run, with one mode whatever the runtime, and
/// removes after it those that are still empty, leaving their parents' times as they were unless the run
/// itself changed these. /proc, /dev and /sys stay.
class mount_stubs {
 public:
  mount_stubs(int root_fd, const std::vector<mount_point>& points, bool recursive);
  void clean(int root_fd) const;

 private:
  struct parent_times {
    timespec accessed{}, modified{};  // before
    timespec made{};                  // modified, once the stubs are there
  };
  void make_missing(int root_fd, const mount_point& point, const std::string& path, bool recursive);

  std::vector<std::string> paths_;  // absolute inside the root, deepest first for each destination
  std::map<std::string, parent_times> parents_;
};

}  // namespace kiln::workers
