#include "store/layers/fetch_blob.hpp"

#include <algorithm>
#include <iterator>

#include <spdlog/spdlog.h>

#include "messages/layer_progress.hpp"
#include "store/layers/layer_plan.hpp"

namespace kiln::store {

result<layer_blob> fetch_any(blob_store& blobs, const record_ptr& layer, std::vector<layer_blob> forms,
                             const job_context& asked) {
  auto job = for_layer(asked, layer->id);
  auto provider = layer->provider();
  for (const auto& form : forms)
    if (auto info = blobs.info(form.blob.digest); info.ok()) {
      if (form.blob.size <= 0 || info->size == form.blob.size) return form;
      spdlog::warn("store: blob {} has a wrong size; dropping it", form.blob.digest.str());
      KILN_CHECK(blobs.remove(form.blob.digest));
    }
  if (!provider)
    return make_error(errc::not_found, "blob " + forms[0].blob.digest.str() + " of layer " + layer->id +
                                           " is not here and nothing is known to bring it");
  status last;
  for (const auto& form : forms) {
    last = provider->fetch(form.blob, blobs, job);
    if (last.ok()) {
      if (blobs.has(form.blob.digest)) return form;
      last = make_error(errc::data_loss,
                        "blob " + form.blob.digest.str() + " was fetched but is not in the store");
    }
    KILN_CHECK(job.check());
  }
  return std::move(last).error();
}

result<layer_blob> fetch_content(blob_store& blobs, const record_ptr& layer, const job_context& job) {
  auto forms = layer->blobs(blob_form::transport);
  auto own = layer->blobs(blob_form::own);
  forms.insert(forms.end(), std::make_move_iterator(own.begin()), std::make_move_iterator(own.end()));
  if (forms.empty())
    return make_error(errc::not_found, "layer " + layer->id + " has neither a snapshot nor a blob");
  // Who has its files may be asked for it any time, and whoever brought them may be gone by then.
  if (auto archives = layer->blobs(blob_form::archive); !archives.empty())
    KILN_CHECK(fetch_any(blobs, layer, std::move(archives), job));
  return fetch_any(blobs, layer, std::move(forms), job);
}

bool is_available(const record_ptr& r, const blob_store& blobs) {
  for (const auto& layer : flatten(r)) {
    if (layer->kind != record_kind::layer || layer->provider()) continue;
    bool there = layer->look([&blobs](const stored::Record& data) {
      return data.snapshot() != 0 ||
             std::any_of(data.blobs().begin(), data.blobs().end(),
                         [&blobs](const auto& blob) { return blobs.has(digest::trusted(blob.digest())); });
    });
    if (!there) return false;
  }
  return true;
}

}  // namespace kiln::store
