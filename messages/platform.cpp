#include "messages/platform.hpp"

#include <algorithm>
#include <cctype>

#include "base/text.hpp"
#include "ops.pb.h"

namespace kiln {

namespace {

bool is_known_os(std::string_view text) {
  static constexpr std::string_view names[] = {
      "aix",   "android", "darwin", "dragonfly", "freebsd", "hurd",    "illumos", "ios", "js",
      "linux", "nacl",    "netbsd", "openbsd",   "plan9",   "solaris", "windows", "zos"};
  return std::find(std::begin(names), std::end(names), text) != std::end(names);
}

std::string normalize_os(std::string_view os) {
  if (os.empty()) return "linux";
  auto text = to_lower(os);
  return text == "macos" ? "darwin" : text;
}

void normalize_architecture(platform& p) {
  p.architecture = to_lower(p.architecture);
  p.variant = to_lower(p.variant);
  auto& arch = p.architecture;
  auto& variant = p.variant;
  if (arch == "i386") {
    arch = "386";
    variant.clear();
  } else if (arch == "x86_64" || arch == "x86-64" || arch == "amd64") {
    arch = "amd64";
    if (variant == "v1") variant.clear();
  } else if (arch == "aarch64" || arch == "arm64") {
    arch = "arm64";
    if (variant == "8" || variant == "v8" || variant == "v8.0") variant.clear();
  } else if (arch == "armhf") {
    arch = "arm";
    variant = "v7";
  } else if (arch == "armel") {
    arch = "arm";
    variant = "v6";
  } else if (arch == "arm") {
    if (variant.empty() || variant == "7") variant = "v7";
    else if (variant == "5" || variant == "6" || variant == "8") variant = "v" + variant;
  }
}

int variant_number(const std::string& variant) {
  if (variant.size() < 2 || variant[0] != 'v') return 0;
  return std::isdigit(static_cast<unsigned char>(variant[1])) ? variant[1] - '0' : 0;
}

bool is_component(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.' || c == '+';
  });
}

}  // namespace

result<platform> parse_platform(std::string_view text) {
  auto invalid = [&](std::string_view why) {
    return make_error(errc::invalid_argument,
                      "invalid platform \"" + std::string(text) + "\": " + std::string(why));
  };
  if (text.find('*') != std::string_view::npos) return invalid("wildcards are not supported");
  std::vector<std::string> parts;
  std::string_view rest = text;
  for (;;) {
    auto slash = rest.find('/');
    parts.emplace_back(rest.substr(0, slash));
    if (slash == std::string_view::npos) break;
    rest.remove_prefix(slash + 1);
  }
  platform p;
  auto& os = parts[0];
  if (auto open = os.find('('); open != std::string::npos && os.back() == ')') {
    p.os_version = os.substr(open + 1, os.size() - open - 2);
    os.resize(open);
  }
  if (parts.size() > 3) return invalid("expected os/arch[/variant]");
  for (const auto& part : parts)
    if (!is_component(part))
      return make_error(
          errc::invalid_argument,
          "\"" + part + "\" is an invalid component of \"" + std::string(text) +
              "\": platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument");
  if (parts.size() == 1) {
    auto name = to_lower(parts[0]);
    auto host = host_platform();
    if (is_known_os(normalize_os(name))) {
      p.os = name;
      p.architecture = host.architecture;
      p.variant = host.variant;
      return normalize(p);
    }
    p.os = host.os;
    p.architecture = name;
    auto normal = normalize(p);
    static constexpr std::string_view architectures[] = {
        "386",     "amd64",   "amd64p32", "arm",    "armbe",   "arm64",    "arm64be", "ppc64",
        "ppc64le", "loong64", "mips",     "mipsle", "mips64",  "mips64le", "ppc",     "riscv",
        "riscv64", "s390",    "s390x",    "sparc",  "sparc64", "wasm"};
    if (std::find(std::begin(architectures), std::end(architectures), normal.architecture) ==
        std::end(architectures))
      return invalid("unknown operating system or architecture");
    return normal;
  }
  p.os = parts[0];
  p.architecture = parts[1];
  if (parts.size() == 3) p.variant = parts[2];
  return normalize(p);
}

std::string format_platform(const platform& p) {
  if (p.os.empty()) return "unknown";
  std::string text = p.os;
  if (!p.os_version.empty()) text += "(" + p.os_version + ")";
  if (!p.architecture.empty()) text += "/" + p.architecture;
  if (!p.variant.empty()) text += "/" + p.variant;
  return text;
}

platform normalize(platform p) {
  p.os = normalize_os(p.os);
  normalize_architecture(p);
  return p;
}

platform host_platform() {
#if defined(__x86_64__)
  return {"linux", "amd64", "", "", {}};
#elif defined(__aarch64__)
  return {"linux", "arm64", "", "", {}};
#elif defined(__arm__)
  return {"linux", "arm", "v7", "", {}};
#elif defined(__riscv) && __riscv_xlen == 64
  return {"linux", "riscv64", "", "", {}};
#elif defined(__powerpc64__)
  return {"linux", "ppc64le", "", "", {}};
#elif defined(__s390x__)
  return {"linux", "s390x", "", "", {}};
#else
#error "name this architecture"
#endif
}

int match_rank(const platform& wanted, const platform& candidate) {
  auto w = normalize(wanted);
  auto c = normalize(candidate);
  if (w.os != c.os) return -1;
  if (!w.os_version.empty() && !c.os_version.empty() && w.os_version != c.os_version) return -1;
  if (w.architecture == c.architecture) {
    if (w.variant == c.variant) return 0;
    if (w.architecture == "arm" || w.architecture == "amd64") {
      auto implied = w.architecture == "amd64" ? 1 : 7;
      auto have = w.variant.empty() ? implied : variant_number(w.variant);
      auto need = c.variant.empty() ? implied : variant_number(c.variant);
      return need <= have ? have - need : -1;
    }
    if (w.architecture == "arm64") return c.variant.empty() ? 1 : -1;
    return -1;
  }
  // 64-bit machines run their 32-bit siblings, which serve when nothing better does.
  if (w.architecture == "amd64" && c.architecture == "386") return 20;
  if (w.architecture == "arm64" && c.architecture == "arm") return 20 + 8 - variant_number(c.variant);
  return -1;
}

bool matches(const platform& wanted, const platform& candidate) {
  auto rank = match_rank(wanted, candidate);
  return rank >= 0 && rank < 20;
}

platform from_proto(const pb::Platform& p) {
  return {
      p.os(), p.architecture(), p.variant(), p.osversion(), {p.osfeatures().begin(), p.osfeatures().end()}};
}

void to_proto(const platform& p, pb::Platform& out) {
  out.set_os(p.os);
  out.set_architecture(p.architecture);
  out.set_variant(p.variant);
  out.set_osversion(p.os_version);
  out.clear_osfeatures();
  for (const auto& feature : p.os_features) out.add_osfeatures(feature);
}

}  // namespace kiln
