// Where a build's files come from: the Dockerfile, the main context, .dockerignore, named contexts, and image
// configurations. Asks the host; remembers answers. Thread-safe: the platforms of one build share it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "frontends/dockerfile/image_config.hpp"
#include "frontends/dockerfile/options.hpp"
#include "frontends/frontend.hpp"
#include "frontends/llb/ops.hpp"
#include "frontends/llb/state.hpp"

namespace kiln::dockerfile {

/// A context as the base of a stage or the source of a copy.
struct loaded_context {
  llb::state state;
  std::optional<image_config> image;
  std::string raw_image;
};

/// Work to do when all stages are known, before marshalling.
using finishers = std::vector<std::function<void()>>;

struct context_request {
  std::optional<kiln::platform> platform;
  /// The paths used, asked when all stages are known. Null: everything.
  std::function<std::vector<std::string>()> follow_paths;
  finishers* finish = nullptr;
};

/// A named context that the client gave: where it points, not yet loaded.
struct named_context {
  std::string specifier;           // "docker-image://busybox"
  std::string name;                // normalized
  std::string name_with_platform;  // as found among the options
};

struct resolved_image {
  std::string reference;
  std::string digest;
  std::string config;
};

class build_sources {
 public:
  build_sources(frontends::frontend_host& host, const build_options& options,
                const std::map<std::string, pb::Definition>& inputs, llb::graph& graph)
      : host_(host), options_(options), inputs_(inputs), graph_(graph) {}

  /// Loads the Dockerfile. Source: dockerui/config.go ReadEntrypoint.
  result<std::shared_ptr<const llb::source_map>> read_dockerfile();

  /// The main context, restricted to `follow_paths` if it is local and there are any.
  result<llb::output> main_context(const std::vector<std::string>& follow_paths);

  /// The patterns of .dockerignore; none when the context is not local.
  result<std::vector<std::string>> ignore_patterns();

  /// The named context that replaces `name`, looking for one of the platform first.
  /// Source: dockerui/config.go NamedContext.
  result<std::optional<named_context>> find_context(const std::string& name,
                                                    const std::optional<kiln::platform>& platform) const;
  result<loaded_context> load_context(const named_context& context, const context_request& request);

  /// Resolves once for equal questions, whoever asks.
  result<resolved_image> resolve_image(const std::string& reference,
                                       const std::optional<kiln::platform>& platform,
                                       const std::string& log_name);

  /// Solves and returns the ref's id ("" for scratch).
  result<std::string> solve(const pb::Definition& definition, bool evaluate = false);
  result<pb::Definition> marshal(const llb::output& out) const;
  result<std::string> read_file(const std::string& ref, const std::string& path, std::int64_t length = 0);

  frontends::frontend_host& host() { return host_; }
  const build_options& options() const { return options_; }
  llb::graph& graph() { return graph_; }
  kiln::platform default_platform() const;

 private:
  struct main_sources {
    std::optional<llb::output> context;     // set unless local
    std::optional<llb::output> dockerfile;  // set unless local
    std::string context_name = "context";
    std::string dockerfile_name = "dockerfile";
    std::string filename = "Dockerfile";
    bool force_local_dockerfile = false;
  };
  result<main_sources> init();
  result<const main_sources*> main();
  status init_git(main_sources& out, const std::string& context, bool& found);
  status init_http(main_sources& out, const std::string& url);
  status init_inputs(main_sources& out);
  std::string session_for(const std::string& local_name) const;
  result<std::vector<std::string>> patterns_locked(const main_sources& m);
  result<loaded_context> load_image(const named_context& c, const std::string& ref, const context_request& r);
  result<loaded_context> load_oci_layout(const named_context& c, const std::string& ref,
                                         const context_request& r);
  result<loaded_context> load_local(const named_context& c, const std::string& name,
                                    const context_request& r);
  result<loaded_context> load_input(const named_context& c, const std::string& name);
  result<llb::output> git_output(const std::string& text, bool main);
  result<moby::buildkit::v1::frontend::ResolveImageConfigResponse> ask_image(
      const moby::buildkit::v1::frontend::ResolveImageConfigRequest& request);

  frontends::frontend_host& host_;
  const build_options& options_;
  const std::map<std::string, pb::Definition>& inputs_;
  llb::graph& graph_;

  std::mutex mutex_;
  std::optional<main_sources> main_;
  std::optional<std::string> dockerignore_;
  std::string dockerignore_name_;

  struct pending_image {
    std::once_flag once;
    std::optional<result<resolved_image>> answer;
  };
  std::mutex images_mutex_;
  std::map<std::string, std::shared_ptr<pending_image>> images_;
};

/// The patterns of an ignore file: comments, blank lines and leading slashes removed.
/// Source: moby/patternmatcher/ignorefile.
std::vector<std::string> read_ignore_file(std::string_view text);

/// Adds an image's environment, directory and platform to a state. Source: client/llb WithImageConfig.
llb::state with_image_config(llb::state state, const image_config& image);

}  // namespace kiln::dockerfile
