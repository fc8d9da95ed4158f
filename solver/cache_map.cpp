#include "solver/cache_map.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "base/quoting.hpp"
#include "base/slash_path.hpp"
#include "base/text.hpp"
#include "solver/exact_json.hpp"
#include "solver/go_json.hpp"

namespace kiln::solver {

namespace {

constexpr std::int64_t none = -1;

std::string platform_json(const platform& p) {
  std::string out = ",\"OS\":" + exact_json_string(p.os) + ",\"Arch\":" + exact_json_string(p.architecture);
  if (!p.variant.empty()) out += ",\"Variant\":" + exact_json_string(p.variant);
  if (!p.os_version.empty()) out += ",\"OSVersion\":" + exact_json_string(p.os_version);
  if (!p.os_features.empty()) {
    out += ",\"OSFeatures\":[";
    for (std::size_t i = 0; i < p.os_features.size(); ++i)
      out += (i > 0 ? "," : "") + exact_json_string(p.os_features[i]);
    out += "]";
  }
  return out;
}

constexpr std::string_view nul("\0", 1);

/// Orders paths so that what lies below a path comes right after it: a slash before anything else.
bool tree_less(std::string_view a, std::string_view b) {
  auto rank = [](char c) { return c == '/' ? 0 : 1 + static_cast<int>(static_cast<unsigned char>(c)); };
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(),
                                      [&](char x, char y) { return rank(x) < rank(y); });
}

/// Drops paths that lie below another one; sorted. A lone path stays as it is.
std::vector<std::string> dedupe_paths(std::vector<std::string> paths) {
  if (paths.size() <= 1) return paths;
  std::sort(paths.begin(), paths.end(), tree_less);
  auto covers = [](const std::string& other, const std::string& p) {
    bool is_directory = other.ends_with('/');
    return p.starts_with(other) && (p.size() == other.size() || is_directory || p[other.size()] == '/');
  };
  std::vector<std::string> out;
  for (auto& p : paths)
    if (out.empty() || !covers(out.back(), p)) out.push_back(std::move(p));
  std::sort(out.begin(), out.end());
  return out;
}

/// Cache ids other than the Dockerfile defaults (`<dest>`, `<namespace>/<dest>`) stay out of the key.
bool clears_cache_options(const pb::Mount& m) {
  if (!m.has_cacheopt()) return false;
  const auto& o = m.cacheopt();
  if (o.sharing() != pb::SHARED) return true;
  if (o.id() == m.dest()) return false;
  auto slash = o.id().find('/');
  return slash == std::string::npos || o.id().substr(slash + 1) != m.dest();
}

bool is_default_root(const pb::Mount& m) {
  return m.dest() == "/" && m.selector().empty() && !m.readonly() && m.mounttype() == pb::BIND &&
         !m.has_cacheopt() && !m.has_sshopt() && !m.has_secretopt() && m.resultid().empty();
}

struct mount_dependency {
  std::vector<std::string> selectors;
  bool content_based = false;
};

/// Content-based keys are safe where an unselected file cannot slip into an output.
result<std::vector<mount_dependency>> mount_dependencies(const pb::ExecOp& exec, int inputs) {
  std::vector<mount_dependency> out(static_cast<std::size_t>(inputs));
  for (const auto& m : exec.mounts()) {
    if (m.mounttype() == pb::SECRET || m.mounttype() == pb::SSH || m.mounttype() == pb::TMPFS) continue;
    if (m.input() == none) continue;
    if (m.input() < 0 || m.input() >= inputs)
      return make_error(errc::invalid_argument, "invalid mountinput " + m.ShortDebugString());
    auto selector = clean_path("/" + m.selector());
    auto& d = out[static_cast<std::size_t>(m.input())];
    d.selectors.push_back(selector);
    bool content = m.output() == none || m.readonly() || selector == "/";
    switch (m.contentcache()) {
      case pb::OFF: content = false; break;
      case pb::ON:
        if (!content)
          return make_error(errc::invalid_argument, "invalid mount cache content " + m.ShortDebugString());
        break;
      default:
        if (m.dest() == "/") content = false;
    }
    d.content_based = content;
  }
  return out;
}

result<cache_map> exec_map(const pb::Op& op, const platform& p) {
  pb::ExecOp exec = op.exec();
  for (auto& host : *exec.mutable_meta()->mutable_extrahosts()) host.clear_ip();
  for (auto& m : *exec.mutable_mounts()) {
    m.clear_selector();
    if (clears_cache_options(m)) {
      m.mutable_cacheopt()->clear_id();
      m.mutable_cacheopt()->clear_sharing();
    }
  }
  exec.mutable_meta()->clear_proxy_env();
  // Old daemons left mounts out of the key; the commonest case keeps theirs.
  if (exec.mounts_size() == 1 && is_default_root(exec.mounts(0))) exec.clear_mounts();

  cache_map out;
  out.op_digest =
      sha256("{\"Type\":\"buildkit.exec.v0\",\"Exec\":" + exact_json(exec) + platform_json(p) + "}");
  out.dependencies.resize(static_cast<std::size_t>(op.inputs_size()));
  KILN_TRY(auto mounts, mount_dependencies(op.exec(), op.inputs_size()));
  for (std::size_t i = 0; i < mounts.size(); ++i) {
    if (mounts[i].selectors.empty()) continue;
    auto& d = out.dependencies[i];
    d.selector = sha256(join(mounts[i].selectors, nul)).str();
    d.content_based = mounts[i].content_based;
    if (!d.content_based) continue;
    for (const auto& path : dedupe_paths(mounts[i].selectors)) {
      if (path.empty() || path == "/") {
        d.content.clear();
        break;
      }
      content_selector s;
      s.path = path;
      s.follow_links = true;
      d.content.push_back(std::move(s));
    }
    if (d.content.empty()) d.content.emplace_back();
  }
  return out;
}

bool has_wildcards(std::string_view name) {
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '\\') {
      ++i;
    } else if (name[i] == '*' || name[i] == '?' || name[i] == '[') {
      return true;
    }
  }
  return false;
}

