#include "workers/sources/local.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>

#include <spdlog/spdlog.h>

#include "base/json_text.hpp"
#include "base/numbers.hpp"
#include "base/pattern.hpp"
#include "base/quoting.hpp"
#include "configs/executor.hpp"
#include "configs/filesync.hpp"
#include "configs/store.hpp"
#include "messages/text_list.hpp"
#include "messages/told_code.hpp"
#include "store/files/confinement.hpp"
#include "filesync/receiver.hpp"
#include "store/files/same_tree.hpp"
#include "workers/sources/header_values.hpp"

namespace kiln::workers {

namespace {

using nlohmann::json;

constexpr const char* diff_copy = "/moby.filesync.v1.FileSync/DiffCopy";
constexpr std::string_view scheme = "local://";
// How often a transfer tells of its progress, and how long a session that was named may take to come.
constexpr std::chrono::milliseconds progress_interval{100};
constexpr std::chrono::milliseconds session_wait{5000};

/// What one local source op asks for.
struct local_identifier {
  std::string name;
  std::string session;
  std::vector<std::string> include, exclude, follow;
  bool has_include = false, has_exclude = false,
       has_follow = false;  // an empty list is not an absent one in keys
  std::string shared_key_hint;
  filesync::differ differ = filesync::differ::metadata;
  bool metadata_only = false;
  std::vector<std::string> metadata_exceptions;
};

result<std::vector<std::string>> string_list(const pb::SourceOp& op, const std::string& key,
                                             const std::string& text) {
  if (auto exact = op.attrs().find(bytes_key(key)); exact != op.attrs().end())
    return parse_list_bytes(exact->second);
  auto read = parse_json(text);
  if (!read.ok()) return std::move(read).error().with_context("invalid " + key);
  const auto& parsed = *read;
  if (parsed.is_null()) return std::vector<std::string>{};
  if (!parsed.is_array())
    return make_error(errc::invalid_argument, "invalid " + key + ": not a JSON list: " + text);
  std::vector<std::string> out;
  for (const auto& item : parsed) {
    if (!item.is_string())
      return make_error(errc::invalid_argument, "invalid " + key + ": not a list of strings");
    out.push_back(text_value(item));
  }
  return out;
}

result<bool> go_bool(const std::string& key, const std::string& text) {
  if (auto parsed = parse_bool(text)) return *parsed;
  return make_error(errc::invalid_argument, "invalid value for " + key + " \"" + text + "\"");
}

result<local_identifier> parse_identifier(const pb::SourceOp& op) {
  if (!op.identifier().starts_with(scheme)) {
    return make_error(errc::invalid_argument, "invalid local source \"" + op.identifier() + "\"");
  }
  local_identifier id;
  id.name = op.identifier().substr(scheme.size());
  for (const auto& [key, value] : op.attrs()) {
    if (key == "local.session") {
      std::size_t colon = value.find(':');
      id.session = colon == std::string::npos ? value : value.substr(colon + 1);
      if (colon != std::string::npos) id.name = value.substr(0, colon) + "-" + id.name;
    } else if (key == "local.includepattern") {
      KILN_TRY(id.include, string_list(op, key, value));
      id.has_include = value != "null";
    } else if (key == "local.excludepatterns") {
      KILN_TRY(id.exclude, string_list(op, key, value));
      id.has_exclude = value != "null";
    } else if (key == "local.followpaths") {
      KILN_TRY(id.follow, string_list(op, key, value));
      id.has_follow = value != "null";
    } else if (key == "local.sharedkeyhint") {
      id.shared_key_hint = value;
    } else if (key == "local.differ") {
      if (value == "none") id.differ = filesync::differ::none;
      else if (value != "metadata" && !value.empty())
        return make_error(errc::invalid_argument,
                          "invalid local.differ \"" + value + "\": expected none or metadata");
    } else if (key == "local.metadatatransfer") {
      KILN_TRY(id.metadata_only, go_bool(key, value));
    } else if (key == "local.metadatatransferexclude") {
      KILN_TRY(id.metadata_exceptions, string_list(op, key, value));
    }
  }
  return id;
}

// As Go marshals []string, where nil is null; only to be hashed.
std::string json_list(const std::vector<std::string>& list, bool present) {
  if (!present) return "null";
  std::string out = "[";
  for (const auto& item : list) out += (out.size() > 1 ? "," : "") + exact_json_string(item);
  return out + "]";
}

digest identity_of(const local_identifier& id, const std::string& session) {
  std::string text = "{\"SessionID\":" + go_json_string(session) +
                     ",\"IncludePatterns\":" + json_list(id.include, id.has_include) +
                     ",\"ExcludePatterns\":" + json_list(id.exclude, id.has_exclude) +
                     ",\"FollowPaths\":" + json_list(id.follow, id.has_follow);
  if (id.metadata_only) text += ",\"MetadataTransfer\":true";
  if (!id.metadata_exceptions.empty())
    text += ",\"MetadataExceptions\":" + json_list(id.metadata_exceptions, true);
  return sha256(text + "}");
}

/// The client does not share that directory (or no directories): another session may.
bool invalid_session(const error& e) {
  return e.code == errc::not_found || e.code == errc::unimplemented || e.code == errc::unavailable ||
         e.message.find("no access allowed to dir") != std::string::npos;
}

/// A transfer that was only cut off: what came is the beginning of the next one. Any other leaves nothing.
bool can_be_gone_on_with(const error& e) {
  return e.code == errc::cancelled || e.code == errc::unavailable || e.code == errc::deadline_exceeded;
}

class local_source final : public source_handler {
 public:
  explicit local_source(worker_resources& resources)
      : refs_(*resources.refs),
        copies_(refs_.values(), "local-copies", store::limits::remembered_values,
                [this](std::string_view id) { return refs_.has(id); }) {}

