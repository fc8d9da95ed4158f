// Source operations and their attributes.

#include "base/json_text.hpp"
#include "frontends/llb/ops.hpp"
#include "messages/text_list.hpp"

namespace kiln::llb {

namespace {

bool is_platform_specific(std::string_view id) {
  return id.starts_with("docker-image://") || id.starts_with("oci-layout://");
}

class source_vertex final : public vertex {
 public:
  source_vertex(op_info info, std::string id, std::map<std::string, std::string> attributes)
      : vertex(std::move(info)), id_(std::move(id)), attributes_(std::move(attributes)) {}

  std::vector<output> inputs() const override { return {}; }

  result<std::string> encode(const encoder& e) const override {
    if (id_.empty()) return make_error(errc::invalid_argument, "source identifier can't be empty");
    pb::Op op;
    op.mutable_constraints();
    op.mutable_source()->set_identifier(id_);
    for (const auto& [key, value] : attributes_) (*op.mutable_source()->mutable_attrs())[key] = value;
    if (is_platform_specific(id_))
      to_proto(info().platform ? *info().platform : e.options().platform, *op.mutable_platform());
    return op_bytes(std::move(op));
  }

 private:
  std::string id_;
  std::map<std::string, std::string> attributes_;
};

std::string json_list(const std::vector<std::string>& items) {
  return go_json(nlohmann::ordered_json(items));
}

}  // namespace

output source(graph& g, std::string identifier, std::map<std::string, std::string> attributes, op_info info) {
  return {g.make<source_vertex>(std::move(info), std::move(identifier), std::move(attributes)), 0};
}

output image(graph& g, const std::string& reference, const std::string& resolve_mode, op_info info) {
  std::map<std::string, std::string> attributes;
  info.caps.insert("source.image");
  if (!resolve_mode.empty() && resolve_mode != "default") {
    attributes["image.resolvemode"] = resolve_mode;
    if (resolve_mode == "pull") info.caps.insert("source.image.resolvemode");
  }
  return source(g, "docker-image://" + reference, std::move(attributes), std::move(info));
}

output local(graph& g, const std::string& name, const local_options& options, op_info info) {
  std::map<std::string, std::string> attributes;
  auto set = [&](const char* key, const std::string& value, const char* cap) {
    if (value.empty()) return;
    attributes[key] = value;
    if (cap != nullptr) info.caps.insert(cap);
  };
  auto set_list = [&](const char* key, const std::vector<std::string>& items, const char* cap) {
    if (items.empty()) return;
    set(key, json_list(items), cap);
    if (auto bytes = list_bytes(items)) attributes[bytes_key(key)] = *std::move(bytes);
  };
  set("local.session", options.session_id, "source.local.sessionid");
  set_list("local.includepattern", options.include_patterns, "source.local.includepatterns");
  set_list("local.followpaths", options.follow_paths, "source.local.followpaths");
  set_list("local.excludepatterns", options.exclude_patterns, "source.local.excludepatterns");
  set("local.sharedkeyhint", options.shared_key_hint, "source.local.sharedkeyhint");
  set("local.differ", options.differ, nullptr);
  if (options.session_id.empty()) {
    attributes["local.unique"] = new_id();
    info.caps.insert("source.local.unique");
  }
  info.caps.insert("source.local");
  return source(g, "local://" + name, std::move(attributes), std::move(info));
}

output http(graph& g, const std::string& url, const http_options& options, op_info info) {
  std::map<std::string, std::string> attributes;
  if (!options.checksum.empty()) {
    attributes["http.checksum"] = options.checksum;
    info.caps.insert("source.http.checksum");
  }
  if (!options.filename.empty()) attributes["http.filename"] = options.filename;
  info.caps.insert("source.http");
  return source(g, url, std::move(attributes), std::move(info));
}

output git(graph& g, const git_options& options, op_info info) {
  std::map<std::string, std::string> attributes;
  auto set = [&](const char* key, const std::string& value, const char* cap) {
    if (value.empty()) return;
    attributes[key] = value;
    info.caps.insert(cap);
  };
  auto id = options.id;
  if (!options.ref.empty() || !options.subdir.empty()) {
    id += "#" + options.ref;
    if (!options.subdir.empty()) id += ":" + options.subdir;
  }
  set("git.keepgitdir", options.keep_git_dir ? "true" : "", "source.git.keepgitdir");
  set("git.fullurl", options.remote, "source.git.fullurl");
  attributes["git.authtokensecret"] = "GIT_AUTH_TOKEN";
  attributes["git.authheadersecret"] = "GIT_AUTH_HEADER";
  if (options.ssh) {
    // No key scan: the daemon's git asks for host keys itself.
    info.caps.insert("source.git.knownsshhosts");
    set("git.mountsshsock", "default", "source.git.mountsshsock");
  }
  set("git.checksum", options.checksum, "source.git.checksum");
  set("git.skipsubmodules", options.skip_submodules ? "true" : "", "source.git.skipsubmodules");
  set("git.mtime", options.mtime, "source.git.mtime");
  set("git.fetchbycommit", options.fetch_by_commit ? "true" : "", "source.git.fetchbycommit");
  info.caps.insert("source.git");
  return source(g, "git://" + id, std::move(attributes), std::move(info));
}

output oci_layout(graph& g, const std::string& reference, const std::string& session_id,
                  const std::string& store_id, op_info info) {
  std::map<std::string, std::string> attributes;
  if (!session_id.empty()) attributes["oci.session"] = session_id;
  if (!store_id.empty()) attributes["oci.store"] = store_id;
  info.caps.insert("source.ocilayout");
  return source(g, "oci-layout://" + reference, std::move(attributes), std::move(info));
}

}  // namespace kiln::llb
