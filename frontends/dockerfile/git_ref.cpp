#include "frontends/dockerfile/git_ref.hpp"

#include <algorithm>
#include <map>
#include <vector>

#include "base/url.hpp"
#include "frontends/dockerfile/refusal.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

using query_values = std::map<std::string, std::vector<std::string>>;

std::optional<query_values> parse_query(std::string_view text) {
  query_values out;
  if (text.empty()) return out;
  for (const auto& part : split(text, '&')) {
    if (part.empty()) continue;
    auto [key, value, found] = cut(part, "=");
    auto k = url_unescape_all(key, true);
    auto v = url_unescape_all(value, true);
    if (!k || !v) return std::nullopt;
    out[*k].push_back(*v);
  }
  return out;
}

struct git_url {
  std::string scheme, host, path, remote;
  query_values query;
  std::string ref, subdir;
};

void read_fragment(std::string_view fragment, git_url& out) {
  if (fragment.empty()) return;
  auto [ref, subdir, found] = cut(fragment, ":");
  out.ref = ref;
  out.subdir = clean_absolute(subdir).substr(1);
}

/// What follows the first such mark; with it, it is gone from `rest`.
std::string_view cut_off(std::string_view& rest, char mark) {
  auto at = rest.find(mark);
  if (at == std::string_view::npos) return {};
  auto after = rest.substr(at + 1);
  rest = rest.substr(0, at);
  return after;
}

// scheme://[user@]host/path[?query][#fragment]
std::optional<git_url> parse_url(std::string_view text, const std::string& scheme) {
  git_url out;
  out.scheme = scheme;
  auto rest = text;
  auto fragment = cut_off(rest, '#');
  auto query = cut_off(rest, '?');
  out.remote = rest;
  auto authority = rest.substr(rest.find("://") + 3);
  auto slash = authority.find('/');
  if (slash != std::string_view::npos) {
    auto path = url_unescape_all(authority.substr(slash));
    if (!path) return std::nullopt;
    out.path = *path;
    authority = authority.substr(0, slash);
  }
  auto user_end = authority.rfind('@');
  out.host = user_end == std::string_view::npos ? authority : authority.substr(user_end + 1);
  if (out.host.find(' ') != std::string::npos) return std::nullopt;
  auto values = parse_query(query);
  auto decoded = url_unescape_all(fragment);
  if (!values || !decoded) return std::nullopt;
  out.query = *std::move(values);
  read_fragment(*decoded, out);
  return out;
}

// user@host:path[?query][#fragment]
std::optional<git_url> parse_scp(std::string_view text) {
  auto is_user = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_'; };
  auto is_host = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.'; };
  auto at = text.find('@');
  if (at == std::string_view::npos || at == 0) return std::nullopt;
  auto colon = text.find(':', at);
  if (colon == std::string_view::npos || colon == at + 1) return std::nullopt;
  auto user = text.substr(0, at);
  auto host = text.substr(at + 1, colon - at - 1);
  if (!std::all_of(user.begin(), user.end(), is_user) || !std::all_of(host.begin(), host.end(), is_host))
    return std::nullopt;
  git_url out;
  out.scheme = "ssh";
  out.host = host;
  auto rest = text.substr(colon + 1);
  auto fragment = cut_off(rest, '#');
  auto query = cut_off(rest, '?');
  out.path = rest;
  out.remote = std::string(user) + "@" + std::string(host) + ":" + std::string(rest);
  auto values = parse_query(query);
  if (!values) return std::nullopt;
  out.query = *std::move(values);
  read_fragment(fragment, out);
  return out;
}

std::optional<std::string> scheme_of(std::string_view text) {
  auto end = text.find("://");
  if (end == std::string_view::npos || end == 0) return std::nullopt;
  auto scheme = text.substr(0, end);
  if (!std::all_of(scheme.begin(), scheme.end(), [](unsigned char c) { return std::isalnum(c); }))
    return std::nullopt;
  return to_lower(scheme);
}

struct query_reader {
  git_ref& out;

