#include <algorithm>
#include <cstdlib>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "base/duration.hpp"
#include "client/flags/flags.hpp"
#include "configs/version.hpp"

namespace kiln::client {
namespace {

CLI::Option* add_list(CLI::App* app, const std::string& names, std::vector<std::string>& into,
                      const std::string& help) {
  // One value an occurrence, so that a positional may follow.
  return app->add_option(names, into, help)->allow_extra_args(false);
}

CLI::Option* add_format(CLI::App* app, std::string& into) {
  return app->add_option("--format", into,
                         "Format the output using the given Go template, e.g, '{{json .}}'");
}

void add_globals(CLI::App& app, global_flags& g) {
  app.add_flag("--debug", g.debug, "enable debug output in logs");
  app.add_option(
      "--addr", g.address,
      "buildkitd address (default: $BUILDKIT_HOST, $KILN_HOST, unix:///run/buildkit/buildkitd.sock, "
      "unix:///run/kiln/kilnd.sock)");
  app.add_option("--log-format", g.log_format, "form of warnings: json or text")->capture_default_str();
  app.add_option("--tlsservername", g.tls.server_name, "buildkitd server name for certificate validation");
  app.add_option("--tlscacert", g.tls.ca_cert, "CA certificate for validation");
  app.add_option("--tlscert", g.tls.cert, "client certificate");
  app.add_option("--tlskey", g.tls.key, "client key");
  app.add_option(
      "--tlsdir", g.tls.directory,
      "directory containing CA certificate, client certificate, and client key. Supported file names are "
      "(ca.pem, cert.pem, key.pem) or (ca.crt, tls.crt, tls.key)");
  app.add_option("--timeout", g.timeout_seconds, "seconds until an attempt to connect is given up")
      ->capture_default_str();
  app.add_flag("--wait", g.wait, "block RPCs until the connection becomes available");
}

void add_build(CLI::App& app, build_flags& b) {
  auto* c = app.add_subcommand("build", "build from an LLB definition, with a frontend, or from a directory")
                ->alias("b");
  c->add_option("context", b.context, "directory or URL to build with its Dockerfile (kilnctl build .)");
  add_list(
      c, "-o,--output", b.outputs,
      "Define exports for build result, e.g. --output type=image,name=docker.io/username/image,push=true");
  c->add_option("--progress", b.progress,
                "Set type of progress (auto, plain, tty, rawjson, quiet). Use plain to show container output")
      ->capture_default_str();
  c->add_option("--trace", b.trace_file, "Path to trace file. Defaults to no tracing.");
  add_list(c, "--secret", b.secrets, "Secret value exposed to the build. Format id=secretname,src=filepath");
  add_list(c, "--allow", b.allow,
           "Allow extra privileged entitlement, e.g. network.host, security.insecure, device");
  add_list(c, "--ssh", b.ssh,
           "Allow forwarding SSH agent or a raw Unix socket to the builder. Format "
           "default|<id>[=<socket>[,raw=false]|<key>[,<key>]]");
  c->add_option("--metadata-file", b.metadata_file,
                "Output build metadata (e.g., image digest) to a file as JSON");
  c->add_option("--source-policy-file", b.source_policy_file,
                "Read source policy file from a JSON file [$EXPERIMENTAL_BUILDKIT_SOURCE_POLICY]");
  c->add_option("--ref-file", b.ref_file, "Write build ref to a file");
  add_list(c, "--registry-auth-tlscontext", b.auth_tls,
           "Overwrite TLS configuration when authenticating with registries, e.g. --registry-auth-tlscontext "
           "host=https://myserver:2376,insecure=false,ca=/path/to/my/ca.crt,cert=/path/to/my/cert.crt,key=/"
           "path/to/my/key.crt");
  c->add_option("--debug-json-cache-metrics", b.cache_metrics,
                "Where to output json cache metrics, use 'stdout' or 'stderr' for standard (error) output.");
  c->add_flag("--no-cache", b.no_cache, "Disable cache for all the vertices");
  c->add_flag("--proxy-network", b.proxy_network, "Run build with proxy network enforcement");

  constexpr const char* full = "With --frontend or LLB on stdin";
  c->add_option("--frontend", b.frontend, "Define frontend used for build")->group(full);
  add_list(c, "--opt", b.opts,
           "Define custom options for frontend, e.g. --opt target=foo --opt build-arg:foo=bar")
      ->group(full);
  add_list(c, "--local", b.locals, "Allow build access to the local directory")->group(full);
  add_list(c, "--oci-layout", b.oci_layouts, "Allow build access to the local OCI layout")->group(full);
  add_list(c, "--export-cache,--cache-to", b.export_caches,
           "Export build cache, e.g. --export-cache type=registry,ref=example.com/foo/bar, or --export-cache "
           "type=local,dest=path/to/dir");
  add_list(c, "--import-cache,--cache-from", b.import_caches,
           "Import build cache, e.g. --import-cache type=registry,ref=example.com/foo/bar, or --import-cache "
           "type=local,src=path/to/dir");

  constexpr const char* brief = "With a directory";
  c->add_option("-f,--file", b.file, "Name of the Dockerfile (default: <context>/Dockerfile)")->group(brief);
  add_list(c, "-t,--tag", b.tags, "Name and optionally a tag (name:tag) of the image")->group(brief);
  c->add_option("--target", b.target, "Build stage to build")->group(brief);
  add_list(c, "--build-arg", b.build_args,
           "Build-time variable, NAME=value or NAME to take it from the environment")
      ->group(brief);
  add_list(c, "--label", b.labels, "Metadata of the image, key=value")->group(brief);
  add_list(c, "--platform", b.platforms, "Target platform, e.g. linux/amd64,linux/arm64")->group(brief);
  add_list(c, "--build-context", b.build_contexts, "Additional build context, name=path or name=URL")
      ->group(brief);
  add_list(c, "--add-host", b.add_hosts, "Custom host-to-IP mapping, host:ip")->group(brief);
  add_list(c, "--attest", b.attests, "Attestation, e.g. type=sbom,generator=image")->group(brief);
  add_list(c, "--no-cache-filter", b.no_cache_filters, "Do not cache the named stages")->group(brief);
  add_list(c, "--ulimit", b.ulimits, "Limits of processes, e.g. nofile=1024:2048")->group(brief);
  c->add_option("--sbom", b.sbom, "Shorthand for --attest=type=sbom")->expected(0, 1)->group(brief);
  c->add_option("--provenance", b.provenance, "Shorthand for --attest=type=provenance")
      ->expected(0, 1)
      ->group(brief);
  c->add_option("--network", b.network, "Network of RUN instructions: default, none or host")->group(brief);
  c->add_option("--shm-size", b.shm_size, "Size of /dev/shm")->group(brief);
  c->add_option("--cgroup-parent", b.cgroup_parent, "Parent cgroup of RUN instructions")->group(brief);
  c->add_option("--call", b.call, "Evaluate instead of building: check, outline, targets")->group(brief);
  c->add_option("--iidfile", b.iid_file, "Write the image's digest to a file")->group(brief);
  c->add_flag("--check", b.check, "Shorthand for --call=check")->group(brief);
  c->add_flag("--push", b.push, "Push the image to its registry")->group(brief);
  c->add_flag("--load", b.load, "Load the image into the local Docker engine")->group(brief);
  c->add_flag("--pull", b.pull, "Always look for newer base images")->group(brief);
  c->add_flag("-q,--quiet", b.quiet, "Print only the image's digest")->group(brief);
}

// CLI11 knows only "--name"; Go programs and their users also write "-name".
std::vector<std::string> widen_single_dashes(const CLI::App& app, const std::vector<std::string>& arguments) {
  std::vector<std::string> out;
  bool verbatim = false;
  for (const auto& a : arguments) {
    verbatim = verbatim || a == "--";
    if (!verbatim && a.size() > 2 && a[0] == '-' && a[1] != '-') {
      auto name = a.substr(1, a.find('=') == std::string::npos ? a.npos : a.find('=') - 1);
      auto known = [&](const CLI::App& where) { return where.get_option_no_throw("--" + name) != nullptr; };
      bool found = known(app);
      std::function<void(const CLI::App&)> search = [&](const CLI::App& where) {
        for (const auto* sub : where.get_subcommands({})) {
          found = found || known(*sub);
          search(*sub);
        }
      };
      search(app);
      if (found) {
        out.push_back("-" + a);
        continue;
      }
    }
    out.push_back(a);
  }
  return out;
}

// The Levenshtein distance, for suggestions.
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      auto above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

// " (did you mean --output?)" when something known is near.
std::string suggestion(const std::string& wrong, const std::vector<std::string>& known) {
  std::string best;
  std::size_t best_distance = 3;
  for (const auto& k : known)
    if (auto d = distance(wrong, k); d < best_distance) {
      best = k;
      best_distance = d;
    }
  return best.empty() ? "" : fmt::format(" (did you mean {}?)", best);
}

std::vector<std::string> known_options(const CLI::App& app) {
  std::vector<std::string> out;
  for (const auto* o : app.get_options({}))
    for (const auto& name : o->get_lnames()) out.push_back("--" + name);
  for (const auto* sub : app.get_subcommands({})) {
    auto inner = known_options(*sub);
    out.insert(out.end(), inner.begin(), inner.end());
  }
  return out;
}

// The command below `app` that takes this option: "debug dump-metadata", or empty.
std::string command_with(const CLI::App& app, const std::string& option) {
  for (const auto* sub : app.get_subcommands({})) {
    if (sub->get_option_no_throw(option)) return sub->get_name();
    if (auto inner = command_with(*sub, option); !inner.empty()) return sub->get_name() + " " + inner;
  }
  return {};
}

// What CLI11 calls an unexpected argument or a missing subcommand, in the user's words.
std::string explain(const CLI::App& app, const std::string& program,
                    const std::vector<std::string>& arguments, const CLI::ParseError& e) {
  const auto* chosen = &app;
  for (const auto* next = chosen; next;) {
    chosen = next;
    next = nullptr;
    for (const auto* sub : chosen->get_subcommands({}))
      if (sub->parsed()) next = sub;
  }
  auto unknown = chosen->remaining();
  if (unknown.empty()) unknown = app.remaining();
  bool needs_command = dynamic_cast<const CLI::RequiredError*>(&e) && !chosen->get_subcommands({}).empty();
  if (needs_command || dynamic_cast<const CLI::ExtrasError*>(&e)) {
    auto word = std::find_if(unknown.begin(), unknown.end(), [](const std::string& s) { return s != "--"; });
    if (word == unknown.end() && needs_command)
      word = std::find_if(unknown.begin(), unknown.end(), [](const std::string&) { return true; });
    if (word != unknown.end() && word->starts_with("-")) {
      auto option = word->substr(0, word->find('='));
      if (auto other = command_with(app, option); !other.empty())
        return fmt::format("{} is a flag of '{} {}'", option, program, other);
      return fmt::format("unknown flag: {}{}", *word, suggestion(option, known_options(app)));
    }
    std::vector<std::string> commands;
    for (const auto* sub : chosen->get_subcommands({})) commands.push_back(sub->get_name());
    std::string name = word != unknown.end() ? *word : "";
    if (name.empty() && needs_command)
      for (const auto& a : arguments)
        if (!a.starts_with("-") && a != chosen->get_name()) {
          name = a;
          break;
        }
    if (!name.empty() && !commands.empty())
      return fmt::format("unknown command \"{}\"{}; run '{} --help'", name, suggestion(name, commands),
                         program);
    if (!name.empty()) return fmt::format("unexpected argument \"{}\"; run '{} --help'", name, program);
    return fmt::format("a command is required; run '{} --help'", program);
  }
  return e.what();
}

}  // namespace

bool build_flags::is_short() const {
  return context || !file.empty() || !tags.empty() || !target.empty() || !build_args.empty() ||
         !labels.empty() || !platforms.empty() || !build_contexts.empty() || !add_hosts.empty() ||
         !attests.empty() || !no_cache_filters.empty() || !ulimits.empty() || !sbom.empty() ||
         !provenance.empty() || !network.empty() || !shm_size.empty() || !cgroup_parent.empty() ||
         !call.empty() || !iid_file.empty() || push || load || pull || check || quiet;
}

namespace {

/// Where the flags of every command are read to.
struct all_flags {
  global_flags global;
  build_flags build;
  du_flags du;
  prune_flags prune;
  prune_histories_flags prune_histories;
  workers_flags workers;
  info_flags info;
  histories_flags histories;
  logs_flags logs;
  monitor_flags monitor;
  get_flags get;
  ctl_flags ctl;
  dump_llb_flags dump_llb;
  dump_metadata_flags dump_metadata;
  cluster_flags cluster_list;
  cluster_drain_flags cluster_drain;
  cluster_certs_flags cluster_certs;
  std::string keep_duration;
};

void add_commands(CLI::App& app, all_flags& f) {
  add_globals(app, f.global);
  add_build(app, f.build);

  auto* c = app.add_subcommand("du", "disk usage");
  add_list(c, "-f,--filter", f.du.filters, "Filter records");
  c->add_flag("-v,--verbose", f.du.verbose, "Verbose output");
  add_format(c, f.du.format);

  c = app.add_subcommand("prune", "clean up build cache");
  c->add_option("--keep-duration", f.keep_duration, "Keep data newer than this limit");
  c->add_option("--keep-storage", f.prune.keep_storage_mb, "Keep data below this limit (in MB)");
  c->add_option("--keep-storage-min", f.prune.keep_storage_min_mb,
                "Always allow data above this limit (in MB)");
  c->add_option("--free-storage", f.prune.free_storage_mb, "Keep free data below this limit (in MB)");
  add_list(c, "-f,--filter", f.prune.filters, "Filter records");
  c->add_flag("--all", f.prune.all, "Include internal/frontend references");
  c->add_flag("-v,--verbose", f.prune.verbose, "Verbose output");
  add_format(c, f.prune.format);

  c = app.add_subcommand("prune-histories", "clean up build histories");
  add_format(c, f.prune_histories.format);

  auto* debug = app.add_subcommand("debug", "debug utilities");
  debug->require_subcommand(1);
  c = debug->add_subcommand("dump-llb",
                            "dump LLB in human-readable format. LLB can be also passed via stdin. This "
                            "command does not require the daemon to be running.");
  c->add_flag("--dot", f.dump_llb.dot, "Output dot format");
  c->add_option("llbfile", f.dump_llb.file, "file, or - for stdin");
  c = debug->add_subcommand(
      "dump-metadata",
      "dump the metadata in human-readable format. This command requires the daemon NOT to be running.");
  c->add_option("--root", f.dump_metadata.root, "path to state directory")->capture_default_str();
  c = debug->add_subcommand("workers", "list workers");
  add_list(c, "-f,--filter", f.workers.filters, "containerd-style filter string slice");
  c->add_flag("-v,--verbose", f.workers.verbose, "Verbose output");
  add_format(c, f.workers.format);
  c = debug->add_subcommand("info", "display internal information");
  add_format(c, f.info.format);
  c = debug->add_subcommand("monitor", "display build events");
  c->add_flag("--completed", f.monitor.completed, "show completed builds");
  c->add_option("--ref", f.monitor.ref, "show events for a specific build");
  c = debug->add_subcommand("logs", "display build logs");
  c->add_option("--progress", f.logs.progress, "progress output type")->capture_default_str();
  c->add_flag("--trace", f.logs.trace, "show opentelemetry trace");
  c->add_option("ref", f.logs.ref, "build ref");
  c = debug->add_subcommand("ctl", "control build records");
  c->add_flag("--pin", f.ctl.pin, "Pin build so it will not be garbage collected");
  c->add_flag("--unpin", f.ctl.unpin, "Unpin build so it will be garbage collected");
  c->add_flag("--delete", f.ctl.remove, "Delete build record");
  c->add_option("ref", f.ctl.ref, "build ref");
  c = debug->add_subcommand("get", "retrieve a blob from contentstore");
  c->add_option("digest", f.get.digest, "blob digest");
  c = debug->add_subcommand("histories", "list build records");
  add_format(c, f.histories.format);

  auto* cluster =
      app.add_subcommand("cluster", "the nodes of the daemon's cluster: who they are and how they are");
  add_format(cluster, f.cluster_list.format);
  c = cluster->add_subcommand("drain", "let a node take no new work, finish what it has, and leave");
  c->add_option("node", f.cluster_drain.node, "name of the node")->required();
  c->add_flag("--wait", f.cluster_drain.wait, "return when the node has left, not at once");
  c = cluster->add_subcommand("certs",
                              "make a CA, if there is none, and a certificate for each node. This command "
                              "does not require the daemon to be running.");
  c->add_option("directory", f.cluster_certs.directory,
                "where to: ca.pem, ca.key, and NODE.pem, NODE.key for each node")
      ->required();
  c->add_option("nodes", f.cluster_certs.nodes,
                "names of nodes, each with the hosts it is reached by if these are others: name=host,host")
      ->required();
  app.add_subcommand("dial-stdio",
                     "Proxy the stdio stream to the daemon connection. Should not be invoked manually.")
      ->group("");

  std::function<void(CLI::App*)> inherit = [&](CLI::App* where) {
    for (auto* sub : where->get_subcommands({})) {
      sub->fallthrough();
      inherit(sub);
    }
  };
  inherit(&app);
}

}  // namespace

std::vector<flag_text> flag_texts() {
  CLI::App app;
  all_flags flags;
  app.set_help_flag();
  add_commands(app, flags);
  std::vector<flag_text> out;
  std::function<void(const CLI::App&, const std::string&)> walk = [&](const CLI::App& where,
                                                                      const std::string& command) {
    for (const auto* option : where.get_options({})) {
      auto name = option->get_positional() ? option->get_name() : option->get_name(false, true);
      if (name == "--help" || name == "-h,--help") continue;
      auto form = option->get_expected_max() == 0        ? ""
                  : option->get_items_expected_max() > 1 ? "texts"
                                                         : "text";
      out.push_back({command, name, form, option->get_default_str(), option->get_description()});
    }
    for (const auto* sub : where.get_subcommands({}))
      walk(*sub, command + (command.empty() ? "" : " ") + sub->get_name());
  };
  walk(app, "");
  return out;
}

result<command_line> parse_command_line(const std::string& program,
                                        const std::vector<std::string>& arguments) {
  command_line line;
  all_flags f;
  auto& g = f.global;
  CLI::App app("build utility", program);
  app.set_help_flag("-h,--help", "show help");
  auto version = configs::version_line(program);
  app.set_version_flag("-v,--version", version);
  app.require_subcommand(1);
  app.fallthrough();
  add_commands(app, f);

  auto widened = widen_single_dashes(app, arguments);
  try {
    std::vector<std::string> reversed(widened.rbegin(), widened.rend());
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    line.command = print_flags{app.help()};
    return line;
  } catch (const CLI::CallForAllHelp&) {
    line.command = print_flags{app.help("", CLI::AppFormatMode::All)};
    return line;
  } catch (const CLI::CallForVersion&) {
    line.command = print_flags{version + "\n"};
    return line;
  } catch (const CLI::ParseError& e) {
    if (arguments.empty()) {
      line.command = print_flags{app.help()};
      return line;
    }
    return make_error(errc::invalid_argument, explain(app, program, arguments, e));
  }
  if (g.log_format != "text" && g.log_format != "json" && !g.log_format.empty())
    return make_error(errc::invalid_argument,
                      fmt::format("--log-format: unsupported log type \"{}\"", g.log_format));
  if (g.address.empty())
    for (const char* name : {"BUILDKIT_HOST", "KILN_HOST"})
      if (const char* value = std::getenv(name); value && *value && g.address.empty()) g.address = value;

  if (!f.keep_duration.empty()) {
    auto duration = parse_duration(f.keep_duration);
    if (!duration.ok()) return std::move(duration).error().with_context("--keep-duration");
    f.prune.keep_duration_ns = *duration;
  }
  line.global = f.global;
  const auto* debug = app.get_subcommand("debug");
  const auto* cluster = app.get_subcommand("cluster");
  auto chosen = [&](const char* name) { return app.got_subcommand(name); };
  auto debugging = [&](const char* name) { return debug->got_subcommand(name); };
  if (chosen("build")) line.command = f.build;
  else if (chosen("du")) line.command = f.du;
  else if (chosen("prune")) line.command = f.prune;
  else if (chosen("prune-histories")) line.command = f.prune_histories;
  else if (chosen("cluster") && cluster->got_subcommand("drain")) line.command = f.cluster_drain;
  else if (chosen("cluster") && cluster->got_subcommand("certs")) line.command = f.cluster_certs;
  else if (chosen("cluster")) line.command = f.cluster_list;
  else if (chosen("dial-stdio")) line.command = dial_stdio_flags{};
  else if (debugging("workers")) line.command = f.workers;
  else if (debugging("info")) line.command = f.info;
  else if (debugging("histories")) line.command = f.histories;
  else if (debugging("logs")) line.command = f.logs;
  else if (debugging("monitor")) line.command = f.monitor;
  else if (debugging("get")) line.command = f.get;
  else if (debugging("ctl")) line.command = f.ctl;
  else if (debugging("dump-llb")) line.command = f.dump_llb;
  else line.command = f.dump_metadata;
  return line;
}

}  // namespace kiln::client
