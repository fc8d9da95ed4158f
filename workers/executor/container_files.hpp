// The files the executor makes for a container: /etc/hosts and /etc/resolv.conf, and the mount stubs it
// cleans. The texts are pure functions. Source: executor/oci/hosts.go, resolvconf.go, executor/stubs.go.
#pragma once

#include <ctime>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sys/types.h>
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
  std::string source = {};       // of a bind mount: where what is mounted below it has its place
  bool readonly = false;         // that place is not ours to change
  bool made_by_runtime = false;  // itself; what it lies in is not
};

/// Makes the mount points that do not exist in a root before a run, with one mode whatever the runtime, and
/// removes after it those that are still empty, leaving their parents' times as they were unless the run
/// itself changed these. /proc, /dev and /sys stay.
class mount_stubs {
 public:
  /// Looks at every point, in the order they are mounted, before any that goes again is made.
  mount_stubs(int root_fd, const std::vector<mount_point>& points, bool recursive);

  /// The permissions of the directory that this point covers, be it inside an earlier mount; nothing where
  /// there is none yet.
  std::optional<mode_t> covered_mode(std::size_t point) const { return places_[standard + point].mode; }

  void make(int root_fd);
  void clean(int root_fd) const;

 private:
  static constexpr std::size_t standard = 5;  // points that every container has, which come first

  struct place {
    mount_point point;  // its destination without links; empty: it leads nowhere, or to the root
    std::optional<std::size_t> above;  // the mount it lies in
    std::optional<mode_t> mode;
  };
  struct parent_times {
    timespec accessed{}, modified{};  // before
    timespec made{};                  // modified, once the stubs are there
  };
  void look(int root_fd, std::size_t index, bool recursive);

  std::vector<place> places_;
  std::set<std::string, std::greater<>> paths_;  // to go again; absolute inside the root, the deeper first
  std::map<std::string, parent_times> parents_;
};

}  // namespace kiln::workers
