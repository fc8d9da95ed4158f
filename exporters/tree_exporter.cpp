// The `local` and `tar` exporters: the files of a result, to a directory or into one tar at the client.
// Source: exporter/local/{export,fs}.go; exporter/tar/export.go.
#include <algorithm>
#include <chrono>
#include <map>
#include <set>

#include "base/json_text.hpp"
#include "exporters/attestations.hpp"
#include "exporters/factories.hpp"
#include "exporters/file_send.hpp"
#include "exporters/image_config.hpp"
#include "exporters/image_writer.hpp"
#include "exporters/tar_tree.hpp"
#include "store/files/confinement.hpp"
#include "filesync/sender.hpp"
#include "store/files/file_facts.hpp"
#include "filesync/tree.hpp"

namespace kiln::exporters {
namespace {

struct tree_options {
  std::optional<epoch> date;
  std::string attestation_prefix;
  std::optional<bool> platform_split;
  bool delete_mode = false;

  bool split(bool multi) const { return platform_split.value_or(multi); }
};

result<tree_options> take_tree_options(attributes& attrs) {
  tree_options out;
  if (auto it = attrs.find("source-date-epoch"); it != attrs.end()) {
    KILN_TRY(out.date, parse_epoch(it->first, it->second));
    attrs.erase(it);
  }
  if (auto it = attrs.find("platform-split"); it != attrs.end()) {
    auto b = parse_bool("platform-split", it->second);
    if (!b.ok())
      return make_error(errc::invalid_argument, "non-bool value for platform-split: " + it->second);
    out.platform_split = *b;
    attrs.erase(it);
  }
  if (auto it = attrs.find("attestation-prefix"); it != attrs.end()) {
    out.attestation_prefix = it->second;
    attrs.erase(it);
  }
  if (auto it = attrs.find("mode"); it != attrs.end()) {
    if (it->second != "" && it->second != "copy" && it->second != "delete")
      return make_error(errc::invalid_argument, "invalid local exporter mode \"" + it->second + "\"");
    out.delete_mode = it->second == "delete";
    attrs.erase(it);
  }
  return out;
}

/// Nothing at all: the tree of a scratch result.
class empty_tree : public filesync::file_tree {
 public:
  status walk(const filesync::stat_visitor&, std::stop_token) override { return {}; }
  result<std::unique_ptr<store::byte_source>> open(const std::string& path) override {
    return make_error(errc::not_found, path + ": no such file");
  }
};

/// One platform's files, ready to be walked; keeps them mounted.
struct mounted_part {
  std::string id;
  store::mounted mount;
  std::unique_ptr<filesync::file_tree> tree;
  std::optional<std::int64_t> epoch;
};

/// Several trees laid over one another: entries in order, each path from the first that has it.
/// Only directories may come twice.
class overlaid_trees : public filesync::file_tree {
 public:
  explicit overlaid_trees(std::vector<mounted_part>& parts) : parts_(parts) {}

  status walk(const filesync::stat_visitor& visit, std::stop_token stop) override {
    struct less {
      bool operator()(const std::string& a, const std::string& b) const {
        return filesync::compare_paths(a, b) < 0;
      }
    };
    std::map<std::string, filesync::file_stat, less> all;
    owner_.clear();
    for (auto& p : parts_) {
      KILN_CHECK(p.tree->walk(
          [&](filesync::file_stat&& s) -> status {
            auto [it, fresh] = all.try_emplace(s.path(), s);
            if (fresh) {
              owner_[s.path()] = &p;
            } else if (!filesync::is_dir(s) || !filesync::is_dir(it->second)) {
              return make_error(errc::invalid_argument, "cannot overwrite " + s.path() + " from " +
                                                            owner_[s.path()]->id + " with " + p.id +
                                                            " when split option is disabled");
            }
            return {};
          },
          stop));
    }
    for (auto& [path, s] : all) KILN_CHECK(visit(std::move(s)));
    return {};
  }
  result<std::unique_ptr<store::byte_source>> open(const std::string& path) override {
    auto it = owner_.find(path);
    if (it == owner_.end()) return make_error(errc::not_found, path + ": no such file");
    return it->second->tree->open(path);
  }

 private:
  std::vector<mounted_part>& parts_;
  std::map<std::string, mounted_part*> owner_;
};

class tree_exporter : public exporter {
 public:
  tree_exporter(bool tar, tree_options options, int id, exporter_resources r)
      : tar_(tar), options_(std::move(options)), id_(id), resources_(r) {}

