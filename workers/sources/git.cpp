#include "workers/sources/git.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include <spdlog/spdlog.h>

#include "base/base64.hpp"
#include "base/files.hpp"
#include "base/text.hpp"
#include "base/url.hpp"
#include "configs/store.hpp"
#include "distribution/hosts.hpp"
#include "distribution/transport.hpp"
#include "secrets.pb.h"
#include "store/files/turns.hpp"
#include "workers/sources/git_command.hpp"
#include "workers/sources/git_leftovers.hpp"
#include "workers/sources/git_reference.hpp"
#include "workers/sources/resolutions.hpp"
#include "workers/sources/signatures.hpp"

namespace kiln::workers {

namespace fs = std::filesystem;
namespace gw = moby::buildkit::v1::frontend;

namespace {

constexpr int redirects_max = 10;
constexpr std::chrono::milliseconds secret_timeout{60'000};

struct commit_info {
  std::string ref;     // full name, or the commit itself
  std::string sha;     // what the ref names: a commit or an annotated tag
  std::string commit;  // the commit behind an annotated tag; else empty
};

/// A directory that goes away with its holder, and with the next start if the daemon is killed.
struct temporary_directory {
  std::string path;
  ~temporary_directory() {
    if (path.empty()) return;
    if (auto gone = remove_tree(path); !gone) spdlog::warn("git: {}", gone.error().message);
  }
};

/// A mutable snapshot and where it is mounted.
struct workspace {
  store::mutable_ref ref;
  store::mounted mount;
};

/// Every directory on the way must be one: a symlink could lead out of the checkout.
status check_directories_only(const fs::path& root, const std::string& subdir) {
  fs::path at = root;
  for (const auto& part : fs::path(subdir)) {
    at /= part;
    struct stat info;
    if (lstat(at.c_str(), &info) != 0) return errno_error(errno, "subdir " + subdir);
    if (!S_ISDIR(info.st_mode))
      return make_error(errc::invalid_argument, "subdir not a directory: " + subdir);
  }
  return {};
}

void set_all_times(const fs::path& root, std::int64_t seconds) {
  timespec times[2] = {{seconds, 0}, {seconds, 0}};
  for (const auto& entry : fs::recursive_directory_iterator(root))
    utimensat(AT_FDCWD, entry.path().c_str(), times, AT_SYMLINK_NOFOLLOW);
  utimensat(AT_FDCWD, root.c_str(), times, 0);
}

class git_source final : public source_handler {
 public:
  explicit git_source(store::ref_store& refs)
      : refs_(refs),
        checkouts_(refs.values(), "git-snapshots", store::limits::remembered_values,
                   [&refs](std::string_view id) { return refs.has(id); }) {}

  std::vector<std::string> schemes() const override { return {"git"}; }

  result<solver::cache_map> cache_map(const op_request& request, int, const job_context& job) override {
    KILN_TRY(auto r, parse_git_source(request.op.source()));
    KILN_TRY(auto info, resolve(r, request.build.get(), job));
    gw::ResolveSourceGitResponse objects;
    if (r.signature) KILN_CHECK(look_at_objects(r, info, objects, job));
    auto map = solver::source_cache_map(key_of(r, info));
    map.origin = r.remote + (r.ref.empty() ? "" : "#" + r.ref);
    map.pin = info.sha;
    return map;
  }

  result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref>,
                                      const job_context& job) override {
    KILN_TRY(auto r, parse_git_source(request.op.source()));
    KILN_TRY(auto info, resolve(r, request.build.get(), job));
    auto snapshot_key = key_of(r, info) + ":" + r.subdir;
    if (auto id = checkouts_.get(snapshot_key))
      if (auto kept = refs_.get(*id); kept.ok()) return std::vector{*std::move(kept)};

    KILN_TRY(auto done, with_repository(r, info, job, [&](git_command& git) -> result<store::ref> {
               KILN_CHECK(fetch(git, r, info, job));
               return checkout(git, r, info, job);
             }));
    KILN_CHECK(checkouts_.set(snapshot_key, done.id()));
    return std::vector{std::move(done)};
  }

  result<gw::ResolveSourceMetaResponse> resolve_meta(const gw::ResolveSourceMetaRequest& request,
                                                     const std::shared_ptr<resolutions>& build,
                                                     const job_context& job) override {
    KILN_TRY(auto r, parse_git_source(request.source()));
    KILN_TRY(auto info, resolve(r, build.get(), job));
    gw::ResolveSourceMetaResponse response;
    *response.mutable_source() = request.source();
    auto& out = *response.mutable_git();
    if (request.git().returnobject() || r.signature) KILN_CHECK(look_at_objects(r, info, out, job));
    if (!request.git().returnobject()) {
      out.clear_tagobject();
      out.clear_commitobject();
    }
    out.set_ref(info.ref);
    out.set_checksum(info.sha);
    out.set_commitchecksum(info.commit);
    return response;
  }

 private:
  static std::string key_of(const git_reference& r, const commit_info& info) {
    auto& sha = !info.commit.empty() && !r.keep_git_dir ? info.commit : info.sha;
    return r.cache_key(sha, info.ref);
  }

  // -- resolving -----------------------------------------------------------------------------------

  /// What the ref leads to in this build.
  result<commit_info> resolve(const git_reference& r, resolutions* build, const job_context& job) {
    KILN_CHECK(job.check());
    auto mismatch = [&](const std::string& got) {
      return make_error(errc::failed_precondition,
                        "expected checksum to match " + r.checksum + ", got " + got);
    };
    if (is_commit_sha(r.ref)) {
      if (!r.checksum.empty() && !r.ref.starts_with(r.checksum)) return mismatch(r.ref);
      return commit_info{r.ref, r.ref, ""};
    }
    if (r.fetch_by_commit) {
      auto ref = r.ref.empty() ? r.checksum : r.ref.starts_with("refs/") ? r.ref : "refs/heads/" + r.ref;
      return commit_info{ref, r.checksum, ""};
    }
    KILN_TRY(auto info, resolve_once<commit_info>(build, "git " + r.remote + "#" + r.ref, job.stop,
                                                  [&] { return ask_remote(r, job); }));
    if (!r.checksum.empty() && !info.sha.starts_with(r.checksum) && !info.commit.starts_with(r.checksum))
      return mismatch(info.commit.empty() ? info.sha : info.sha + " or " + info.commit);
    if (r.keep_git_dir) info.commit.clear();
    return info;
  }

  result<commit_info> ask_remote(const git_reference& r, const job_context& job) {
    git_command git;
    temporary_directory known_hosts;
    KILN_CHECK(authorize(git, r, known_hosts, job));
    auto ref = r.ref;
    if (ref.empty()) {
      KILN_TRY(ref, default_branch(git, r, job));
    }
    auto listed = git.run({"ls-remote", "--", git.remote, ref, ref + "^{}"}, job.stop);
    if (!listed.ok())
      return std::move(listed).error().with_context("failed to fetch remote " + redact_credentials(r.remote));
    return pick(*listed, ref);
  }

  /// Branches win over tags, exact names over both, as git checkout does.
  static result<commit_info> pick(const std::string& listing, const std::string& ref) {
    auto below = [&](const std::string& prefix) { return ref.starts_with(prefix) ? ref : prefix + ref; };
    auto exact = below("refs/");
    auto head = below("refs/heads/");
    auto tag = below("refs/tags/");
    std::map<std::string, std::string> found;
    std::size_t start = 0;
    while (start < listing.size()) {
      auto end = listing.find('\n', start);
      auto line = listing.substr(start, end == std::string::npos ? end : end - start);
      if (auto tab = line.find('\t'); tab != std::string::npos)
        found[line.substr(tab + 1)] = line.substr(0, tab);
      if (end == std::string::npos) break;
      start = end + 1;
    }
    commit_info info;
    for (const auto& name : {exact, head, tag}) {
      auto hit = found.find(name);
      if (hit == found.end()) continue;
      info = {name, hit->second, ""};
      break;
    }
    if (info.sha.empty())
      return make_error(errc::not_found,
                        "repository does not contain ref " + ref + ", output: \"" + listing + "\"");
    if (!is_commit_sha(info.sha))
      return make_error(errc::data_loss, "invalid commit sha \"" + info.sha + "\"");
    if (info.ref == tag)
      if (auto peeled = found.find(tag + "^{}"); peeled != found.end()) info.commit = peeled->second;
    return info;
  }

  result<std::string> default_branch(const git_command& git, const git_reference& r, const job_context& job) {
    auto listed = git.run({"ls-remote", "--symref", "--", git.remote, "HEAD"}, job.stop);
    if (!listed.ok())
      return std::move(listed).error().with_context("error fetching default branch for repository " +
                                                    redact_credentials(r.remote));
    constexpr std::string_view prefix = "ref: ";
    if (auto at = listed->find(prefix); at != std::string::npos) {
      auto end = listed->find_first_of("\t\n ", at + prefix.size());
      auto name = listed->substr(at + prefix.size(), end - at - prefix.size());
      KILN_CHECK(check_git_ref(name));
      return name;
    }
    return make_error(errc::not_found,
                      "could not find default branch for repository: " + redact_credentials(r.remote));
  }

  // -- credentials ---------------------------------------------------------------------------------

  status authorize(git_command& git, const git_reference& r, temporary_directory& known_hosts,
                   const job_context& job) {
    git.remote = r.where.str(false);
    if (!r.known_ssh_hosts.empty()) {
      KILN_TRY(auto directory, refs_.scratch().make("known-hosts"));
      known_hosts.path = directory.string();
      git.known_hosts_file = (directory / "known_hosts").string();
      KILN_TRY(auto file, open_file(git.known_hosts_file, O_WRONLY | O_CREAT | O_EXCL, 0600));
      KILN_CHECK(write_all(file.get(), r.known_ssh_hosts));
    }
    const auto& url = r.where.url;
    if (url.scheme != "https" && url.scheme != "http") return {};
    KILN_TRY(auto authorization, ask_client(r, job));
    // What is written in the URL was meant for this very URL; secrets are for the host.
    bool written = authorization.empty() && !url.user_info.empty();
    if (written) authorization = sign_in(url.user_info);
    if (authorization.empty()) return {};
    if (url.scheme == "http" && !written && !distribution::is_localhost(url.host)) {
      job.progress->warn("git credentials are not sent to " + url.origin() + ": it is not https");
      return {};
    }
    KILN_TRY(auto answers_at, followed(git.remote, authorization, job));
    if (answers_at.empty()) {
      job.progress->warn("git credentials are not sent to " + url.origin() +
                         ": it redirects to another host, which would get them too");
      return {};
    }
    git.remote = answers_at;
    git.config.emplace_back("http." + url.origin() + "/.extraheader", "Authorization: " + authorization);
    // git would send the header along to wherever its first request is redirected.
    git.config.emplace_back("http." + url.origin() + "/.followRedirects", "false");
    return {};
  }

  /// "user:password" of a URL as a header.
  static std::string sign_in(const std::string& user_info) {
    auto colon = user_info.find(':');
    auto password = colon == std::string::npos ? "" : user_info.substr(colon + 1);
    return "basic " + base64_encode(url_unescape(user_info.substr(0, colon)) + ":" + url_unescape(password));
  }

  /// What the client's secrets say for the host; empty when they say nothing: most repositories are public.
  static result<std::string> ask_client(const git_reference& r, const job_context& job) {
    if (r.auth_header_secret.empty() && r.auth_token_secret.empty()) return std::string();
    if (!job.directory || job.sessions.ids.empty()) return std::string();
    struct candidate {
      std::string name;
      bool token;
    };
    std::vector<candidate> candidates;
    for (const auto& suffix : {"." + r.where.url.authority(), std::string()}) {
      if (!r.auth_header_secret.empty()) candidates.push_back({r.auth_header_secret + suffix, false});
      if (!r.auth_token_secret.empty()) candidates.push_back({r.auth_token_secret + suffix, true});
    }
    std::string value;
    auto asked =
        with_any_session(*job.directory, job.sessions, job.stop, [&](session_caller& session) -> status {
          for (const auto& c : candidates) {
            moby::buildkit::secrets::v1::GetSecretRequest request;
            request.set_id(c.name);
            auto answer = session.call("/moby.buildkit.secrets.v1.Secrets/GetSecret",
                                       request.SerializeAsString(), {}, secret_timeout, job.stop);
            if (!answer.ok()) {
              if (answer.error().code == errc::not_found || answer.error().code == errc::unimplemented)
                continue;
              return std::move(answer).error();
            }
            moby::buildkit::secrets::v1::GetSecretResponse secret;
            if (!secret.ParseFromString(*answer)) return make_error(errc::data_loss, "malformed secret");
            value = c.token ? "basic " + base64_encode("x-access-token:" + secret.data()) : secret.data();
            return {};
          }
          return {};
        });
    if (!asked.ok() && asked.error().code == errc::cancelled) return std::move(asked).error();
    if (value.find_first_of("\r\n") != std::string::npos)
      return make_error(errc::invalid_argument, "the secret " + r.auth_header_secret + " has a line break");
    return value;
  }

  /// Where the remote answers, if it has moved within its host; empty when it is redirected to another.
  result<std::string> followed(std::string remote, const std::string& authorization, const job_context& job) {
    constexpr std::string_view listing = "/info/refs?service=git-upload-pack";
    for (int i = 0; i < redirects_max; ++i) {
      distribution::request get;
      get.url = remote + std::string(listing);
      get.headers = {"Authorization: " + authorization};
      get.follow_redirects = false;
      get.stop = job.stop;
      get.on_body = [](const distribution::response&, std::string_view) -> status { return {}; };
      auto answer = transport_.perform(get);
      if (!answer.ok() && answer.error().code == errc::cancelled) return std::move(answer).error();
      if (!answer.ok() || answer->status < 300 || answer->status >= 400)
        return remote;  // git will say what is wrong
      auto next = resolve_url(get.url, distribution::header_of(answer->headers, "location"));
      if (!next.ends_with(listing)) return remote;
      if (!same_origin(next, remote)) return std::string();
      remote = next.substr(0, next.size() - listing.size());
    }
    return make_error(errc::unknown, "too many redirects: " + redact_credentials(remote));
  }

  // -- the shared repository -------------------------------------------------------------------------

  /// Runs `use` with git on the bare repository of the remote; one job a remote at a time.
  template <class F>
  auto with_repository(const git_reference& r, const commit_info& info, const job_context& job, F use)
      -> decltype(use(std::declval<git_command&>())) {
    KILN_TRY(auto turn, remotes_.wait(repository_name(r), job.stop));
    KILN_TRY(auto repository, open_repository(r, job));
    KILN_CHECK(remove_git_leftovers(repository.mount.path()));
    git_command git;
    git.git_dir = repository.mount.path();
    temporary_directory known_hosts;
    KILN_CHECK(authorize(git, r, known_hosts, job));
    auto begin = [&]() -> status {
      for (const auto& entry : fs::directory_iterator(repository.mount.path())) fs::remove_all(entry.path());
      std::vector<std::string> init = {"-c", "init.defaultBranch=master", "init", "--bare"};
      if (info.sha.size() == 64) init.push_back("--object-format=sha256");
      KILN_CHECK(git.run(init, job.stop));
      KILN_CHECK(git.run({"remote", "add", "origin", git.remote}, job.stop));
      return {};
    };
    // One that a killed daemon had only begun has no remote yet.
    bool whole = fs::exists(repository.mount.path() / "HEAD") &&
                 git.run({"remote", "set-url", "origin", git.remote}, job.stop).ok();
    KILN_CHECK(job.check());
    if (!whole) KILN_CHECK(begin());
    auto outcome = use(git);
    if (!outcome.ok() && is_stale_repository(outcome.error().message)) {
      // A tag moved, or a branch became a directory: only a fresh repository helps.
      KILN_CHECK(begin());
      outcome = use(git);
    }
    return outcome;
  }

  static bool is_stale_repository(const std::string& text) {
    return text.find("would clobber existing tag") != std::string::npos ||
           text.find("unable to update local ref") != std::string::npos ||
           text.find("cannot lock ref") != std::string::npos;
  }

  result<workspace> open_repository(const git_reference& r, const job_context& job) {
    store::record_options options;
    options.description = "shared git repo for " + redact_credentials(r.remote);
    workspace w;
    KILN_TRY(w.ref, refs_.acquire_named("git-remote:" + repository_name(r), {}, options, job));
    KILN_TRY(auto specs, refs_.files().mounts(w.ref));
    KILN_TRY(w.mount, store::mounted::make(refs_, specs));
    return w;
  }

  /// Whoever signs in otherwise has a repository of their own. Passwords are written nowhere.
  static std::string repository_name(const git_reference& r) {
    auto plain = r.where.str(false);
    return r.remote == plain ? plain : plain + " " + sha256(r.remote).str();
  }

  /// The name under which the shared repository keeps what `info` names.
  static std::string local_ref(const commit_info& info) {
    return is_commit_sha(info.ref) ? info.ref
                                   : "refs/kiln/" + info.ref.substr(info.ref.starts_with("refs/") ? 5 : 0);
  }

  status fetch(git_command& git, const git_reference& r, const commit_info& info, const job_context& job) {
    if (git.run({"cat-file", "-e", info.sha + "^{commit}"}, job.stop).ok())
      return is_commit_sha(info.ref) ? status{} : point(git, info, job);
    auto shallow = fs::path(git.git_dir) / "shallow";
    std::vector<std::string> arguments = {"fetch"};
    if (r.fetch_by_commit) {
      arguments.insert(arguments.end(), {"--depth=1", "--no-tags", "origin", info.sha});
    } else if (is_commit_sha(info.ref)) {
      arguments.push_back("--tags");
      if (fs::exists(shallow)) arguments.push_back("--unshallow");
      arguments.insert(arguments.end(), {"origin", info.ref});
    } else {
      arguments.insert(arguments.end(), {"--depth=1", "--no-tags", "origin", "--force", "--",
                                         info.ref + ":" + local_ref(info)});
    }
    auto fetched = git.run(arguments, job.stop);
    if (!fetched.ok())
      return std::move(fetched).error().with_context("failed to fetch remote " +
                                                     redact_credentials(r.remote));
    if (!git.run({"cat-file", "-e", info.sha}, job.stop).ok()) {
      // The ref moved between resolving and fetching: ask for the very commit.
      std::vector<std::string> again = {"fetch", "--tags"};
      if (fs::exists(shallow)) again.push_back("--unshallow");
      again.insert(again.end(), {"origin", info.sha});
      if (!git.run(again, job.stop).ok() || !git.run({"cat-file", "-e", info.sha}, job.stop).ok())
        return make_error(errc::failed_precondition, "fetched ref " + info.ref +
                                                         " does not match expected commit " + info.sha +
                                                         " and commit can not be found in the repository");
    }
    return is_commit_sha(info.ref) ? status{} : point(git, info, job);
  }

  status point(git_command& git, const commit_info& info, const job_context& job) {
    auto updated = git.run({"update-ref", "--no-deref", local_ref(info), info.sha}, job.stop);
    return updated.ok() ? status{} : status{std::move(updated).error()};
  }

  /// Fetches what `info` names and reads the objects; checks the signature that is asked for.
  status look_at_objects(const git_reference& r, commit_info& info, gw::ResolveSourceGitResponse& out,
                         const job_context& job) {
    auto read = with_repository(r, info, job, [&](git_command& git) -> result<int> {
      KILN_CHECK(fetch(git, r, info, job));
      return read_objects(git, info, out, job);
    });
    if (!read.ok()) return std::move(read).error();
    return r.signature ? check_signature(*r.signature, out, job) : status{};
  }

  status check_signature(const wanted_signature& wanted, const gw::ResolveSourceGitResponse& objects,
                         const job_context& job) {
    auto check = [&](const std::string& object) -> status {
      KILN_TRY(auto scratch, refs_.scratch().make("signature"));
      return verify_git_object(object, {wanted.keys, wanted.reject_expired_keys}, scratch, job.stop);
    };
    if (!wanted.ignore_signed_tag && !objects.tagobject().empty()) {
      auto tag = check(objects.tagobject());
      if (tag.ok() || wanted.require_signed_tag) return tag;
    }
    if (wanted.require_signed_tag)
      return make_error(errc::permission_denied, "signed tag required but no signed tag found");
    return check(objects.commitobject());
  }

  static result<int> read_objects(git_command& git, commit_info& info, gw::ResolveSourceGitResponse& out,
                                  const job_context& job) {
    KILN_TRY(auto type, git.run({"cat-file", "-t", info.sha}, job.stop));
    auto commit = info.sha;
    info.commit.clear();
    if (trim(type) == "tag") {
      KILN_TRY(auto tag, git.run({"cat-file", "tag", info.sha}, job.stop));
      out.set_tagobject(tag);
      KILN_TRY(commit, git.run({"rev-parse", info.sha + "^{commit}"}, job.stop));
      commit = std::string(trim(commit));
      info.commit = commit;
    } else if (trim(type) != "commit") {
      return make_error(errc::invalid_argument,
                        "expected commit or tag object, got " + std::string(trim(type)));
    }
    KILN_TRY(auto object, git.run({"cat-file", "commit", commit}, job.stop));
    out.set_commitobject(object);
    return 0;
  }

  // -- checking out ----------------------------------------------------------------------------------

  result<store::ref> checkout(git_command& git, const git_reference& r, const commit_info& info,
                              const job_context& job) {
    KILN_TRY(auto actual, git.run({"rev-parse", info.sha + "^{}"}, job.stop));
    if (!r.checksum.empty() && !info.sha.starts_with(r.checksum) && !trim(actual).starts_with(r.checksum))
      return make_error(errc::failed_precondition,
                        "expected checksum to match " + r.checksum + ", got " + info.sha);
    store::record_options options;
    options.description = "git snapshot for " + redact_credentials(r.remote) + "#" + r.ref;
    options.type = store::record_type::source_git_checkout;
    workspace w;
    KILN_TRY(w.ref, refs_.create({}, options, job));
    KILN_TRY(auto specs, refs_.files().mounts(w.ref));
    KILN_TRY(w.mount, store::mounted::make(refs_, specs));
    auto root = w.mount.path();
    if (r.keep_git_dir && r.subdir.empty()) {
      KILN_CHECK(checkout_with_git_dir(git, r, info, root, job));
    } else {
      KILN_CHECK(checkout_files(git, r, info, root, job));
    }
    if (r.commit_mtime) {
      KILN_TRY(auto text, git.run({"log", "-1", "--format=%ct", info.sha + "^{commit}"}, job.stop));
      set_all_times(root, std::strtoll(text.c_str(), nullptr, 10));
    }
    KILN_CHECK(w.mount.unmount());
    return refs_.commit(std::move(w.ref));
  }

  status checkout_files(const git_command& shared, const git_reference& r, const commit_info& info,
                        const fs::path& root, const job_context& job) {
    auto target = root;
    if (!r.subdir.empty()) {
      target = root / (".kiln-checkout-" + new_id());
      fs::create_directory(target);
    }
    auto git = shared;
    git.work_tree = target;
    auto done = git.run({"checkout", "--no-overlay", info.sha, "--", "."}, job.stop);
    if (!done.ok())
      return std::move(done).error().with_context("failed to checkout remote " +
                                                  redact_credentials(r.remote));
    KILN_CHECK(update_submodules(git, r, job));
    fs::remove(target / ".git");
    if (r.subdir.empty()) return {};
    auto valid = check_directories_only(target, r.subdir);
    if (!valid.ok()) return std::move(valid).error().with_context("invalid subdir " + r.subdir);
    for (const auto& entry : fs::directory_iterator(target / r.subdir))
      fs::rename(entry.path(), root / entry.path().filename());
    fs::remove_all(target);
    return {};
  }

  status checkout_with_git_dir(git_command& shared, const git_reference& r, const commit_info& info,
                               const fs::path& root, const job_context& job) {
    auto git = shared;
    git.work_tree = root;
    git.git_dir = root / ".git";
    std::vector<std::string> init = {"-c", "init.defaultBranch=master", "init"};
    if (info.sha.size() == 64) init.push_back("--object-format=sha256");
    KILN_CHECK(git.run(init, job.stop));
    // Through file:// and not a plain path: local clones copy files of the host by name.
    KILN_CHECK(git.run({"remote", "add", "origin", "file://" + shared.git_dir}, job.stop));
    std::string source = local_ref(info);
    std::string target = info.ref;
    if (is_commit_sha(info.ref)) {
      source = "refs/kiln/commits/" + info.ref;
      KILN_CHECK(shared.run({"update-ref", source, info.ref}, job.stop));
      target.clear();
    }
    auto refspec = target.empty() ? source : source + ":" + target;
    auto copying = git;
    copying.from = git_command::reach::daemon;
    KILN_CHECK(copying.run({"fetch", "-u", "--depth=1", "--no-recurse-submodules", "--", "origin", refspec},
                           job.stop));
    auto done = git.run({"checkout", "FETCH_HEAD"}, job.stop);
    if (!done.ok())
      return std::move(done).error().with_context("failed to checkout remote " +
                                                  redact_credentials(r.remote));
    KILN_CHECK(git.run({"remote", "set-url", "origin", redact_credentials(r.remote)}, job.stop));
    KILN_CHECK(git.run({"reflog", "expire", "--all", "--expire=now"}, job.stop));
    fs::remove(root / ".git" / "FETCH_HEAD");
    return update_submodules(git, r, job);
  }

  static status update_submodules(const git_command& git, const git_reference& r, const job_context& job) {
    if (r.skip_submodules || !fs::exists(fs::path(git.work_tree) / ".gitmodules")) return {};
    // What an earlier commit said of a submodule's place does not count for this one.
    KILN_CHECK(git.run({"submodule", "sync", "--recursive", "--quiet"}, job.stop));
    auto done = git.run({"submodule", "update", "--init", "--recursive", "--depth=1"}, job.stop);
    if (done.ok()) return {};
    return std::move(done).error().with_context("failed to update submodules for " +
                                                redact_credentials(r.remote));
  }

  store::ref_store& refs_;
  store::remembered_values checkouts_;  // by commit and what of it is wanted: the record's id
  distribution::transport transport_{1};
  store::turns remotes_;  // one job at a time works in a remote's repository
};

}  // namespace

std::shared_ptr<source_handler> make_git_source(store::ref_store& refs) {
  return std::make_shared<git_source>(refs);
}

}  // namespace kiln::workers
