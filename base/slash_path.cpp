#include "base/slash_path.hpp"

namespace kiln {

std::string clean_path(std::string_view path) {
  bool rooted = !path.empty() && path[0] == '/';
  std::string out = rooted ? "/" : "";
  std::size_t keep = out.size();  // what `..` may not take back
  while (!path.empty()) {
    auto slash = path.find('/');
    auto part = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (out.size() > keep) {
        auto cut = out.rfind('/');
        out.resize(cut == std::string::npos || cut < keep ? keep : cut);
        continue;
      }
      if (rooted) continue;
      if (!out.empty()) out += '/';
      out += "..";
      keep = out.size();
      continue;
    }
    if (!out.empty() && out.back() != '/') out += '/';
    out += part;
  }
  if (out.empty()) out = ".";
  return out;
}

std::string clean_absolute(std::string_view path) { return clean_path("/" + std::string(path)); }

std::string path_join(std::string_view a, std::string_view b) {
  if (a.empty() && b.empty()) return "";
  if (a.empty()) return clean_path(b);
  if (b.empty()) return clean_path(a);
  return clean_path(std::string(a) + "/" + std::string(b));
}

std::string path_base(std::string_view path) {
  if (path.empty()) return ".";
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  if (path == "/") return "/";
  auto slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

std::string path_dir(std::string_view path) {
  auto slash = path.rfind('/');
  return clean_path(slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash + 1));
}

}  // namespace kiln