  static std::string conflict(const std::string& what, const std::string& a, const std::string& b) {
    return what + " conflicts: " + quote(a) + " vs " + quote(b);
  }

  result<bool> flag(const std::string& key, const std::string& value) {
    if (value.empty()) return true;
    auto parsed = parse_bool(value);
    if (!parsed) return invalid("invalid " + key + " value: " + quote(value));
    return *parsed;
  }

  status set_once(const std::string& key, std::string& slot, const std::string& value) {
    if (!slot.empty() && slot != value) return invalid(conflict(key, slot, value));
    slot = value;
    return {};
  }

  status read(const query_values& query) {
    std::string tag, branch;
    for (const auto& [key, values] : query) {
      bool is_flag = key == "submodules" || key == "keep-git-dir" || key == "fetch-by-commit";
      if (values.size() > 1) return invalid("query " + quote(key) + " has multiple values");
      const auto& value = values[0];
      if (value.empty() && !is_flag) return invalid("query " + quote(key) + " has no value");
      if (key == "ref") {
        KILN_CHECK(set_once(key, out.ref, value));
      } else if (key == "subdir") {
        KILN_CHECK(set_once(key, out.subdir, value));
      } else if (key == "tag") {
        tag = value;
      } else if (key == "branch") {
        branch = value;
      } else if (key == "checksum" || key == "commit") {
        out.checksum = value;
      } else if (key == "keep-git-dir") {
        KILN_TRY(out.keep_git_dir, flag(key, value));
      } else if (key == "submodules") {
        KILN_TRY(out.submodules, flag(key, value));
      } else if (key == "fetch-by-commit") {
        KILN_TRY(out.fetch_by_commit, flag(key, value));
      } else if (key == "mtime") {
        if (value != "checkout" && value != "commit")
          return invalid("invalid mtime value: " + quote(value) + " (must be \"checkout\" or \"commit\")");
        out.mtime = value;
      } else {
        return invalid("unexpected query " + quote(key));
      }
    }
    if (!tag.empty()) KILN_CHECK(set_once("ref", out.ref, qualified("refs/tags/", tag)));
    if (branch.empty()) return {};
    if (!tag.empty()) return invalid("branch conflicts with tag");
    return set_once("ref", out.ref, qualified("refs/heads/", branch));
  }

  static std::string qualified(const std::string& prefix, const std::string& name) {
    return name.starts_with(prefix) ? name : prefix + name;
  }
};

}  // namespace

llb::git_options git_ref::options() const {
  llb::git_options out;
  out.remote = remote;
  auto at = host;
  out.id = at + clean_absolute(path);
  out.ssh = ssh;
  out.ref = ref;
  out.subdir = subdir;
  out.checksum = checksum;
  out.keep_git_dir = keep_git_dir.value_or(false);
  out.skip_submodules = submodules && !*submodules;
  out.mtime = mtime;
  out.fetch_by_commit = fetch_by_commit;
  return out;
}

git_ref_result parse_git_ref(std::string_view text) {
  if (text.starts_with("./") || text.starts_with("../")) return {};
  git_ref out;
  std::optional<git_url> url;
  if (text.starts_with("github.com/")) {
    out.looks_local = true;
    url = parse_url("https://" + std::string(text), "https");
  } else if (auto scheme = scheme_of(text)) {
    if (*scheme != "http" && *scheme != "https" && *scheme != "ssh" && *scheme != "git") return {};
    url = parse_url(text, *scheme);
    if (url && (*scheme == "http" || *scheme == "https") && !url->path.ends_with(".git")) return {};
  } else {
    url = parse_scp(text);
  }
  if (!url) return {};
  out.remote = url->remote;
  out.host = url->host;
  out.path = url->path;
  out.ssh = url->scheme == "ssh";
  out.ref = url->ref;
  out.subdir = url->subdir;
  git_ref_result found;
  found.is_git = true;
  if (auto read = query_reader{out}.read(url->query); !read) found.problem = std::move(read).error();
  else found.ref = std::move(out);
  return found;
}

}  // namespace kiln::dockerfile
