// Materializing a layer from its blob.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "messages/layer_progress.hpp"
#include "store/archive/codec.hpp"
#include "store/archive/unpack.hpp"
#include "store/layers/fetch_blob.hpp"
#include "store/materialize/materializer.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

/// A blob that turns out to be rotten is fetched once more.
status materializer::unpack(making& m, const fs::path& target, const layers_below& below,
                            const job_context& job) {
  for (int attempt = 0;; ++attempt) {
    KILN_TRY(auto form, fetch_content(root_.blobs(), m.r, job));
    auto verdict = unpack_form(m, form, target, below, job);
    if (verdict.ok()) return {};
    auto failed = [&] {
      return std::move(verdict).error().with_context("failed to extract layer " + form.blob.digest.str());
    };
    if (verdict.error().code == errc::cancelled || attempt > 0) return failed();
    KILN_TRY(auto again, root_.blobs().read(form.blob.digest));
    hashing_source whole(*again);
    auto actual = whole.finish();
    if (form.blob.digest.algorithm() != "sha256" || (actual.ok() && *actual == form.blob.digest))
      return failed();
    spdlog::warn("store: blob {} is corrupt; dropping it", form.blob.digest.str());
    KILN_CHECK(root_.blobs().remove(form.blob.digest));
    KILN_CHECK(empty_directory(target));
  }
}

status materializer::unpack_form(making& m, const layer_blob& form, const fs::path& target,
                                 const layers_below& below, const job_context& asked) {
  auto job = for_layer(asked, m.r->id);
  auto exact = m.r->blobs(blob_form::transport);
  auto name = "extracting " + form.blob.digest.str();
  job.progress->progress(name, 0, 0, false);
  KILN_TRY(auto raw, root_.blobs().read(form.blob.digest));
  auto plain = make_decompressor(std::move(raw));
  hashing_source hashed(*plain);
  bool layered = root_.snapshots().layered();
  unpack_options options;
  options.user_namespace = root_.snapshots().user_namespace();
  // What was made elsewhere may hide things without having been sent with what it hides.
  bool received = !m.r->origin.empty();
  bool base = m.r->parents().empty();
  options.on_whiteout = (base && !received) || !layered ? unpack_options::whiteouts::remove
                                                        : unpack_options::whiteouts::overlay;
  options.stop_if_parents_needed = !base && !below && layered;
  if (below) options.parents = *below;
  options.exact = std::any_of(exact.begin(), exact.end(),
                              [&](const layer_blob& t) { return t.blob.digest == form.blob.digest; });
  auto unpacked = unpack_tar(hashed, target, options, job);
  if (unpacked.ok() && unpacked->needs_parents) {
    m.needs_parents = true;
    return {};
  }
  auto verdict = [&]() -> status {
    if (!unpacked.ok()) return std::move(unpacked).error();
    m.applied_root = unpacked->applied_root;
    KILN_TRY(auto actual, hashed.finish());
    if (actual == form.diff_id) return {};
    return make_error(errc::data_loss, "wrong diff id calculated on extraction \"" + actual.str() +
                                           "\", expected \"" + form.diff_id.str() + "\"");
  }();
  job.progress->progress(name, 0, 0, true);
  return verdict;
}

}  // namespace kiln::store
