// The conversion itself: stages are found, connected, resolved and walked. Private to this folder.
// One thread; base images are resolved in several.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/pattern.hpp"
#include "frontends/dockerfile/convert.hpp"
#include "frontends/dockerfile/shell_words.hpp"
#include "frontends/dockerfile/stage_state.hpp"

namespace kiln::dockerfile {

/// `expand` copied for one COPY or ADD.
struct copy_request {
  const sources_and_dest* places = nullptr;
  const instruction_base* base = nullptr;
  std::vector<std::string> excludes;
  llb::state source;
  bool is_add = false;
  std::string chown, chmod, checksum;
  bool link = false, parents = false;
  std::optional<bool> keep_git_dir, unpack;
  const pattern_list* ignored = nullptr;
};

class converter {
 public:
  explicit converter(const convert_request& request, bool all_stages = false);

  /// Does everything; the target stage stays owned by the converter.
  result<stage_state*> run();
  result<conversion> finish(stage_state& target);
  outline outline_for(stage_state& target) const;

 private:
  // stages.cpp
  status build_stages(const std::vector<stage>& stages);
  result<bool> prepare_stage(const stage& definition, std::size_t index);
  result<std::optional<kiln::platform>> stage_platform(const stage& s, const lint& checks,
                                                       std::set<std::string>& used);
  void add_stage(stage_state* s);
  stage_state* find_stage(const std::string& name) const;
  std::vector<std::string> stage_names() const;
  result<stage_state*> find_target();
  status connect_stages();
  result<step> make_step(instruction what);
  stage_state* external_stage(const std::string& base_name, const line_ranges& where);
  status refuse_cycles() const;
  void inherit(stage_state& s);
  result<std::set<stage_state*>> resolve_stages(stage_state* target);
  result<bool> add_triggers(stage_state& s, const std::vector<std::string>& triggers);
  bool is_context_replaceable(const std::string& name) const;

  // base_images.cpp
  status resolve_bases(const std::set<stage_state*>& reachable);
  struct pending_base;
  status begin_base(stage_state& s, bool reachable, pending_base& out);
  void load_base(pending_base& base);
  status finish_base(pending_base& base);
  void use_image(stage_state& s, const std::string& original_name, const kiln::platform& platform,
                 bool is_scratch, bool reachable);
  kiln::platform detect_platform(const image_config& image, const kiln::platform& target) const;

  // convert.cpp
  status dispatch_stages(const std::set<stage_state*>& reachable);
  status begin_stage(stage_state& s);
  void read_scan_settings(stage_state& s);
  status finish_image(stage_state& target);

  // steps.cpp
  status dispatch(stage_state& s, step& command);
  status env(stage_state& s, const env_instruction& i, const lint& checks);
  status label(stage_state& s, const label_instruction& i, const lint& checks);
  status arg(stage_state& s, const arg_instruction& i, const lint& checks);
  status workdir(stage_state& s, const workdir_instruction& i, const lint& checks);
  status set_workdir(stage_state& s, const std::string& path);
  status volume(stage_state& s, const volume_instruction& i);
  status stop_signal(stage_state& s, const stopsignal_instruction& i);
  void shell_form(stage_state& s, const instruction_base& i, const command_line& line,
                  std::vector<std::string>& args, const lint& checks);
  void once(const instruction_base& i, last_use& seen, const lint& checks);
  void report_unmatched(const stage_state& s, const instruction_base& i, const environment& env,
                        const std::set<std::string>& unmatched, const lint& checks) const;
  void secret_key(const std::string& keyword, const std::string& key, const line_ranges& where,
                  const lint& checks);
  void commit(stage_state& s, std::string message, bool layer, bool changes_files);

  // run_step.cpp
  status run_command(stage_state& s, const run_instruction& i, const std::vector<stage_state*>& sources);
  result<std::vector<std::string>> run_arguments(stage_state& s, const run_instruction& i,
                                                 llb::exec_spec& spec, std::string& label);
  status run_mounts(stage_state& s, const run_instruction& i, const std::vector<stage_state*>& sources,
                    llb::exec_spec& spec);
  status add_secret(stage_state& s, const run_mount& m, const run_instruction& i, llb::exec_spec& spec);
  status add_ssh(stage_state& s, const run_mount& m, const run_instruction& i, llb::exec_spec& spec);
  llb::output cache_directory(const run_mount& m, llb::output base);