  std::vector<std::string> schemes() const override { return {"local"}; }

  result<moby::buildkit::v1::frontend::ResolveSourceMetaResponse> resolve_meta(
      const moby::buildkit::v1::frontend::ResolveSourceMetaRequest& request,
      const std::shared_ptr<resolutions>&, const job_context&) override {
    // There is nothing to tell of it but which one it is, once policies have seen it.
    moby::buildkit::v1::frontend::ResolveSourceMetaResponse out;
    *out.mutable_source() = request.source();
    return out;
  }

  result<solver::cache_map> cache_map(const op_request& request, int, const job_context& job) override {
    KILN_TRY(auto id, parse_identifier(request.op.source()));
    std::string session = id.session;
    if (session.empty()) {
      if (job.sessions.ids.empty()) {
        return make_error(errc::failed_precondition, "could not access local files without session");
      }
      session = job.sessions.ids.front();
    }
    auto map = solver::source_cache_map("session:" + id.name + ":" + identity_of(id, session).str());
    map.origin = id.name;
    return map;
  }

  result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref>,
                                      const job_context& job) override {
    KILN_TRY(auto id, parse_identifier(request.op.source()));
    if (job.directory == nullptr) return make_error(errc::failed_precondition, "no active sessions");
    if (!id.session.empty()) {
      auto caller = job.directory->find(id.session, session_wait, job.stop);
      if (caller) {
        auto ref = transfer(id, **caller, job);
        if (ref || !invalid_session(ref.error()) || job.sessions.ids.empty()) return one(std::move(ref));
      }
      KILN_CHECK(job.check());
    }
    result<store::ref> ref = store::ref{};
    KILN_CHECK(
        with_any_session(*job.directory, job.sessions, job.stop, [&](session_caller& caller) -> status {
          ref = transfer(id, caller, job);
          if (!ref) return ref.error();
          return {};
        }));
    return one(std::move(ref));
  }

 private:
  static result<std::vector<store::ref>> one(result<store::ref> r) {
    if (!r) return std::move(r).error();
    return std::vector<store::ref>{*std::move(r)};
  }

  // The snapshot of a directory is one at a time's: two builds of the same context take turns.
  result<store::mutable_ref> acquire(std::string& name, const local_identifier& id, const job_context& job) {
    const std::string wanted = name;
    store::record_options options;
    options.description = "local source for " + id.name;
    options.type = store::record_type::source_local;
    for (int copy = 0;; ++copy) {
      KILN_CHECK(job.check());
      // Rather a second copy than waiting for somebody else's transfer, as BuildKit does.
      if (copy > 0) name = wanted + "#" + std::to_string(copy);
      auto taken = refs_.acquire_named(name, {}, options, job);
      if (taken || taken.error().code != errc::failed_precondition || copy == 100) return taken;
    }
  }