  std::string name() const override {
    return tar_ ? "exporting to client tarball" : "exporting to client directory";
  }

  result<export_outcome> run(const export_input& input, const job_context& job) override {
    KILN_TRY(auto client, exporting_client(input, job));
    if (!input.multi_platform && input.refs.size() > 1)
      return make_error(errc::invalid_argument, "unable to export multiple platforms without map");
    std::vector<mounted_part> parts;
    for (const auto& r : input.refs) {
      if (input.multi_platform && r.id.empty())
        return make_error(errc::invalid_argument,
                          "unable to export multiple refs, missing platforms mapping");
      KILN_TRY(mounted_part p, mount(input, r, job));
      parts.push_back(std::move(p));
    }
    bool split = options_.split(input.multi_platform);
    if (tar_) KILN_CHECK(send_tar(*client, parts, split, job));
    else if (options_.delete_mode || parts.size() < 2) KILN_CHECK(send_joined(*client, parts, split, job));
    else KILN_CHECK(send_each(*client, parts, split, job));
    return export_outcome{};
  }

 private:
  result<mounted_part> mount(const export_input& input, const export_ref& r, const job_context& job) {
    mounted_part p;
    p.id = r.id.empty() ? format_platform(r.platform.os.empty() ? normalize(host_platform()) : r.platform)
                        : r.id;
    if (options_.date) {
      p.epoch = options_.date->seconds;
    } else {
      KILN_TRY(p.epoch, epoch_from_metadata(input.metadata, p.id));
    }
    if (!r.ref) {
      p.tree = std::make_unique<empty_tree>();
    } else {
      KILN_TRY(auto specs, resources_.store->files().mounts(r.ref, job));
      KILN_TRY(p.mount, store::mounted::make(*resources_.store, specs));
      filesync::walk_options walk;
      if (p.epoch)
        walk.map = [ns = *p.epoch * 1'000'000'000](filesync::file_stat& s) {
          s.set_modtime(ns);
          return filesync::map_verdict::keep;
        };
      KILN_TRY(auto root, store::open_confined(p.mount.path()));
      KILN_TRY(p.tree, filesync::open_directory(std::move(root), std::move(walk)));
    }
    if (has_attestations(r.attestations, false)) KILN_CHECK(add_statements(p, input, r, job));
    return p;
  }

