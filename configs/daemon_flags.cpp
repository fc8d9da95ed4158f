#include "configs/daemon_flags.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>

#include <CLI/CLI.hpp>

#include "configs/daemon_environment.hpp"
#include "configs/daemon_settings.hpp"
#include "configs/version.hpp"

namespace kiln::configs {

namespace {

std::string environment(const char* name) {
  auto* value = std::getenv(name);
  return value ? value : "";
}

bool in_user_namespace() {
  // The initial namespace maps everything: one line "0 0 4294967295".
  auto* file = std::fopen("/proc/self/uid_map", "re");
  if (!file) return false;
  unsigned long inside = 0;
  unsigned long outside = 0;
  unsigned long count = 0;
  int n = std::fscanf(file, "%lu %lu %lu", &inside, &outside, &count);
  std::fclose(file);
  return !(n == 3 && inside == 0 && outside == 0 && count == 4294967295UL);
}

struct rootless_paths {
  std::string config;
  std::string root;
  std::string runtime;  // of sockets
  std::string cni_config;
};

/// Where an unprivileged user's daemon lives. Source: BuildKit util/appdefaults.
std::optional<rootless_paths> rootless() {
  auto user = environment("USER");
  if (!in_user_namespace() || user.empty() || user == "root") return std::nullopt;
  auto home = environment("HOME");
  auto or_home = [&](const char* variable, std::string_view below) {
    auto value = environment(variable);
    return value.empty() ? home + "/" + std::string(below) : value;
  };
  rootless_paths paths;
  auto configs = or_home("XDG_CONFIG_HOME", ".config") + "/buildkit";
  paths.config = configs + "/buildkitd.toml";
  paths.cni_config = configs + "/cni.json";
  paths.root = or_home("XDG_DATA_HOME", ".local/share") + "/buildkit";
  auto runtime = environment("XDG_RUNTIME_DIR");
  paths.runtime = runtime.empty() ? "/run/buildkit" : runtime + "/buildkit";
  return paths;
}

/// Makes a flag of every setting that has one, as it is visited (configs/daemon_settings.hpp). What was given
/// is applied later, when the config file has been read into the same config.
class flag_set {
 public:
  explicit flag_set(CLI::App& app) : app_(app) {}

  template <class Kind>
  void value(const settings::setting& about, const Kind& kind) {
    if (about.flag.empty()) return;
    auto given = std::make_shared<given_value>();
    auto* option = add(about, kind_form(kind), *given);
    if constexpr (std::is_same_v<Kind, settings::lacking>) {
      option->group("");
    } else if (auto shown = kind.shown(); !shown.empty() && kind.form != settings::flag_form::toggle) {
      option->description(option->get_description() + " (default: " + shown + ")");
    }
    apply_.push_back([this, about, kind, option, given]() -> status {
      auto* variable = about.variable.empty() ? nullptr : std::getenv(std::string(about.variable).c_str());
      if (variable && *variable) KILN_CHECK(assign(kind, about, about.variable, std::string(variable)));
      if (!*option) return {};
      if (!about.instead.empty())
        outdated_.push_back(std::string(about.flag) + ": say " + std::string(about.instead) + " instead");
      return assign(kind, about, about.flag, raw_of(kind_form(kind), *given));
    });
  }

  // A flag stands for one value: there is none for those of many rows.
  template <class Visit>
  void table(std::string_view, const Visit& visit) {
    visit(*this);
  }
  template <class Row, class Visit>
  void rows(std::string_view, std::vector<Row>&, const Visit&) {}
  template <class Table, class Visit>
  void tables(std::string_view, std::map<std::string, Table>&, const Visit&) {}

  status apply() const {
    for (const auto& f : apply_) KILN_CHECK(f());
    return {};
  }
  const std::vector<std::string>& without_effect() const { return without_effect_; }
  const std::vector<std::string>& outdated() const { return outdated_; }

 private:
  struct given_value {
    bool on = false;
    std::vector<std::string> texts;
  };

  template <class Kind>
  static settings::flag_form kind_form(const Kind& kind) {
    return kind.form;
  }