  result<store::ref> transfer(const local_identifier& id, session_caller& caller, const job_context& job) {
    if (!caller.supports(diff_copy)) return make_error(errc::unimplemented, "no local sources enabled");
    auto received = receive(id, caller, job);
    // What the client says of its own files is told as it said it.
    if (!received.ok()) return told_as(received.error().code, std::move(received).error());
    return received;
  }

  result<store::ref> receive(const local_identifier& id, session_caller& caller, const job_context& job) {
    std::string key = id.name + ":" + id.shared_key_hint + ":" + caller.shared_key() +
                      (id.metadata_only ? ":metadata" : "");
    std::string name = "local:" + key;
    KILN_TRY(auto snapshot, acquire(name, id, job));
    KILN_TRY(auto specs, refs_.files().mounts(snapshot));
    KILN_TRY(auto mounted, store::mounted::make(refs_, specs));
    KILN_TRY(auto root, store::open_confined(mounted.path()));

    call_metadata metadata;
    if (id.has_include) add_header(metadata, "include-patterns", id.include);
    if (id.has_exclude) add_header(metadata, "exclude-patterns", id.exclude);
    if (id.has_follow) add_header(metadata, "followpaths", id.follow);
    add_header(metadata, "dir-name", {id.name});

    std::stop_source cancel;
    std::stop_callback on_stop(job.stop, [&cancel] { cancel.request_stop(); });
    KILN_TRY(auto stream, caller.open(diff_copy, metadata, cancel.get_token()));

    filesync::receive_options options;
    options.differ = id.differ;
    options.cancel = [&cancel] { cancel.request_stop(); };
    pattern_list exceptions;
    if (id.metadata_only) {
      KILN_TRY(exceptions, pattern_list::compile(id.metadata_exceptions));
      options.metadata_only_except = [&exceptions](const filesync::file_stat& s) {
        return !exceptions.empty() && exceptions.matches(s.path());
      };
    }
    std::string label = "transferring " + id.name + ":";
    auto told = std::chrono::steady_clock::now() - progress_interval;
    options.progress = [&](std::int64_t bytes, bool last) {
      auto now = std::chrono::steady_clock::now();
      if (!last && now - told < progress_interval) return;
      told = now;
      job.progress->progress(label, bytes, 0, last);
    };
    status received = filesync::receive(*stream, root.get(), options);
    if (received) {
      stream->writes_done();
      received = stream->finish();
    }
    stream.reset();
    root.reset();
    auto before = received ? unchanged(name, mounted.path(), job) : store::ref{};
    KILN_CHECK(mounted.unmount());
    if (!received) {
      if (!can_be_gone_on_with(received.error()))
        if (auto gone = refs_.discard(std::move(snapshot)); !gone)
          spdlog::warn("local source: {}", gone.error().message);
      KILN_CHECK(job.check());
      return std::move(received).error();
    }
    store::record_options copy;
    copy.description = "local source for " + id.name;
    copy.type = store::record_type::source_local;
    if (before) return before;
    KILN_TRY(auto made, refs_.commit_copy(snapshot, copy, job));
    if (auto s = copies_.set(name, made.id()); !s) spdlog::warn("local source: {}", s.error().message);
    return made;
  }

  /// The copy an earlier build made, if the directory has not changed since; whoever holds the name asks.
  store::ref unchanged(const std::string& name, const std::filesystem::path& now, const job_context& job) {
    auto id = copies_.get(name);
    if (!id) return {};
    auto last = refs_.get(*id);
    if (!last) return {};
    auto specs = refs_.files().mounts(*last, job);
    if (!specs) return {};
    auto mounted = store::mounted::make(refs_, *specs);
    if (!mounted) return {};
    auto same = store::same_tree(now, mounted->path(), job);
    return same && *same ? *std::move(last) : store::ref{};
  }

  store::ref_store& refs_;
  store::remembered_values copies_;  // by name of the snapshot: its last copy's id
};

}  // namespace

std::shared_ptr<source_handler> make_local_source(worker_resources& resources) {
  return std::make_shared<local_source>(resources);
}

}  // namespace kiln::workers