using selector_table = std::map<std::int64_t, std::vector<content_selector>>;

void add_owner(const pb::ChownOpt& owner, selector_table& selectors) {
  auto add = [&](const pb::UserOpt& user, const char* file) {
    if (!user.has_byname()) return;
    content_selector s;
    s.path = file;
    s.follow_links = true;
    selectors[user.byname().input()].push_back(std::move(s));
  };
  if (owner.has_user()) add(owner.user(), "/etc/passwd");
  if (owner.has_group()) add(owner.group(), "/etc/group");
}

/// Plain paths without those below others, then the filtered ones, by path.
std::vector<content_selector> dedupe_selectors(const std::vector<content_selector>& all) {
  auto filtered = [](const content_selector& s) {
    return s.wildcard || !s.include_patterns.empty() || !s.exclude_patterns.empty();
  };
  std::vector<std::string> plain, followed;
  for (const auto& s : all)
    if (!filtered(s)) (s.follow_links ? followed : plain).push_back(s.path);
  std::vector<content_selector> out;
  auto add = [&](const std::vector<std::string>& paths, bool follow) {
    for (const auto& p : dedupe_paths(paths)) {
      content_selector s;
      s.path = p;
      s.follow_links = follow;
      out.push_back(std::move(s));
    }
  };
  add(plain, false);
  add(followed, true);
  for (const auto& s : all)
    if (filtered(s)) out.push_back(s);
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  for (auto& s : out) s.path = clean_path("/" + s.path);
  return out;
}

/// The usual chain: each action takes the one before, copies from the second input, ends in output 0.
bool default_indexes(const pb::FileOp& op) {
  auto n = op.actions_size();
  for (int i = 0; i < n; ++i) {
    const auto& a = op.actions(i);
    if (a.input() != (i == 0 ? 0 : n + i - 1)) return false;
    if (a.secondaryinput() != none && a.secondaryinput() != 1) return false;
    if (a.output() != (i == n - 1 ? 0 : none)) return false;
  }
  return n > 0;
}