  CLI::Option* add(const settings::setting& about, settings::flag_form form, given_value& into) {
    std::string name(about.flag), help(about.does);
    if (!about.variable.empty()) help += " [$" + std::string(about.variable) + "]";
    if (form == settings::flag_form::toggle) return app_.add_flag(name, into.on, help);  // also "--x=false"
    // One value an occurrence; of a flag for one value, the last counts.
    return app_.add_option(name, into.texts, help)->allow_extra_args(false);
  }

  static settings::raw_value raw_of(settings::flag_form form, const given_value& given) {
    switch (form) {
      case settings::flag_form::toggle: return given.on;
      case settings::flag_form::once: return given.texts.back();
      case settings::flag_form::repeated: return given.texts;
    }
    return {};
  }

  template <class Kind>
  status assign(const Kind& kind, const settings::setting& about, std::string_view name,
                const settings::raw_value& raw) {
    auto refused = [&](const std::string& why) {
      return make_error(errc::invalid_argument, std::string(name) + why);
    };
    if constexpr (std::is_same_v<Kind, settings::lacking>) {
      if (!settings::asks(raw)) return {};
      if (kind.asked == settings::lacking::answer::refuse) return refused(": " + std::string(about.does));
      without_effect_.push_back(std::string(name) + ": " + std::string(about.does));
    } else if (auto wanted = kind.assign(raw)) {
      return refused(" must be " + *wanted);
    }
    return {};
  }

  CLI::App& app_;
  std::vector<std::function<status()>> apply_;
  std::vector<std::string> without_effect_;
  std::vector<std::string> outdated_;
};

}  // namespace

result<command_line> parse_command_line(int argc, const char* const* argv) {
  CLI::App app{"Kiln: builds container images and other artifacts (speaks BuildKit's protocols)", "kilnd"};
  auto unprivileged = rootless();

  command_line line;
  bool version_flag = false;
  line.config_file = unprivileged ? unprivileged->config : "/etc/buildkit/buildkitd.toml";
  app.add_option("--config", line.config_file, "config file")->capture_default_str();
  app.add_flag("-v,--version", version_flag, "print the version");
  flag_set flags{app};
  settings::visit(flags, line.config);

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    line.print_and_exit = app.help();
    return line;
  } catch (const CLI::ParseError& e) {
    return make_error(errc::invalid_argument, e.what());
  }
  if (version_flag) {
    line.print_and_exit = version_line("kilnd") + "\n";
    return line;
  }

  KILN_TRY(auto loaded, load_config(line.config_file));
  line.config = std::move(loaded.config);
  line.unknown_keys = std::move(loaded.unknown_keys);
  if (unprivileged) {
    daemon_config defaults;
    if (line.config.root == defaults.root) line.config.root = unprivileged->root;
    if (line.config.addresses == defaults.addresses)
      line.config.addresses = {"unix://" + unprivileged->runtime + "/buildkitd.sock"};
    if (line.config.oci.cni_config_path == defaults.oci.cni_config_path)
      line.config.oci.cni_config_path = unprivileged->cni_config;
    line.config.oci.rootless = true;
  }
  KILN_CHECK(flags.apply());
  line.without_effect = std::move(loaded.without_effect);
  for (const auto& text : flags.without_effect()) line.without_effect.push_back(text);
  for (const auto& v : lacking_variables)
    if (!environment(v.name).empty())
      line.without_effect.push_back(std::string(v.name) + ": " + std::string(v.why));
  line.outdated = std::move(loaded.outdated);
  for (const auto& text : flags.outdated()) line.outdated.push_back(text);
  if (line.config.oci.rootless && !in_user_namespace())
    return make_error(errc::invalid_argument,
                      "worker.oci.rootless: this is no user namespace (RootlessKit makes one)");
  if (line.config.oci.rootless && line.config.oci.network_mode == "auto")
    line.config.oci.network_mode = "host";
  if (!line.config.cdi_disabled) {
    auto& allowed = line.config.insecure_entitlements;
    if (std::find(allowed.begin(), allowed.end(), "device") == allowed.end()) allowed.push_back("device");
  }
  KILN_CHECK(validate(line.config));
  return line;
}

}  // namespace kiln::configs
