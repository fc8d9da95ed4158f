#include "distribution/push.hpp"

#include <set>

#include "base/parallel.hpp"
#include "configs/exporters.hpp"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"

namespace kiln::distribution {
namespace {

constexpr std::size_t max_nodes = 16'384;

/// Everything below a root: blobs in any order, manifests children first.
struct plan {
  std::vector<descriptor> blobs, manifests;
  std::set<digest> seen;
};

status gather(store::blob_store& blobs, const descriptor& d, int depth, plan& out) {
  if (media::is_nondistributable(d.media_type) || !out.seen.insert(d.digest).second) return {};
  if (out.seen.size() > max_nodes)
    return make_error(errc::resource_exhausted,
                      "image refers to more than " + std::to_string(max_nodes) + " blobs");
  if (!media::is_index(d.media_type) && !media::is_manifest(d.media_type)) {
    out.blobs.push_back(d);
    return {};
  }
  if (depth > configs::image_depth_max)
    return make_error(errc::invalid_argument, "indexes are nested too deeply");
  KILN_TRY(std::string bytes, blobs.read_all(d.digest, configs::max_manifest_size));
  KILN_TRY(manifest m, parse_manifest(bytes, d.media_type));
  for (const auto& child : m.entries) KILN_CHECK(gather(blobs, child, depth + 1, out));
  if (!m.is_index) {
    KILN_CHECK(gather(blobs, m.config, depth + 1, out));
    for (const auto& child : m.layers) KILN_CHECK(gather(blobs, child, depth + 1, out));
  }
  out.manifests.push_back(d);
  return {};
}

/// The repositories of this registry known to have a blob, by its labels and annotations.
std::vector<std::string> known_sources(const store::blob_store& blobs, const descriptor& d,
                                       const image_reference& target) {
  std::string label = source_label(target.domain), value;
  if (auto info = blobs.info(d.digest); info.ok()) value = info->labels[label];
  if (auto it = d.annotations.find(label); it != d.annotations.end()) value += "," + it->second;
  std::vector<std::string> out;
  for (std::size_t at = 0; at < value.size();) {
    std::size_t end = std::min(value.find(',', at), value.size());
    std::string from = value.substr(at, end - at);
    if (!from.empty() && from != target.path && std::find(out.begin(), out.end(), from) == out.end())
      out.push_back(from);
    at = end + 1;
  }
  return out;
}

status push_one(repository& to, store::blob_store& blobs, const push_options& options, const descriptor& d,
                const job_context& job) {
  KILN_TRY(bool there, to.has_blob(d.digest));
  if (there) return {};
  for (const auto& from : known_sources(blobs, d, to.ref())) {
    KILN_TRY(bool mounted, to.mount_blob(d.digest, from));
    if (mounted) return {};
  }
  if (!blobs.has(d.digest)) {
    if (!options.ensure)
      return make_error(errc::not_found, "blob " + d.digest.str() + " is not in the store");
    KILN_CHECK(options.ensure(d));
  }
  std::string id = "pushing " + d.digest.str();
  job.progress->progress(id, 0, d.size, false);
  auto s = to.push_blob(d, blobs, [&](std::int64_t current, std::int64_t) {
    job.progress->progress(id, current, d.size, false);
  });
  job.progress->progress(id, s.ok() ? d.size : 0, d.size, true);
  return s;
}

status push_blobs(repository& to, store::blob_store& blobs, const push_options& options,
                  const std::vector<descriptor>& all, unsigned threads, const job_context& job) {
  return parallel_try("push", all.size(), threads,
                      [&](std::size_t i) { return push_one(to, blobs, options, all[i], job); });
}

}  // namespace

status push_image(hosts& h, store::blob_store& blobs, const push_options& options, const job_context& job) {
  KILN_TRY(image_reference ref, read_image_reference(options.name));
  if (options.by_digest && !ref.name_only())
    return make_error(errc::invalid_argument, "can't push tagged ref " + ref.str() + " by digest");
  std::string tag = options.by_digest ? "" : ref.tagged().tag;
  image_reference shown = options.by_digest ? ref : ref.tagged();
  if (!options.by_digest) shown.digest = options.root.digest;
  KILN_TRY(auto to, repository::open(h, ref, repository::access::push, job, options.insecure));

  plan p;
  KILN_CHECK(gather(blobs, options.root, 0, p));
  job.progress->progress("pushing layers", 0, 0, false);
  auto s = push_blobs(*to, blobs, options, p.blobs, h.max_concurrency(), job);
  job.progress->progress("pushing layers", 0, 0, true);
  if (!s.ok()) return s;

  std::string id = "pushing manifest for " + shown.str();
  job.progress->progress(id, 0, 0, false);
  for (auto it = p.manifests.begin(); s.ok() && it != p.manifests.end(); ++it) {
    auto bytes = blobs.read_all(it->digest, configs::max_manifest_size);
    if (!bytes.ok()) s = std::move(bytes).error();
    else
      s = to->push_manifest(*it, *bytes,
                            it->digest == options.root.digest && !tag.empty() ? tag : it->digest.str());
  }
  job.progress->progress(id, 0, 0, true);
  return s;
}

}  // namespace kiln::distribution