  // copy_step.cpp
  status copy(stage_state& s, const copy_request& request);
  struct copy_options;
  status git_source(stage_state& s, const copy_request& r, const std::string& text, copy_options& options);
  status http_source(stage_state& s, const copy_request& r, const std::string& url, copy_options& options);
  status file_source(stage_state& s, const copy_request& r, const std::string& path, copy_options& options);
  void check_ignored(const copy_request& r, const std::string& path, const lint& checks) const;

  // expose.cpp
  status expose(stage_state& s, const expose_instruction& i, const lint& checks);

  // epoch.cpp
  result<std::optional<std::int64_t>> resolve_epoch(const std::string& value,
                                                    const std::vector<stage>& stages);
  result<llb::output> epoch_source(const std::string& value, const std::vector<stage>& stages,
                                   std::string& log_name);
  result<llb::output> epoch_stage(const stage& s);
  result<llb::output> epoch_add(const add_instruction& i, const llb::env_list& env);
  result<std::optional<std::int64_t>> epoch_of(llb::output source, const std::string& log_name);

  // labels.cpp
  std::string prefix(stage_state& s, const std::string& text, const std::optional<kiln::platform>& platform,
                     const environment& env) const;
  std::string expanded_label(const shell_words& words, const std::string& text, const environment& env) const;
  std::vector<std::string> with_shell(const stage_state& s, const std::vector<std::string>& args) const;
  std::string run_history(const std::vector<std::string>& args, const stage_state& s,
                          const llb::env_list& env) const;
  std::vector<llb::source_location> locations(const line_ranges& where) const;

  // arguments.cpp
  llb::env_list default_args() const;
  result<llb::env_list> global_arguments(const llb::env_list& defaults,
                                         const std::vector<arg_instruction>& args,
                                         const option_map& build_args,
                                         std::map<std::string, arg_info>& all) const;
  void check_default_bases(const dockerfile& file, const llb::env_list& defaults) const;
  std::vector<std::string> known_from_args() const;
  void report_undefined_from(const std::set<std::string>& unmatched, const line_ranges& where,
                             const lint& checks) const;

  const convert_request& request_;
  build_sources& sources_;
  const build_options& options_;
  llb::graph& graph_;
  bool all_stages_;

  lint checks_;
  lint step_checks_;  // of the instruction at hand
  shell_words words_;
  option_map build_args_;
  std::vector<kiln::platform> build_platforms_;
  kiln::platform target_platform_;
  bool implicit_target_;
  llb::env_list global_args_;
  usage global_usage_;
  std::optional<std::int64_t> epoch_;
  std::optional<pb::ProxyEnv> proxy_;

  std::deque<std::unique_ptr<stage_state>> owned_;
  std::vector<stage_state*> stages_;
  std::map<std::string, stage_state*> by_name_;
  finishers finishers_;
  llb::deferred_vertex* context_ = nullptr;
  pattern_list ignored_;
  bool has_ignored_ = false;
  std::size_t environment_size_ = 0;  // bytes, of all commands so far
};

// labels.cpp
std::string uppercase_keyword(const std::string& text);
std::string format_short(const kiln::platform& p);
/// The first line of a heredoc, with dots if there are more.
std::string heredoc_summary(std::string_view content);

// paths.cpp
/// Absolute path for the system `os`, relative ones below `parent`. Source: util/system/path.go
/// NormalizePath.
result<std::string> normalize_path(const std::string& parent, const std::string& path, const std::string& os,
                                   bool keep_slash);
bool is_absolute(const std::string& path, const std::string& os);
result<std::string> without_drive(const std::string& path, const std::string& os, bool keep_slash);
std::string to_slash(std::string path, const std::string& os);

// checks.cpp
void check_stage_names(const std::vector<stage>& stages, const lint& checks);
void check_casing(const std::vector<stage>& stages, const lint& checks);
bool is_secret_name(const std::string& key);

// copy_step.cpp
/// A checksum of a URL: "<algorithm>:<hex>". Errors as Go's digest package words them.
status check_digest(const std::string& text);
bool is_http_source(const std::string& text);
/// Octal or symbolic mode, as chmod(1) reads it.
status check_chmod(const std::string& text, std::optional<std::uint32_t>& octal);

}  // namespace kiln::dockerfile
