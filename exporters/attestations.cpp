#include "exporters/attestations.hpp"

#include <algorithm>
#include <optional>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/files.hpp"
#include "base/json_text.hpp"
#include "configs/exporters.hpp"
#include "exporters/provenance/predicate.hpp"
#include "distribution/image_json.hpp"
#include "store/files/confinement.hpp"
#include "store/files/regular_file.hpp"

namespace kiln::exporters {

namespace {

using json = nlohmann::ordered_json;

error invalid(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

bool is_provenance(const std::string& type) { return type.starts_with("https://slsa.dev/provenance/"); }

/// The files of a ref for as long as it lives.
struct open_ref {
  store::mounted mount;
  unique_fd root;

  static result<open_ref> make(store::ref_store& store, const store::ref& ref, const job_context& job) {
    open_ref out;
    KILN_TRY(auto specs, store.files().mounts(ref, job));
    KILN_TRY(out.mount, store::mounted::make(store, specs));
    KILN_TRY(out.root, store::open_confined(out.mount.path()));
    return out;
  }
};

result<std::string> read_regular(int root, const std::string& path) {
  KILN_TRY(auto fd, store::open_regular_in_root(root, path));
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return errno_error(errno, "stat " + path);
  if (info.st_size > configs::attestation_bytes_max)
    return invalid(path + " exceeds " + std::to_string(configs::attestation_bytes_max) + " bytes");
  std::string out(static_cast<std::size_t>(info.st_size), '\0');
  for (std::size_t have = 0; have < out.size();) {
    auto count = ::read(fd.get(), out.data() + have, out.size() - have);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno_error(errno, "read " + path);
    if (count == 0) {
      out.resize(have);
      break;
    }
    have += static_cast<std::size_t>(count);
  }
  return out;
}

/// A plain attestation with its predicate.
struct loaded {
  attestation what;
  json predicate;
};

/// The layers of those steps that have some, as they are in registries or will be.
json layers_of(store::ref_store& store, const attestation& a, const job_context& job) {
  json out = json::object();
  for (const auto& [step, record] : a.layer_records) {
    auto ref = store.get(record);
    if (!ref.ok()) continue;
    auto layers = store.layers().of(*ref, job);
    if (!layers.ok() || layers->empty()) continue;
    json chain = json::array();
    for (const auto& layer : *layers) {
      if (layer.blobs.empty()) break;
      descriptor d = layer.blobs.front().blob;
      std::erase_if(d.annotations, [](const auto& x) {
        return x.first == "containerd.io/uncompressed" || x.first.starts_with("buildkit/") ||
               x.first.starts_with("containerd.io/distribution.source.");
      });
      d.platform.reset();
      chain.push_back(distribution::descriptor_json(d));
    }
    if (chain.size() == layers->size()) out[step] = json::array({std::move(chain)});
  }
  return out;
}

result<loaded> load_plain(store::ref_store& store, const part_attestation& a, const job_context& job) {
  if (a.what.path.empty()) return invalid("attestation does not have set path");
  std::string text;
  if (!a.what.content.empty()) {
    text = a.what.layer_records.empty() ? a.what.content
                                        : with_layers(a.what.content, layers_of(store, a.what, job));
  } else {
    if (is_provenance(a.what.predicate_type)) return invalid("frontend may not set provenance attestations");
    if (!a.ref) return invalid("attestation does not have available content");
    KILN_TRY(auto files, open_ref::make(store, a.ref, job));
    auto read = read_regular(files.root.get(), a.what.path);
    if (!read.ok()) return std::move(read).error().with_context("cannot read in-toto attestation");
    text = *std::move(read);
  }
  loaded out{a.what, nullptr};
  if (text.empty()) return out;
  auto parsed = parse_json<json>(text);
  if (!parsed.ok()) return std::move(parsed).error().with_context("attestation " + a.what.path);
  out.predicate = *std::move(parsed);
  return out;
}

attestation_subject subject_from(const json& j) {
  attestation_subject out{subject_kind::raw, text_member(j, "name"), {}};
  if (j.is_object() && j.contains("digest") && j["digest"].is_object())
    for (const auto& [algorithm, value] : j["digest"].items())
      if (value.is_string()) out.digests.push_back(algorithm + ":" + text_value(value));
  return out;
}

status load_bundle(store::ref_store& store, const part_attestation& a, std::vector<loaded>& out,
                   const job_context& job) {
  if (!a.what.content.empty()) return invalid("attestation bundle cannot have callback");
  if (!a.ref) return invalid("no ref provided for attestation bundle");
  KILN_TRY(auto files, open_ref::make(store, a.ref, job));
  std::string directory = a.what.path.empty() ? "." : a.what.path;
  KILN_TRY(auto fd, open_in_root(files.root.get(), directory, O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto names, list_names(fd.get()));
  for (const auto& name : names) {
    KILN_TRY(auto text, read_regular(files.root.get(), directory + "/" + name));
    auto parsed = parse_json<json>(text);
    if (!parsed.ok())
      return std::move(parsed).error().with_context("cannot decode in-toto statement " + name);
    auto document = *std::move(parsed);
    if (!document.is_object()) return invalid("cannot decode in-toto statement " + name);
    loaded one{a.what, document.contains("predicate") ? document["predicate"] : json()};
    one.what.kind = attestation_kind::in_toto;
    one.what.path = a.what.path.empty() ? name : a.what.path + "/" + name;
    one.what.predicate_type = text_member(document, "predicateType");
    if (!a.what.predicate_type.empty() && one.what.predicate_type != a.what.predicate_type)
      return invalid("bundle entry " + one.what.predicate_type + " does not match required predicate type " +
                     a.what.predicate_type);
    if (is_provenance(one.what.predicate_type))
      return invalid("frontend may not bundle provenance attestations");
    one.what.subjects.clear();
    if (document.contains("subject") && document["subject"].is_array())
      for (const auto& s : document["subject"]) one.what.subjects.push_back(subject_from(s));
    out.push_back(std::move(one));
  }
  return {};
}

/// The SBOM proper before those of build contexts and stages.
bool is_core(const attestation& a) {
  auto name = a.metadata.find("sbom-core");
  return name != a.metadata.end() && a.path.substr(0, a.path.find('.')) == name->second;
}

/// By the name alone, wherever the file was. Source: exporter/containerimage/attestations.go, supplementSBOM.
bool is_core_sbom(const attestation& a) {
  auto name = a.metadata.find("sbom-core");
  auto base = a.path.substr(a.path.rfind('/') + 1);
  return a.predicate_type == spdx_predicate && name != a.metadata.end() &&
         base.substr(0, base.find('.')) == name->second;
}

json digests_json(const std::vector<std::string>& digests) {
  json out = json::object();
  for (const auto& d : digests)
    if (auto colon = d.find(':'); colon != std::string::npos) out[d.substr(0, colon)] = d.substr(colon + 1);
  return out;
}

json statement_of(loaded& l, std::span<const default_subject> defaults) {
  auto subjects = l.what.subjects;
  if (subjects.empty()) subjects.emplace_back();
  json list = json::array();
  for (const auto& s : subjects) {
    std::string name = s.name.empty() ? "_" : s.name;
    if (s.kind == subject_kind::raw) {
      list.push_back({{"name", name}, {"digest", digests_json(s.digests)}});
      continue;
    }
    for (const auto& d : defaults) {
      list.push_back({{"name", d.name}, {"digest", digests_json({d.what.str()})}});
      if (name != "_") list.push_back({{"name", name}, {"digest", digests_json({d.what.str()})}});
    }
  }
  return {{"_type", "https://in-toto.io/Statement/v1"},
          {"predicateType", l.what.predicate_type},
          {"subject", std::move(list)},
          {"predicate", std::move(l.predicate)}};
}

class extended_tree final : public filesync::file_tree {
 public:
  extended_tree(std::unique_ptr<filesync::file_tree> tree, std::vector<extra_file> files)
      : tree_(std::move(tree)), files_(std::move(files)) {
    for (auto& f : files_) f.stat.set_size(static_cast<std::int64_t>(f.content.size()));
    std::sort(files_.begin(), files_.end(), [](const auto& a, const auto& b) {
      return filesync::compare_paths(a.stat.path(), b.stat.path()) < 0;
    });
  }

  status walk(const filesync::stat_visitor& visit, std::stop_token stop) override {
    auto next = files_.begin();
    auto tell_before = [&](const std::string* path) -> status {
      for (; next != files_.end() && (!path || filesync::compare_paths(next->stat.path(), *path) <= 0);
           ++next)
        KILN_CHECK(visit(filesync::file_stat(next->stat)));
      return {};
    };
    KILN_CHECK(tree_->walk(
        [&](filesync::file_stat&& entry) -> status {
          KILN_CHECK(tell_before(&entry.path()));
          return find(entry.path()) ? status() : visit(std::move(entry));
        },
        stop));
    return tell_before(nullptr);
  }

  result<std::unique_ptr<store::byte_source>> open(const std::string& path) override {
    if (const auto* own = find(path))
      return std::unique_ptr<store::byte_source>(std::make_unique<store::text_source>(own->content));
    return tree_->open(path);
  }

 private:
  const extra_file* find(const std::string& path) const {
    for (const auto& f : files_)
      if (f.stat.path() == path) return &f;
    return nullptr;
  }

  std::unique_ptr<filesync::file_tree> tree_;
  std::vector<extra_file> files_;
};

}  // namespace

bool has_attestations(const std::vector<part_attestation>& all, bool with_inline) {
  return std::any_of(all.begin(), all.end(),
                     [&](const auto& a) { return with_inline || !a.what.inline_only(); });
}

result<std::vector<statement>> make_statements(store::ref_store& store,
                                               const std::vector<part_attestation>& all, bool with_inline,
                                               std::span<const default_subject> subjects,
                                               const job_context& job) {
  std::vector<loaded> plain;
  for (const auto& a : all) {
    if (!with_inline && a.what.inline_only()) continue;
    KILN_CHECK(job.check());
    if (a.what.kind == attestation_kind::bundle) {
      KILN_CHECK(load_bundle(store, a, plain, job));
    } else {
      KILN_TRY(auto one, load_plain(store, a, job));
      plain.push_back(std::move(one));
    }
  }
  std::stable_partition(plain.begin(), plain.end(), [](const auto& l) { return is_core(l.what); });
  std::vector<statement> out;
  for (auto& l : plain)
    out.push_back({l.what.path, l.what.predicate_type, statement_of(l, subjects), is_core_sbom(l.what)});
  return out;
}

std::unique_ptr<filesync::file_tree> with_files(std::unique_ptr<filesync::file_tree> tree,
                                                std::vector<extra_file> files) {
  if (files.empty()) return tree;
  return std::make_unique<extended_tree>(std::move(tree), std::move(files));
}

result<std::vector<default_subject>> files_of(filesync::file_tree& tree, const job_context& job) {
  std::vector<std::string> paths;
  KILN_CHECK(tree.walk(
      [&](filesync::file_stat&& entry) -> status {
        if (filesync::is_regular(entry)) paths.push_back(entry.path());
        return {};
      },
      job.stop));
  std::vector<default_subject> out;
  std::string buffer(configs::hash_buffer, '\0');
  for (const auto& path : paths) {
    KILN_CHECK(job.check());
    KILN_TRY(auto source, tree.open(path));
    sha256_hasher hasher;
    while (true) {
      KILN_TRY(auto count, source->read({buffer.data(), buffer.size()}));
      if (count == 0) break;
      hasher.update({buffer.data(), count});
    }
    out.push_back({path, hasher.finish()});
  }
  return out;
}

}  // namespace kiln::exporters
