#include "workers/executor/container_files.hpp"

#include <algorithm>
#include <cerrno>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/slash_path.hpp"
#include "configs/executor.hpp"
#include "workers/executor/executor.hpp"
#include "workers/executor/rooted.hpp"

namespace kiln::workers {

namespace {

std::vector<std::string> fields(std::string_view line) {
  std::vector<std::string> out;
  std::size_t at = 0;
  while (at < line.size()) {
    std::size_t begin = line.find_first_not_of(" \t\r", at);
    if (begin == std::string_view::npos) break;
    std::size_t end = std::min(line.find_first_of(" \t\r", begin), line.size());
    out.emplace_back(line.substr(begin, end - begin));
    at = end;
  }
  return out;
}

struct resolv_conf {
  std::vector<std::string> nameservers;
  std::vector<std::string> search;
  std::vector<std::string> options;
  std::vector<std::string> other;  // lines
};

resolv_conf parse(std::string_view text) {
  resolv_conf conf;
  while (!text.empty()) {
    std::size_t newline = text.find('\n');
    std::string_view line = text.substr(0, newline);
    text = newline == std::string_view::npos ? "" : text.substr(newline + 1);
    auto words = fields(line);
    if (words.empty() || words[0][0] == '#' || words[0][0] == ';') continue;
    std::vector<std::string> rest(words.begin() + 1, words.end());
    if (words[0] == "nameserver") {
      if (!rest.empty()) conf.nameservers.push_back(rest[0]);
    } else if (words[0] == "search" || words[0] == "domain") {
      conf.search = rest;  // the last one counts
    } else if (words[0] == "options") {
      conf.options.insert(conf.options.end(), rest.begin(), rest.end());
    } else {
      conf.other.emplace_back(line);
    }
  }
  return conf;
}

bool valid_address(const std::string& text) {
  std::string bare = text.substr(0, text.find('%'));  // fe80::1%eth0
  in6_addr any{};
  return ::inet_pton(AF_INET, bare.c_str(), &any) == 1 || ::inet_pton(AF_INET6, bare.c_str(), &any) == 1;
}

bool loopback(const std::string& text) {
  return text.starts_with("127.") || text == "::1" || text.starts_with("::1%") ||
         text.starts_with("::ffff:127.");
}

void append_line(std::string& out, std::string_view key, const std::vector<std::string>& words) {
  if (words.empty()) return;
  out += key;
  for (const auto& w : words) out += " " + w;
  out += "\n";
}

}  // namespace

std::string hosts_text(const std::string& hostname,
                       const std::vector<std::pair<std::string, std::string>>& extra_hosts) {
  std::string text = "127.0.0.1\tlocalhost " + (hostname.empty() ? configs::default_hostname : hostname) +
                     "\n::1\tlocalhost ip6-localhost ip6-loopback\n";
  for (const auto& [name, address] : extra_hosts) text += address + "\t" + name + "\n";
  return text;
}

std::string resolv_conf_path(std::string_view etc_text, bool host_network) {
  resolv_conf conf = parse(etc_text);
  if (!host_network && conf.nameservers == std::vector<std::string>{"127.0.0.53"}) {
    return "/run/systemd/resolve/resolv.conf";
  }
  return "/etc/resolv.conf";
}

result<std::string> resolv_conf_text(std::string_view host_text, const dns_settings& dns, bool host_network) {
  resolv_conf conf = parse(host_text);
  std::erase_if(conf.nameservers, [](const std::string& n) { return !valid_address(n); });
  if (!dns.nameservers.empty()) {
    for (const auto& n : dns.nameservers) {
      if (!valid_address(n)) return make_error(errc::invalid_argument, "bad nameserver address: " + n);
    }
    conf.nameservers = dns.nameservers;
  }
  if (!dns.search_domains.empty()) conf.search = dns.search_domains;
  if (!dns.options.empty()) conf.options = dns.options;
  if (!host_network || conf.nameservers.empty()) {
    std::erase_if(conf.nameservers, loopback);
    if (conf.nameservers.empty()) {
      conf.nameservers = {"8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844"};
    }
  }
  std::string text;
  for (const auto& n : conf.nameservers) text += "nameserver " + n + "\n";
  append_line(text, "search", conf.search);
  append_line(text, "options", conf.options);
  for (const auto& line : conf.other) text += line + "\n";
  return text;
}

namespace {

constexpr mode_t stub_mode = 0755;

/// The directory a path is in, and its name there.
std::pair<std::string, std::string> split_path(const std::string& path) {
  std::size_t slash = path.rfind('/');
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

/// What of a path does not exist, deepest first.
std::vector<std::string> missing_parts(int root_fd, const std::string& path) {
  std::vector<std::string> missing;
  for (auto part = path; part != "/" && !part.empty(); part = split_path(part).first) {
    unique_fd there(open_in_root(root_fd, part, O_PATH | O_NOFOLLOW));
    if (there || (errno != ENOENT && errno != ENOTDIR)) break;
    missing.push_back(part);
  }
  return missing;
}

/// Makes what missing_parts() told. Where we may not, the runtime tries again, and tells why it failed.
void make_all(int root_fd, const std::vector<std::string>& missing, bool is_directory) {
  for (auto part = missing.rbegin(); part != missing.rend(); ++part) {
    auto [parent_path, name] = split_path(*part);
    unique_fd parent(open_in_root(root_fd, parent_path, O_PATH | O_DIRECTORY));
    if (!parent) return;
    if (is_directory || part + 1 != missing.rend()) {
      if (::mkdirat(parent.get(), name.c_str(), stub_mode) != 0) return;
    } else {
      unique_fd file(::openat(parent.get(), name.c_str(),
                              O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, stub_mode));
      if (!file) return;
    }
    // Whatever the umask took. Of what has the name now: a step that shares a cache mount may have swapped
    // it.
    if (::fchmodat(parent.get(), name.c_str(), stub_mode, AT_SYMLINK_NOFOLLOW) != 0) return;
  }
}

bool same_time(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

unique_fd open_source(const mount_point& point) {
  return unique_fd(point.source.empty() ? -1
                                        : ::open(point.source.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

std::optional<mode_t> mode_of_directory(int root_fd, const std::string& path) {
  unique_fd there(open_in_root(root_fd, path, O_PATH | O_DIRECTORY));
  struct stat st {};
  if (!there || ::fstat(there.get(), &st) != 0) return std::nullopt;
  return st.st_mode & 07777;
}

}  // namespace

mount_stubs::mount_stubs(int root_fd, const std::vector<mount_point>& points, bool recursive) {
  const mount_point always[standard] = {
      {"/proc"}, {"/dev"}, {"/sys"}, {"/etc/resolv.conf", false}, {"/etc/hosts", false}};
  for (const auto& p : always) places_.push_back({p, {}, {}});
  for (const auto& p : points) places_.push_back({p, {}, {}});
  for (std::size_t i = 0; i < places_.size(); ++i) look(root_fd, i, recursive);
}

void mount_stubs::look(int root_fd, std::size_t index, bool recursive) {
  auto& here = places_[index];
  auto path = resolve_in_root(root_fd, clean_absolute(here.point.destination));
  here.point.destination = path && *path != "/" ? *path : "";
  if (here.point.destination.empty()) return;
  // The deepest it lies in, of equals the last.
  for (std::size_t i = 0; i < index; ++i) {
    const auto& other = places_[i].point.destination;
    if (!other.empty() && path->starts_with(other + "/") &&
        (!here.above || other.size() >= places_[*here.above].point.destination.size()))
      here.above = i;
  }
  if (here.above) {
    const auto& above = places_[*here.above].point;
    if (auto source = open_source(above))
      here.mode = mode_of_directory(source.get(), path->substr(above.destination.size()));
    return;
  }
  here.mode = mode_of_directory(root_fd, *path);
  auto missing = missing_parts(root_fd, *path);
  if (missing.empty()) return;
  constexpr std::size_t stay = 3;
  if (index < stay) return make_all(root_fd, missing, true);  // the times that count are those after it
  paths_.insert(missing.begin(), recursive ? missing.end() : missing.begin() + 1);
  if (!recursive && missing.size() > 1) return;
  // Where all of it goes again we know what the time of its directory was.
  auto parent_path = split_path(missing.back()).first;
  unique_fd parent(open_in_root(root_fd, parent_path, O_RDONLY | O_DIRECTORY));
  struct stat st {};
  if (parent && ::fstat(parent.get(), &st) == 0)
    parents_.try_emplace(parent_path, parent_times{st.st_atim, st.st_mtim, {}});
}

void mount_stubs::make(int root_fd) {
  for (const auto& [point, above, mode] : places_) {
    const auto& path = point.destination;
    if (path.empty()) continue;
    auto make_in = [&point = point](int directory, const std::string& inside) {
      auto missing = missing_parts(directory, inside);
      bool left_out = point.made_by_runtime && !missing.empty();
      if (left_out) missing.erase(missing.begin());
      make_all(directory, missing, point.is_directory || left_out);
    };
    if (!above) {
      make_in(root_fd, path);
    } else if (const auto& around = places_[*above].point; !around.readonly) {
      // In memory the runtime makes it, and it goes with the container.
      if (auto source = open_source(around)) make_in(source.get(), path.substr(around.destination.size()));
    }
  }
  for (auto& [path, times] : parents_) {
    unique_fd parent(open_in_root(root_fd, path, O_RDONLY | O_DIRECTORY));
    struct stat st {};
    if (parent && ::fstat(parent.get(), &st) == 0) times.made = st.st_mtim;
  }
}

void mount_stubs::clean(int root_fd) const {
  // The run may have put symlinks where there were none: look directories up again, and only act where they
  // are.
  auto open_real = [&](const std::string& path) -> unique_fd {
    auto real = resolve_in_root(root_fd, path);
    if (!real || *real != path) return {};
    return unique_fd(open_in_root(root_fd, path, O_RDONLY | O_DIRECTORY));
  };
  // What the run itself did to a directory keeps its time; the coming and going of stubs leaves none.
  std::map<std::string, parent_times> wanted;
  for (const auto& [path, times] : parents_) {
    auto parent = open_real(path);
    struct stat st {};
    if (!parent || ::fstat(parent.get(), &st) != 0) continue;
    wanted[path] = same_time(st.st_mtim, times.made) ? times : parent_times{st.st_atim, st.st_mtim, {}};
  }
  for (const auto& path : paths_) {
    auto [parent_path, name] = split_path(path);
    auto parent = open_real(parent_path);
    if (!parent) continue;
    struct stat st {};
    struct stat parent_st {};
    if (::fstatat(parent.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (!S_ISDIR(st.st_mode) && st.st_size != 0) continue;
    if (::fstat(parent.get(), &parent_st) != 0) continue;
    // A directory with anything in it stays: rmdir refuses.
    if (::unlinkat(parent.get(), name.c_str(), S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) != 0) continue;
    timespec times[2] = {parent_st.st_atim, parent_st.st_mtim};
    ::futimens(parent.get(), times);
  }
  for (const auto& [path, times] : wanted) {
    auto parent = open_real(path);
    if (!parent) continue;
    timespec both[2] = {times.accessed, times.modified};
    ::futimens(parent.get(), both);
  }
}

}  // namespace kiln::workers
