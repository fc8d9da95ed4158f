// Paths inside an image, which may be a Windows image.
#include "frontends/dockerfile/converter.hpp"
#include "frontends/dockerfile/refusal.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

std::string clean_keeping(const std::string& path, bool keep_slash) {
  auto out = clean_path(path);
  if (keep_slash && out.size() > 1 && path.ends_with('/')) out += '/';
  return out;
}

}  // namespace

std::string to_slash(std::string path, const std::string& os) {
  if (os == "windows")
    for (auto& c : path)
      if (c == '\\') c = '/';
  return path;
}

result<std::string> without_drive(const std::string& path, const std::string& os, bool keep_slash) {
  if (os != "windows") return path;
  if (path.size() == 2 && path[1] == ':') return invalid("No relative path specified in " + quote(path));
  auto slashed = to_slash(path, os);
  if (slashed.starts_with("//")) return invalid("UNC paths are not supported");
  auto [drive, rest, found] = cut(slashed, ":");
  if (!found) return clean_keeping(slashed, keep_slash);
  if (!equal_fold(drive, "c")) return invalid("The specified path is not on the system drive (C:)");
  return clean_keeping(rest, keep_slash);
}

bool is_absolute(const std::string& path, const std::string& os) {
  auto plain = without_drive(path, os, false);
  return plain && to_slash(*plain, os).starts_with('/');
}

result<std::string> normalize_path(const std::string& raw_parent, const std::string& raw_path,
                                   const std::string& os, bool keep_slash) {
  auto path = to_slash(raw_path, os);
  auto parent = to_slash(raw_parent.empty() ? "/" : raw_parent, os);
  auto original = path;
  auto removing = [](error e) { return std::move(e).with_context("removing drive letter"); };
  auto plain_parent = without_drive(parent, os, keep_slash);
  if (!plain_parent) return removing(std::move(plain_parent).error());
  parent = is_absolute(*plain_parent, os) ? *plain_parent : path_join("/", *plain_parent);
  if (path.empty()) path = parent;
  auto plain = without_drive(path, os, keep_slash);
  if (!plain) return removing(std::move(plain).error());
  path = *std::move(plain);
  if (!is_absolute(path, os)) path = path_join(parent, path);
  if (keep_slash) {
    if (original.ends_with('/') && !path.ends_with('/')) {
      path += '/';
    } else if (original.ends_with("/.")) {
      if (path != "/") path += '/';
      path += '.';
    }
  }
  return to_slash(path, os);
}

}  // namespace kiln::dockerfile
