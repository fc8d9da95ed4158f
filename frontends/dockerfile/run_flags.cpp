// RUN --mount and --device values.
#include "base/csv.hpp"
#include "frontends/dockerfile/instructions.hpp"
#include "frontends/dockerfile/refusal.hpp"
#include "frontends/dockerfile/suggest.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

constexpr std::uint64_t max_id = 0xffffffff;

const std::vector<std::string> type_names{"bind", "cache", "tmpfs", "secret", "ssh"};
const std::vector<std::string> sharing_names{"shared", "private", "locked"};

struct mount_reader {
  run_mount mount;
  bool readonly_is_automatic = true;

  error unexpected(const std::string& key) const {
    return invalid("unexpected key '" + key + "' for mount type '" + std::string(to_string(mount.type)) +
                   "'");
  }
  bool may_be_required() const { return mount.type == mount_type::secret || mount.type == mount_type::ssh; }

  void set_readonly(bool value) {
    mount.readonly = value;
    readonly_is_automatic = false;
  }

  status bare(const std::string& key, const std::string& field) {
    if (key == "readonly" || key == "ro") {
      set_readonly(true);
    } else if (key == "readwrite" || key == "rw") {
      set_readonly(false);
    } else if (key == "required") {
      if (!may_be_required()) return unexpected(key);
      mount.required = true;
    } else {
      (void)field;
      return invalid("invalid field '" + field + "' must be a key=value pair");
    }
    return {};
  }

  status assign(const std::string& key, const std::string& value, const std::string& field) {
    auto flag = [&]() -> result<bool> {
      auto parsed = parse_bool(value);
      if (!parsed) return invalid("invalid value for " + key + ": " + value);
      return *parsed;
    };
    auto id = [&](int base) -> result<std::optional<std::uint32_t>> {
      auto parsed = parse_uint(value, base, max_id);
      if (!parsed) return invalid("invalid value " + value + " for " + key);
      return std::optional<std::uint32_t>(static_cast<std::uint32_t>(*parsed));
    };
    if (key == "type") return set_type(value);
    if (key == "from") mount.from = value;
    else if (key == "source" || key == "src") mount.source = value;
    else if (key == "target" || key == "dst" || key == "destination") mount.target = value;
    else if (key == "id") mount.id = value;
    else if (key == "env") mount.env = value;
    else if (key == "sharing") return set_sharing(value);
    else if (key == "readonly" || key == "ro") {
      KILN_TRY(auto on, flag());
      set_readonly(on);
    } else if (key == "readwrite" || key == "rw") {
      KILN_TRY(auto on, flag());
      set_readonly(!on);
    } else if (key == "required") {
      if (!may_be_required()) return unexpected(key);
      KILN_TRY(mount.required, flag());
    } else if (key == "size") {
      if (mount.type != mount_type::tmpfs) return unexpected(key);
      auto size = ram_in_bytes(value);
      if (!size) return invalid("invalid value for " + key + ": " + value);
      mount.size_limit = *size;
    } else if (key == "mode") {
      KILN_TRY(mount.mode, id(8));
    } else if (key == "uid") {
      KILN_TRY(mount.uid, id(10));
    } else if (key == "gid") {
      KILN_TRY(mount.gid, id(10));
    } else {
      static const std::vector<std::string> keys{
          "type", "from", "source", "target", "readonly",    "id", "sharing", "required",  "size", "mode",
          "uid",  "gid",  "src",    "dst",    "destination", "ro", "rw",      "readwrite", "env"};
      return with_suggestion(invalid("unexpected key '" + key + "' in '" + field + "'"), key, keys, true);
    }
    return {};
  }

  status set_type(const std::string& value) {
    auto name = to_lower(value);
    for (std::size_t i = 0; i < type_names.size(); ++i) {
      if (type_names[i] != name) continue;
      mount.type = static_cast<mount_type>(i);
      return {};
    }
    return with_suggestion(invalid("unsupported mount type " + quote(value)), value, type_names, true);
  }

  status set_sharing(const std::string& value) {
    auto name = to_lower(value);
    for (const auto& known : sharing_names) {
      if (known != name) continue;
      mount.sharing = name;
      return {};
    }
    return with_suggestion(invalid("unsupported sharing value " + quote(value)), value, sharing_names, true);
  }

  status finish() {
    auto type = std::string(to_string(mount.type));
    bool has_file_info = may_be_required() || mount.type == mount_type::cache;
    if (!has_file_info) {
      if (mount.mode) return invalid("mode not allowed for \"" + type + "\" type mounts");
      if (mount.uid) return invalid("uid not allowed for \"" + type + "\" type mounts");
      if (mount.gid) return invalid("gid not allowed for \"" + type + "\" type mounts");
    }
    if (readonly_is_automatic)
      mount.readonly = mount.type != mount_type::cache && mount.type != mount_type::tmpfs;
    if (mount.type == mount_type::secret) {
      if (!mount.from.empty()) return invalid("secret mount should not have a from");
      if (!mount.sharing.empty()) return invalid("secret mount should not define sharing");
      if (mount.source.empty() && mount.target.empty() && mount.id.empty())
        return invalid("invalid secret mount. one of source, target required");
      if (!mount.source.empty() && !mount.id.empty()) return invalid("both source and id can't be set");
    }
    if (!mount.sharing.empty() && mount.type != mount_type::cache)
      return invalid("invalid cache sharing set for " + type + " mount");
    return {};
  }
};

}  // namespace

std::string_view to_string(mount_type type) { return type_names[static_cast<std::size_t>(type)]; }

result<run_mount> parse_run_mount(const std::string& text, const word_expander& expand) {
  auto fields = split_csv(text);
  if (!fields) return std::move(fields).error().with_context("failed to parse csv mounts");
  mount_reader reader;
  for (const auto& field : *fields) {
    auto [raw_key, raw_value, has_value] = cut(field, "=");
    auto key = to_lower(raw_key);
    if (!has_value) {
      if (expand) KILN_CHECK(reader.bare(key, field));
      continue;
    }
    auto value = raw_value;
    if (expand) {
      KILN_TRY(value, expand(raw_value));
    } else if (key != "from") {
      continue;  // may hold variables; read again when they are known
    } else if (auto dollar = value.find('$'); dollar != std::string::npos && dollar + 1 != value.size()) {
      return invalid("'" + key + "' doesn't support variable expansion, define alias stage instead");
    }
    KILN_CHECK(reader.assign(key, value, field));
  }
  KILN_CHECK(reader.finish());
  return std::move(reader.mount);
}

result<run_device> parse_run_device(const std::string& text) {
  auto fields = split_csv(text);
  if (!fields) return std::move(fields).error().with_context("failed to parse csv devices");
  run_device device;
  for (const auto& field : *fields) {
    auto [raw_key, value, has_value] = cut(field, "=");
    auto key = to_lower(raw_key);
    if (!has_value) {
      if (key == "required") device.required = true;
      else if (device.name.empty()) device.name = field;
      else return invalid("invalid field '" + field + "' must be a key=value pair");
    } else if (key == "name") {
      if (!device.name.empty()) return invalid("device name already set to " + device.name);
      device.name = value;
    } else if (key == "required") {
      auto flag = parse_bool(value);
      if (!flag) return invalid("invalid value for " + key + ": " + value);
      device.required = *flag;
    } else if (device.name.empty()) {
      device.name = field;
    } else {
      return with_suggestion(invalid("unexpected key '" + key + "' in '" + field + "'"), key,
                             {"name", "required"}, true);
    }
  }
  return device;
}

}  // namespace kiln::dockerfile
