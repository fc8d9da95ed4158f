#include "frontends/dockerfile/image_config.hpp"

#include "base/json_text.hpp"
#include "configs/executor.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

using nlohmann::ordered_json;

namespace {

// Reads the fields of one object; what nobody asked for stays behind. The first mismatch is kept.
class object_reader {
 public:
  object_reader(ordered_json object, std::string where)
      : object_(std::move(object)), where_(std::move(where)) {}

  void read(const char* key, std::string& out) {
    take(key, &ordered_json::is_string, [&](const ordered_json& v) { out = text_value(v); });
  }
  void read(const char* key, bool& out) {
    take(key, &ordered_json::is_boolean, [&](const ordered_json& v) { out = true_value(v); });
  }
  void read(const char* key, std::int64_t& out) {
    take(key, &ordered_json::is_number_integer, [&](const ordered_json& v) {
      if (auto n = integer_value(v)) out = *n;
      else fail(key);
    });
  }
  void read(const char* key, std::vector<std::string>& out) {
    take(key, &ordered_json::is_array, [&](const ordered_json& v) { out = strings(key, v); });
  }
  void read(const char* key, std::optional<std::vector<std::string>>& out) {
    take(key, &ordered_json::is_array, [&](const ordered_json& v) { out = strings(key, v); });
  }
  void read(const char* key, std::optional<std::set<std::string>>& out) {
    take(key, &ordered_json::is_object, [&](const ordered_json& v) {
      out.emplace();
      for (const auto& [name, ignored] : v.items()) out->insert(name);
    });
  }
  void read(const char* key, std::optional<std::map<std::string, std::string>>& out) {
    take(key, &ordered_json::is_object, [&](const ordered_json& v) {
      out.emplace();
      for (const auto& [name, value] : v.items()) {
        if (value.is_string()) (*out)[name] = text_value(value);
        else fail(key);
      }
    });
  }
  ordered_json object(const char* key) {
    auto out = ordered_json::object();
    take(key, &ordered_json::is_object, [&](const ordered_json& v) { out = v; });
    return out;
  }
  ordered_json array(const char* key) {
    auto out = ordered_json::array();
    take(key, &ordered_json::is_array, [&](const ordered_json& v) { out = v; });
    return out;
  }

  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }
  /// What was not read.
  ordered_json rest() const {
    auto out = ordered_json::object();
    for (const auto& [key, value] : object_.items())
      if (!known_.contains(key)) out[key] = value;
    return out;
  }
  const std::string& failure() const { return failure_; }

 private:
  template <class Is, class Then>
  void take(const char* key, Is is, Then then) {
    known_.insert(key);
    auto at = object_.find(key);
    if (at == object_.end() || at->is_null()) return;
    if ((at.value().*is)()) then(at.value());
    else fail(key);
  }
  std::vector<std::string> strings(const char* key, const ordered_json& list) {
    std::vector<std::string> out;
    for (const auto& item : list) {
      if (item.is_string()) out.push_back(text_value(item));
      else fail(key);
    }
    return out;
  }
  void fail(const char* key) {
    if (failure_.empty()) failure_ = "field " + where_ + key + " has the wrong type";
  }

  ordered_json object_;
  std::string where_;
  std::set<std::string> known_;
  std::string failure_;
};

// Go drops trailing zeros of fractional seconds.
std::string normal_time(std::string text) {
  auto dot = text.find('.');
  if (dot == std::string::npos) return text;
  auto end = text.find_first_not_of("0123456789", dot + 1);
  if (end == std::string::npos) return text;
  auto keep = text.find_last_not_of('0', end - 1);
  text.erase(keep == dot ? dot : keep + 1, end - (keep == dot ? dot : keep + 1));
  return text;
}

std::string read_health(const ordered_json& object, health_config& out) {
  object_reader r(object, "config.Healthcheck.");
  r.read("Test", out.test);
  r.read("Interval", out.interval);
  r.read("Timeout", out.timeout);
  r.read("StartPeriod", out.start_period);
  r.read("StartInterval", out.start_interval);
  r.read("Retries", out.retries);
  return r.failure();
}

std::string read_config(object_reader& r, image_config& out) {
  r.read("User", out.user);
  r.read("ExposedPorts", out.exposed_ports);
  r.read("Env", out.env);
  r.read("Entrypoint", out.entrypoint);
  r.read("Cmd", out.cmd);
  r.read("Volumes", out.volumes);
  r.read("WorkingDir", out.working_dir);
  r.read("Labels", out.labels);
  r.read("StopSignal", out.stop_signal);
  r.read("ArgsEscaped", out.args_escaped);
  r.read("OnBuild", out.onbuild);
  r.read("Shell", out.shell);
  bool has_health = r.has("Healthcheck");
  auto health = r.object("Healthcheck");
  if (has_health) {
    out.healthcheck.emplace();
    if (auto failure = read_health(health, *out.healthcheck); !failure.empty()) return failure;
  }
  out.other_config = r.rest();
  return r.failure();
}

template <class T>
void put(ordered_json& object, const char* key, const T& value) {
  if (value != T{}) object[key] = value;
}

ordered_json key_object(const std::set<std::string>& keys) {
  auto out = ordered_json::object();
  for (const auto& key : keys) out[key] = ordered_json::object();
  return out;
}