result<cache_map> file_map(const pb::Op& op) {
  selector_table selectors;
  std::set<std::int64_t> targets;
  std::string actions, indexes;
  for (const auto& a : op.file().actions()) {
    std::string json;
    if (a.input() != none && a.action_case() != pb::FileAction::ACTION_NOT_SET) targets.insert(a.input());
    switch (a.action_case()) {
      case pb::FileAction::kMkdir:
        add_owner(a.mkdir().owner(), selectors);
        json = exact_json(a.mkdir());
        break;
      case pb::FileAction::kMkfile:
        add_owner(a.mkfile().owner(), selectors);
        json = exact_json(a.mkfile());
        break;
      case pb::FileAction::kSymlink: json = exact_json(a.symlink()); break;
      case pb::FileAction::kRm: json = exact_json(a.rm()); break;
      case pb::FileAction::kCopy: {
        auto copy = a.copy();
        add_owner(copy.owner(), selectors);
        if (a.secondaryinput() != none && a.secondaryinput() < op.inputs_size()) {
          content_selector s;
          s.path = copy.src();
          s.follow_links = copy.followsymlink();
          s.wildcard = copy.allowwildcard() && has_wildcards(copy.src());
          s.include_patterns = {copy.include_patterns().begin(), copy.include_patterns().end()};
          s.exclude_patterns = {copy.exclude_patterns().begin(), copy.exclude_patterns().end()};
          s.required_paths = {copy.required_paths().begin(), copy.required_paths().end()};
          selectors[a.secondaryinput()].push_back(std::move(s));
          copy.set_src(path_base(copy.src()));
        }
        json = exact_json(copy);
        break;
      }
      case pb::FileAction::ACTION_NOT_SET: break;
    }
    actions += actions.empty() ? "" : ",";
    actions += json.empty() ? "null" : go_json_bytes(json);
    indexes += indexes.empty() ? "" : ",";
    indexes += "[" + std::to_string(a.input()) + "," + std::to_string(a.secondaryinput()) + "," +
               std::to_string(a.output()) + "]";
  }
  std::string text = "{\"Type\":\"buildkit.file.v0\",\"Actions\":[" + actions + "]";
  if (!indexes.empty() && !default_indexes(op.file())) text += ",\"indexes\":[" + indexes + "]";

  cache_map out;
  out.op_digest = sha256(text + "}");
  out.dependencies.resize(static_cast<std::size_t>(op.inputs_size()));
  for (const auto& [input, list] : selectors) {
    if (input < 0 || input >= op.inputs_size())
      return make_error(errc::invalid_argument, "invalid input index " + std::to_string(input) +
                                                    " in file op with " + std::to_string(op.inputs_size()) +
                                                    " inputs");
    if (targets.contains(input)) continue;
    std::vector<std::string> paths;
    for (const auto& s : list) paths.push_back(s.path);
    std::sort(paths.begin(), paths.end(), std::greater<>());
    auto& d = out.dependencies[static_cast<std::size_t>(input)];
    d.selector = sha256(join(paths, nul)).str();
    d.content_based = true;
    d.content = dedupe_selectors(list);
  }
  return out;
}

cache_map plain_map(std::string_view type, std::string_view field, const google::protobuf::Message& body,
                    std::size_t inputs) {
  cache_map out;
  std::string text = "{\"Type\":\"";
  text.append(type).append("\",\"").append(field).append("\":").append(exact_json(body)).append("}");
  out.op_digest = sha256(text);
  out.dependencies.resize(inputs);
  return out;
}

}  // namespace

result<cache_map> cache_map_of(const pb::Op& op, const platform& p) {
  auto inputs = static_cast<std::size_t>(op.inputs_size());
  switch (op.op_case()) {
    case pb::Op::kExec: return exec_map(op, p);
    case pb::Op::kFile: return file_map(op);
    case pb::Op::kMerge: return plain_map("buildkit.merge.v0", "Merge", op.merge(), inputs);
    case pb::Op::kDiff: return plain_map("buildkit.diff.v0", "Diff", op.diff(), inputs);
    case pb::Op::kBuild: return plain_map("buildkit.build.v0", "Exec", op.build(), inputs);
    case pb::Op::kPassthrough:
      return plain_map("buildkit.passthrough.v0", "Passthrough", op.passthrough(), inputs);
    case pb::Op::kSource: return make_error(errc::internal, "a source's cache map needs its resolved key");
    default: return make_error(errc::invalid_argument, "invalid op with no type");
  }
}

cache_map source_cache_map(std::string_view key) {
  cache_map out;
  out.op_digest = sha256("buildkit.source.v0:" + std::string(key));
  if (key.starts_with("session:"))
    out.op_digest = digest::trusted("random:" + std::string(out.op_digest.hex()));
  return out;
}

}  // namespace kiln::solver