  /// The attestations as files beside those they are about.
  status add_statements(mounted_part& p, const export_input& input, const export_ref& r,
                        const job_context& job) {
    KILN_TRY(auto subjects, files_of(*p.tree, job));
    KILN_TRY(auto statements, make_statements(*resources_.store, r.attestations, false, subjects, job));
    bool name_platform = input.multi_platform && !options_.split(input.multi_platform);
    std::vector<extra_file> files;
    std::set<std::string> taken;
    for (const auto& s : statements) {
      std::string name = options_.attestation_prefix + s.path.substr(s.path.rfind('/') + 1);
      if (name_platform) {
        std::string id = p.id;
        std::replace(id.begin(), id.end(), '/', '_');
        auto dot = std::min(name.rfind('.'), name.size());
        name.insert(dot, "." + id);
      }
      if (!taken.insert(name).second)
        return make_error(errc::invalid_argument, "duplicate attestation path name " + name);
      extra_file file;
      file.stat.set_path(name);
      file.stat.set_mode(0600);
      file.stat.set_modtime(p.epoch ? *p.epoch * 1'000'000'000 : store::now_ns());
      file.content = go_json(s.document, 2);
      files.push_back(std::move(file));
    }
    p.tree = with_files(std::move(p.tree), std::move(files));
    return {};
  }

  static filesync::file_stat platform_directory(const mounted_part& p) {
    filesync::file_stat s;
    std::string name = p.id;
    std::replace(name.begin(), name.end(), '/', '_');
    s.set_path(name);
    s.set_mode(filesync::go_mode::dir | 0755);
    if (p.epoch) s.set_modtime(*p.epoch * 1'000'000'000);
    return s;
  }

  static result<std::unique_ptr<filesync::file_tree>> in_directories(std::vector<mounted_part>& parts) {
    std::vector<filesync::sub_tree> trees;
    for (auto& p : parts) trees.push_back({platform_directory(p), std::move(p.tree)});
    return filesync::join_trees(std::move(trees));
  }

  result<std::unique_ptr<filesync::file_tree>> joined(std::vector<mounted_part>& parts, bool split) {
    if (split) return in_directories(parts);
    if (parts.size() == 1) return std::move(parts.front().tree);
    return std::unique_ptr<filesync::file_tree>(std::make_unique<overlaid_trees>(parts));
  }

  status send_joined(session_caller& client, std::vector<mounted_part>& parts, bool split,
                     const job_context& job) {
    std::string label = "copying files";
    if (split && parts.size() == 1) label += " " + parts.front().id;
    if (parts.empty()) return {};
    KILN_TRY(auto tree, joined(parts, split));
    return send_tree(client, *tree, label, options_.delete_mode, job);
  }

  /// One transfer a platform, as older clients expect.
  status send_each(session_caller& client, std::vector<mounted_part>& parts, bool split,
                   const job_context& job) {
    if (!split) {
      // Finds what two platforms both have before anything is sent.
      overlaid_trees all(parts);
      KILN_CHECK(all.walk([](filesync::file_stat&&) { return status(); }, job.stop));
    }
    return in_parallel(parts.size(), static_cast<unsigned>(parts.size()), [&](std::size_t i) -> status {
      std::string label = split ? "copying files " + parts[i].id : "copying files";
      if (!split) return send_tree(client, *parts[i].tree, label, false, job);
      std::vector<filesync::sub_tree> one;
      one.push_back({platform_directory(parts[i]), std::move(parts[i].tree)});
      KILN_TRY(auto tree, filesync::join_trees(std::move(one)));
      return send_tree(client, *tree, label, false, job);
    });
  }

  status send_tree(session_caller& client, filesync::file_tree& tree, const std::string& label, bool whole,
                   const job_context& job) {
    constexpr std::string_view method = "/moby.filesync.v1.FileSend/DiffCopy";
    if (!client.supports(method))
      return make_error(errc::unimplemented,
                        "method " + std::string(method) + " not supported by the client");
    call_metadata metadata = file_send_metadata(id_, {});
    if (whole) metadata.emplace_back("buildkit-exporter-multi-platform", "1");
    std::stop_source cut;
    std::stop_callback chain(job.stop, [&] { cut.request_stop(); });
    KILN_TRY(auto stream, client.open(method, metadata, cut.get_token()));
    filesync::send_options options;
    options.stop = job.stop;
    options.cancel = [&] { cut.request_stop(); };
    job.progress->progress(label, 0, 0, false);
    options.progress = [&](std::int64_t bytes, bool last) { job.progress->progress(label, bytes, 0, last); };
    auto s = filesync::send(*stream, tree, options);
    job.progress->progress(label, 0, 0, true);
    if (!s.ok()) {
      if (job.check().ok()) {
        // The client's own verdict says more than a broken stream.
        stream->writes_done();
        if (s.error().code == errc::unavailable)
          if (auto verdict = stream->finish(); !verdict.ok()) return verdict;
        return s;
      }
      return job.check();
    }
    stream->writes_done();
    std::string ignored;
    while (stream->read(ignored)) {
    }
    return stream->finish();
  }

  status send_tar(session_caller& client, std::vector<mounted_part>& parts, bool split,
                  const job_context& job) {
    auto settle = [](status s) -> status {
      if (!s.ok() && s.error().code == errc::already_exists) return {};
      return s;
    };
    step sending(job, "sending tarball");
    auto file = client_file::open(client, id_, {}, job);
    if (!file.ok()) return settle(std::move(file).error());
    store::tar_writer tar(**file);
    if (!parts.empty()) {
      KILN_TRY(auto tree, joined(parts, split));
      auto s = write_tree(tar, *tree, job.stop);
      if (!s.ok()) return settle(std::move(s));
    }
    auto s = tar.finish();
    if (s.ok()) s = (*file)->finish();
    return settle(std::move(s));
  }

  bool tar_;
  tree_options options_;
  int id_;
  exporter_resources resources_;
};

result<std::unique_ptr<exporter>> make_tree_exporter(bool tar, attributes attrs, int id,
                                                     exporter_resources resources) {
  KILN_TRY(tree_options options, take_tree_options(attrs));
  return std::unique_ptr<exporter>(std::make_unique<tree_exporter>(tar, std::move(options), id, resources));
}

}  // namespace

result<std::unique_ptr<exporter>> make_local_exporter(attributes attrs, int id,
                                                      exporter_resources resources) {
  return make_tree_exporter(false, std::move(attrs), id, resources);
}

result<std::unique_ptr<exporter>> make_tar_exporter(attributes attrs, int id, exporter_resources resources) {
  return make_tree_exporter(true, std::move(attrs), id, resources);
}

}  // namespace kiln::exporters