ordered_json config_json(const image_config& image) {
  auto out = ordered_json::object();
  put(out, "User", image.user);
  if (image.exposed_ports && !image.exposed_ports->empty())
    out["ExposedPorts"] = key_object(*image.exposed_ports);
  put(out, "Env", image.env);
  put(out, "Entrypoint", image.entrypoint);
  put(out, "Cmd", image.cmd);
  if (image.volumes && !image.volumes->empty()) out["Volumes"] = key_object(*image.volumes);
  put(out, "WorkingDir", image.working_dir);
  if (image.labels && !image.labels->empty()) {
    auto& labels = out["Labels"] = ordered_json::object();
    for (const auto& [key, value] : *image.labels) labels[key] = value;
  }
  put(out, "StopSignal", image.stop_signal);
  put(out, "ArgsEscaped", image.args_escaped);
  if (image.healthcheck) {
    auto& health = out["Healthcheck"] = ordered_json::object();
    put(health, "Test", image.healthcheck->test);
    put(health, "Interval", image.healthcheck->interval);
    put(health, "Timeout", image.healthcheck->timeout);
    put(health, "StartPeriod", image.healthcheck->start_period);
    put(health, "StartInterval", image.healthcheck->start_interval);
    put(health, "Retries", image.healthcheck->retries);
  }
  put(out, "OnBuild", image.onbuild);
  put(out, "Shell", image.shell);
  for (const auto& [key, value] : image.other_config.items())
    if (!out.contains(key)) out[key] = value;
  return out;
}

}  // namespace

std::pair<std::string, std::string> split_env(std::string_view entry) {
  auto parts = cut(entry, "=");
  return {parts.before, parts.after};
}

void image_config::set_env(const std::string& key, const std::string& value) {
  for (auto& entry : env) {
    if (split_env(entry).first != key) continue;
    entry = key + "=" + value;
    return;
  }
  env.push_back(key + "=" + value);
}

std::optional<std::string> image_config::get_env(std::string_view key) const {
  for (auto entry = env.rbegin(); entry != env.rend(); ++entry)
    if (auto [name, value] = split_env(*entry); name == key) return value;
  return std::nullopt;
}

result<image_config> parse_image_config(std::string_view json) {
  auto parsed = parse_json<ordered_json>(json);
  if (!parsed.ok()) return std::move(parsed).error().with_context("image config is not a JSON object");
  auto document = *std::move(parsed);
  if (!document.is_object()) return make_error(errc::invalid_argument, "image config is not a JSON object");
  image_config out;
  object_reader r(std::move(document), "");
  r.read("created", out.created);
  r.read("author", out.author);
  r.read("architecture", out.platform.architecture);
  r.read("os", out.platform.os);
  r.read("os.version", out.platform.os_version);
  r.read("os.features", out.platform.os_features);
  r.read("variant", out.platform.variant);
  object_reader rootfs(r.object("rootfs"), "rootfs.");
  rootfs.read("type", out.rootfs_type);
  rootfs.read("diff_ids", out.diff_ids);
  auto failure = r.failure().empty() ? rootfs.failure() : r.failure();
  for (const auto& item : r.array("history")) {
    if (!item.is_object()) {
      failure = "field history has the wrong type";
      break;
    }
    object_reader h(item, "history.");
    auto& entry = out.history.emplace_back();
    h.read("created", entry.created);
    h.read("created_by", entry.created_by);
    h.read("author", entry.author);
    h.read("comment", entry.comment);
    h.read("empty_layer", entry.empty_layer);
    entry.created = normal_time(std::move(entry.created));
    if (failure.empty()) failure = h.failure();
  }
  out.created = normal_time(std::move(out.created));
  object_reader config(r.object("config"), "config.");
  auto config_failure = read_config(config, out);
  if (failure.empty()) failure = r.failure().empty() ? config_failure : r.failure();
  if (!failure.empty()) return make_error(errc::invalid_argument, failure);
  out.other = r.rest();
  return out;
}

std::string to_json(const image_config& image) {
  auto out = ordered_json::object();
  put(out, "created", image.created);
  put(out, "author", image.author);
  out["architecture"] = image.platform.architecture;
  out["os"] = image.platform.os;
  put(out, "os.version", image.platform.os_version);
  put(out, "os.features", image.platform.os_features);
  put(out, "variant", image.platform.variant);
  out["rootfs"] = {{"type", image.rootfs_type}, {"diff_ids", nullptr}};
  if (image.diff_ids) out["rootfs"]["diff_ids"] = *image.diff_ids;
  if (!image.history.empty()) {
    auto& history = out["history"] = ordered_json::array();
    for (const auto& h : image.history) {
      auto entry = ordered_json::object();
      put(entry, "created", h.created);
      put(entry, "created_by", h.created_by);
      put(entry, "author", h.author);
      put(entry, "comment", h.comment);
      put(entry, "empty_layer", h.empty_layer);
      history.push_back(std::move(entry));
    }
  }
  out["config"] = config_json(image);
  for (const auto& [key, value] : image.other.items())
    if (!out.contains(key)) out[key] = value;
  return go_json(out);
}

image_config empty_image(const kiln::platform& platform) {
  image_config out;
  out.platform = platform;
  out.rootfs_type = "layers";
  out.working_dir = "/";
  if (platform.os != "windows") out.env = {std::string("PATH=") + configs::default_path_of(platform.os)};
  return out;
}

}  // namespace kiln::dockerfile
