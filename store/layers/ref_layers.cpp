#include "store/layers/ref_layers.hpp"

#include <algorithm>
#include <optional>

#include "base/digest.hpp"
#include "store/archive/codec.hpp"
#include "store/archive/layer_tar.hpp"
#include "store/archive/sinks.hpp"
#include "store/layers/fetch_blob.hpp"
#include "store/layers/layer_plan.hpp"
#include "store/materialize/materializer.hpp"
#include "store/materialize/ref_files.hpp"
#include "store/records/record_table.hpp"

namespace kiln::store {

result<std::vector<layer_info>> ref_layers::of(const ref& r, const job_context& job) {
  KILN_CHECK(job.check());
  std::vector<layer_info> infos;
  for (const auto& layer : flatten(r.get())) {
    layer_info info;
    info.id = layer->id;
    info.blobs = layer->blobs(blob_form::own);
    info.provider = layer->provider();
    // One that is gone and that nobody brings again is made anew of the directory.
    if (!info.provider && layer->snapshot() != 0)
      std::erase_if(info.blobs, [this](const layer_blob& b) { return !records_.blobs().has(b.blob.digest); });
    layer->look([&info](const stored::Record& data) {
      info.description = data.description();
      info.created_at_ns = data.created_at_ns();
    });
    infos.push_back(std::move(info));
  }
  return infos;
}

status ref_layers::write_tar(std::string_view layer_id, byte_sink& out, const job_context& job) {
  KILN_TRY(auto r, records_.load(std::string(layer_id)));
  if (r->kind == record_kind::merge)
    return make_error(errc::invalid_argument, "record " + r->id + " is a merge, not one layer");
  auto archives = r->blobs(blob_form::archive);
  if (archives.empty()) return write_image_tar(r, out, job);
  KILN_TRY(auto form, fetch_any(records_.blobs(), r, std::move(archives), job));
  KILN_TRY(auto raw, records_.blobs().read(form.blob.digest));
  auto plain = make_decompressor(std::move(raw));
  cancellable_sink checked(out, job);
  auto moved = store::copy(*plain, checked);
  if (!moved.ok()) return std::move(moved).error().with_context("archive of layer " + r->id);
  return {};
}

// Source: BuildKit's cache/blobs_linux.go.
status ref_layers::write_image_tar(const record_ptr& r, byte_sink& out, const job_context& job) {
  auto& snapshots = records_.root().snapshots();
  std::optional<mounted> lower_mount, upper_mount;
  if (snapshots.layered()) {
    KILN_CHECK(maker_.make_layers({r}, job));
    auto upper = snapshots.fs_of(r->snapshot());
    if (!is_made_on_parent(r)) return write_upper_tar(upper, snapshots.user_namespace(), out, job);
    KILN_TRY(auto lower, files_.state_directory(r->parents()[0], lower_mount, job));
    return write_layer_change_tar(lower, upper, snapshots.user_namespace(), out, job);
  }
  auto sides = sides_of(r);
  KILN_TRY(auto lower, files_.state_directory(sides.lower, lower_mount, job));
  KILN_TRY(auto upper, files_.state_directory(sides.upper, upper_mount, job));
  return write_difference_tar(lower, upper, out, job);
}

status ref_layers::add_blob(std::string_view layer_id, const layer_blob& blob) {
  KILN_TRY(auto r, records_.load(std::string(layer_id)));
  auto hold = records_.blobs().hold(blob.blob.digest);  // until the record does
  if (!records_.blobs().has(blob.blob.digest))
    return make_error(errc::not_found, "blob " + blob.blob.digest.str() + " is not in the store");
  auto chain_id = [](const stored::Record& data) { return data.chain_id(); };
  std::string chain;
  if (r->kind == record_kind::layer && r->look(chain_id).empty()) {
    // Known by its content from now on, should an image bring the same layer.
    auto below = r->parents().empty() ? std::string() : r->parents()[0]->look(chain_id);
    if (r->parents().empty()) chain = blob.diff_id.str();
    else if (!below.empty()) chain = sha256(below + " " + blob.diff_id.str()).str();
    bool taken = false;
    KILN_CHECK(records_.root().database().read(
        [&](const transaction& t) { taken = t.get(table::chains, key_part(chain)).has_value(); }));
    if (taken) chain.clear();
  }
  if (!chain.empty() && records_.claim_chain(chain, r)) chain.clear();
  records_.modify(r, [chain, stored_blob = to_stored(blob)](stored::Record& data) {
    if (!chain.empty()) data.set_chain_id(chain);
    store::add_blob(data, stored_blob);
  });
  return {};
}

status ref_layers::fetch(const ref& r, const digest& blob, const job_context& job) {
  for (const auto& layer : flatten(r.get())) {
    auto data = layer->copy();
    for (const auto& b : data.blobs()) {
      if (b.digest() != blob.str()) continue;
      auto brought = fetch_any(records_.blobs(), layer, {from_stored(b)}, job);
      return brought.ok() ? status() : status(std::move(brought).error());
    }
  }
  return make_error(errc::not_found, "no layer of " + (r ? r.id() : "scratch") + " has a blob " + blob.str());
}

}  // namespace kiln::store
