#include "workers/sources/git.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <vector>

#include "base/files.hpp"
#include "base/text.hpp"
#include "configs/store.hpp"
#include "distribution/transport.hpp"
#include "store/files/turns.hpp"
#include "workers/sources/file_blocks.hpp"
#include "workers/sources/git_access.hpp"
#include "workers/sources/git_bundle.hpp"
#include "workers/sources/git_command.hpp"
#include "workers/sources/git_leftovers.hpp"
#include "workers/sources/git_reference.hpp"
#include "workers/sources/remote_blob.hpp"
#include "workers/sources/resolutions.hpp"
#include "workers/sources/signatures.hpp"
#include "workers/sources/single_file.hpp"

namespace kiln::workers {

namespace fs = std::filesystem;
namespace gw = moby::buildkit::v1::frontend;

namespace {

struct commit_info {
  std::string ref;     // full name, or the commit itself
  std::string sha;     // what the ref names: a commit or an annotated tag
  std::string commit;  // the commit behind an annotated tag; else empty
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

/// The commands of earlier versions wrote git's files with a umask of 0: what may not be executed could be
/// written by everybody.
status make_files_writable(const fs::path& root) {
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    struct stat info;
    if (lstat(entry.path().c_str(), &info) != 0 || !S_ISREG(info.st_mode) || (info.st_mode & 0111) != 0)
      continue;
    if (::chmod(entry.path().c_str(), (info.st_mode & 07777) | 0222) != 0)
      return errno_error(errno, "chmod " + entry.path().filename().string());
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
  git_source(store::ref_store& refs, distribution::hosts& hosts)
      : refs_(refs),
        hosts_(hosts),
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
    if (!r.mtime.empty() && !r.commit_mtime())
      job.progress->warn("git.mtime=" + r.mtime + " is unknown: files have the time of their checkout");
    auto snapshot_key = key_of(r, info) + ":" + r.subdir;
    if (auto id = checkouts_.get(snapshot_key))
      if (auto kept = refs_.get(*id); kept.ok()) return std::vector{*std::move(kept)};

    KILN_TRY(auto done, with_repository(r, info, job, [&](git_command& git) -> result<store::ref> {
               KILN_CHECK(fetch(git, r, info, job));
               return r.checkout_bundle ? checkout_as_bundle(git, r, info, job) : checkout(git, r, info, job);
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
    bool as_tagged = r.keep_git_dir || r.checkout_bundle;  // the tag itself is in it
    auto& sha = !info.commit.empty() && !as_tagged ? info.commit : info.sha;
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
    if (r.bundle && r.ref.empty() && is_commit_sha(r.checksum))
      return commit_info{r.checksum, r.checksum, ""};
    if (r.fetch_by_commit && !r.bundle) {
      auto ref = r.ref.empty() ? r.checksum : r.ref.starts_with("refs/") ? r.ref : "refs/heads/" + r.ref;
      return commit_info{ref, r.checksum, ""};
    }
    auto question = "git " + r.remote + "#" + r.ref;
    // A bundle gives an abbreviated commit in full.
    if (r.bundle) question += " in " + r.bundle->ref.digest.str() + (r.ref.empty() ? " " + r.checksum : "");
    KILN_TRY(auto info, resolve_once<commit_info>(build, question, job.stop, [&] {
               return r.bundle ? ask_bundle(r, job) : ask_remote(r, job);
             }));
    if (!r.checksum.empty() && !info.sha.starts_with(r.checksum) && !info.commit.starts_with(r.checksum))
      return mismatch(info.commit.empty() ? info.sha : info.sha + " or " + info.commit);
    if (r.keep_git_dir || r.checkout_bundle) info.commit.clear();
    return info;
  }

  result<commit_info> ask_remote(const git_reference& r, const job_context& job) {
    git_command git;
    git_access access(refs_.scratch(), transport_);
    KILN_CHECK(access.give(git, r, job));
    auto ref = r.ref;
    if (ref.empty()) {
      KILN_TRY(ref, default_branch(git, r, job));
    }
    auto listed = git.run({"ls-remote", "--", git.remote, ref, ref + "^{}"}, job.stop);
    if (!listed.ok())
      return std::move(listed).error().with_context("failed to fetch remote " + redact_credentials(r.remote));
    return pick(*listed, ref);
  }

  result<commit_info> ask_bundle(const git_reference& r, const job_context& job) {
    return with_repository(r, {}, job, [&](git_command& git) -> result<commit_info> {
      if (r.ref.empty()) {
        auto commit = git.ask({"rev-parse", "--verify", r.checksum + "^{commit}"}, job.stop);
        if (!commit.ok()) return not_in_bundle(r, r.checksum);
        return commit_info{std::string(trim(*commit)), std::string(trim(*commit)), ""};
      }
      auto own = git.reading(git.git_dir);
      KILN_TRY(auto listed, own.run({"ls-remote", "--", own.remote, r.ref, r.ref + "^{}"}, job.stop));
      return pick(listed, r.ref);
    });
  }

  static error not_in_bundle(const git_reference& r, const std::string& commit) {
    return make_error(errc::not_found, "commit " + commit + " not found in bundle " + r.bundle->ref.str());
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
    git_access access(refs_.scratch(), transport_);
    KILN_CHECK(access.give(git, r, job));
    auto begin = [&]() -> status {
      for (const auto& entry : fs::directory_iterator(repository.mount.path())) fs::remove_all(entry.path());
      if (r.bundle) {
        KILN_CHECK(import_bundle(git, r, job));
      } else {
        KILN_CHECK(git.run(git_init(info.sha, {"--bare"}), job.stop));
      }
      KILN_CHECK(git.run({"remote", "add", "origin", git.remote}, job.stop));
      return {};
    };
    // One that a killed daemon had only begun has no remote yet.
    bool whole = fs::exists(repository.mount.path() / "HEAD") &&
                 git.ask({"remote", "set-url", "origin", git.remote}, job.stop).ok();
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
           text.find("cannot lock ref") != std::string::npos ||
           text.find("mismatched algorithms") !=
               std::string::npos;  // it has become one of SHA-256, or no longer is
  }

  result<workspace> open_repository(const git_reference& r, const job_context& job) {
    store::record_options options;
    options.description = "shared git repo for " + redact_credentials(r.remote);
    if (r.bundle) options.description += " from bundle " + r.bundle->ref.str();
    workspace w;
    KILN_TRY(w.ref, refs_.acquire_named("git-remote:" + repository_name(r), {}, options, job));
    KILN_TRY(auto specs, refs_.files().mounts(w.ref));
    KILN_TRY(w.mount, store::mounted::make(refs_, specs));
    return w;
  }

  /// Whoever signs in otherwise has a repository of their own, and so has each bundle: it is never asked the
  /// remote for anything. Passwords are written nowhere.
  static std::string repository_name(const git_reference& r) {
    auto plain = r.where.str(false);
    if (r.bundle) return plain + " in " + r.bundle->ref.digest.str();
    return r.remote == plain ? plain : plain + " " + sha256(r.remote).str();
  }

  /// The name under which the shared repository keeps what `info` names.
  static std::string local_ref(const commit_info& info) {
    return is_commit_sha(info.ref) ? info.ref
                                   : "refs/kiln/" + info.ref.substr(info.ref.starts_with("refs/") ? 5 : 0);
  }

  /// Makes a repository of its own of the bundle.
  status import_bundle(const git_command& git, const git_reference& r, const job_context& job) {
    temporary_directory scratch;
    KILN_TRY(auto directory, refs_.scratch().make("git-bundle"));
    scratch.path = directory.string();
    auto file = directory / bundle_name;
    KILN_TRY(auto out, open_file(file.string(), O_WRONLY | O_CREAT | O_EXCL, 0600));
    auto fetched = read_remote_blob(refs_, hosts_, *r.bundle, job,
                                    [&](std::string_view bytes) { return write_all(out.get(), bytes); });
    out.reset();
    auto imported = fetched.ok() ? import_git_bundle(git, file, job.stop) : std::move(fetched);
    if (imported.ok()) return {};
    return std::move(imported).error().with_context("failed to import git bundle " + r.bundle->ref.str());
  }

  status fetch(git_command& git, const git_reference& r, const commit_info& info, const job_context& job) {
    auto shallow = fs::path(git.git_dir) / "shallow";
    bool whole = r.checkout_bundle;  // a bundle has the history, too
    bool there = git.ask({"cat-file", "-e", info.sha + "^{commit}"}, job.stop).ok();
    if (there && !(whole && fs::exists(shallow)))
      return is_commit_sha(info.ref) ? status{} : point(git, info, job);
    KILN_CHECK(job.check());
    if (r.bundle) return not_in_bundle(r, info.sha);
    std::vector<std::string> arguments = {"fetch"};
    bool one_commit = !whole && (r.fetch_by_commit || !is_commit_sha(info.ref));
    if (one_commit) arguments.push_back("--depth=1");
    else if (fs::exists(shallow)) arguments.push_back("--unshallow");
    if (r.fetch_by_commit) {
      arguments.insert(arguments.end(), {"--no-tags", "origin", info.sha});
    } else if (is_commit_sha(info.ref)) {
      arguments.insert(arguments.end(), {"--tags", "origin", info.ref});
    } else {
      arguments.insert(arguments.end(),
                       {"--no-tags", "origin", "--force", "--", info.ref + ":" + local_ref(info)});
    }
    auto fetched = git.run(arguments, job.stop);
    if (!fetched.ok())
      return std::move(fetched).error().with_context("failed to fetch remote " +
                                                     redact_credentials(r.remote));
    if (!git.ask({"cat-file", "-e", info.sha}, job.stop).ok()) {
      // The ref moved between resolving and fetching: ask for the very commit.
      std::vector<std::string> again = {"fetch", "--tags"};
      if (fs::exists(shallow)) again.push_back("--unshallow");
      again.insert(again.end(), {"origin", info.sha});
      if (!git.run(again, job.stop).ok() || !git.ask({"cat-file", "-e", info.sha}, job.stop).ok())
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
    KILN_TRY(auto type, git.ask({"cat-file", "-t", info.sha}, job.stop));
    auto commit = info.sha;
    info.commit.clear();
    if (trim(type) == "tag") {
      KILN_TRY(auto tag, git.ask({"cat-file", "tag", info.sha}, job.stop));
      out.set_tagobject(tag);
      KILN_TRY(commit, git.ask({"rev-parse", info.sha + "^{commit}"}, job.stop));
      commit = std::string(trim(commit));
      info.commit = commit;
    } else if (trim(type) != "commit") {
      return make_error(errc::invalid_argument,
                        "expected commit or tag object, got " + std::string(trim(type)));
    }
    KILN_TRY(auto object, git.ask({"cat-file", "commit", commit}, job.stop));
    out.set_commitobject(object);
    return 0;
  }

  // -- checking out ----------------------------------------------------------------------------------

  result<store::ref> checkout(git_command& git, const git_reference& r, const commit_info& info,
                              const job_context& job) {
    KILN_TRY(auto actual, git.ask({"rev-parse", info.sha + "^{}"}, job.stop));
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
    if (r.writable_files) KILN_CHECK(make_files_writable(root));
    if (r.commit_mtime()) {
      KILN_TRY(auto seconds, commit_time(git, info, job));
      set_all_times(root, seconds);
    }
    KILN_CHECK(w.mount.unmount());
    return refs_.commit(std::move(w.ref));
  }

  static result<std::int64_t> commit_time(const git_command& git, const commit_info& info,
                                          const job_context& job) {
    KILN_TRY(auto text, git.ask({"log", "-1", "--format=%ct", info.sha + "^{commit}"}, job.stop));
    return std::strtoll(text.c_str(), nullptr, 10);
  }

  /// A file with the commit and its history, from which git can clone.
  result<store::ref> checkout_as_bundle(const git_command& git, const git_reference& r,
                                        const commit_info& info, const job_context& job) {
    temporary_directory scratch;
    KILN_TRY(auto directory, refs_.scratch().make("git-bundle"));
    scratch.path = directory.string();
    auto name = is_commit_sha(info.ref) ? bundle_ref_of_commit : info.ref;
    auto made = make_git_bundle(git, info.sha, name, directory, job.stop);
    if (!made.ok())
      return std::move(made).error().with_context("failed to create git bundle for " + info.sha);
    auto seconds = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
    if (r.commit_mtime()) {
      KILN_TRY(seconds, commit_time(git, info, job));
    }
    store::record_options options;
    options.description = "git bundle checkout for " + redact_credentials(r.remote) + "#" + r.ref;
    KILN_TRY(auto file, single_file::begin(refs_, options, job));
    KILN_TRY(auto from, open_file(made->string(), O_RDONLY, 0));
    KILN_CHECK(for_each_block(from.get(), "read the bundle", [&](std::string_view bytes) -> status {
      KILN_CHECK(job.check());
      return file.write(bytes);
    }));
    return file.commit({bundle_name, 0644, 0, 0, seconds});
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
    KILN_CHECK(git.run(git_init(info.sha, {}), job.stop));
    auto copying = git.reading(shared.git_dir);
    KILN_CHECK(git.run({"remote", "add", "origin", copying.remote}, job.stop));
    // No tags but those asked for: what else the shared repository has depends on what was built before.
    std::vector<std::string> copy = {"fetch", "-u",    "--depth=1", "--no-tags", "--no-recurse-submodules",
                                     "--",    "origin"};
    if (is_commit_sha(info.ref)) {
      auto source = "refs/kiln/commits/" + info.ref;
      KILN_CHECK(shared.run({"update-ref", source, info.ref}, job.stop));
      copy.push_back(source);
    } else {
      KILN_TRY(auto type, shared.ask({"cat-file", "-t", info.sha}, job.stop));
      for (const auto& name : kept_refs(info.ref, trim(type) == "tag"))
        copy.push_back(local_ref(info) + ":" + name);
    }
    KILN_CHECK(copying.ask(copy, job.stop));
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
  distribution::hosts& hosts_;
  store::remembered_values checkouts_;  // by commit and what of it is wanted: the record's id
  distribution::transport transport_{1};
  store::turns remotes_;  // one job at a time works in a remote's repository
};

}  // namespace

std::shared_ptr<source_handler> make_git_source(store::ref_store& refs, distribution::hosts& hosts) {
  return std::make_shared<git_source>(refs, hosts);
}

}  // namespace kiln::workers
