// Refs that go to other nodes and come from them.
//
// A layer is known everywhere by the record that first was it (`origin`): what comes back to the node that
// made it is the record it was, and what two nodes have from a third is one layer to both.
#include <algorithm>

#include "configs/store.hpp"
#include "store/archive/codec.hpp"
#include "store/archive/layer_tar.hpp"
#include "store/archive/sinks.hpp"
#include "store/store_core.hpp"

namespace kiln::store {

namespace {

constexpr std::string_view transport_media_type = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Tells of every few bytes: whoever waits at the other end must see that something goes on.
class reporting_sink final : public byte_sink {
 public:
  reporting_sink(byte_sink& out, std::string name, const job_context& job)
      : out_(out), name_(std::move(name)), job_(job) {}
  status write(std::string_view bytes) override {
    total_ += static_cast<std::int64_t>(bytes.size());
    if (total_ - told_ >= limits::transport_progress) {
      told_ = total_;
      job_.progress->progress(name_, total_, 0, false);
    }
    KILN_CHECK(job_.check());
    return out_.write(bytes);
  }
  status finish() override { return out_.finish(); }

 private:
  byte_sink& out_;
  std::string name_;
  const job_context& job_;
  std::int64_t total_ = 0, told_ = 0;
};

}  // namespace

std::vector<layer_blob> blobs_of(const stored::Record& r, blob_form form) {
  std::vector<layer_blob> out;
  for (const auto& blob : r.blobs())
    if (blob.form() == static_cast<int>(form)) out.push_back(from_stored(blob));
  return out;
}

void store_core::add_blob(stored::Record& r, const stored::Blob& blob) {
  for (const auto& b : r.blobs())
    if (b.digest() == blob.digest() && b.form() == blob.form()) return;
  *r.add_blobs() = blob;
}

record_options store_core::options_of(const record_ptr& r) {
  if (!r) return {};
  std::lock_guard lock(r->mutex);
  return {r->data.description(), static_cast<record_type>(r->data.type()), r->data.created_at_ns()};
}

// ---------------------------------------------------------------- going

result<std::vector<shipped_layer>> store_core::export_to_peer(const record_ptr& r, const job_context& job) {
  auto layers = flatten(r);
  std::vector<shipped_layer> out;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    KILN_CHECK(job.check());
    // Whether just what it was made on lies beneath it.
    std::vector<record_ptr> made_on;
    if (layers[i]->kind() == record_kind::layer && !layers[i]->parents.empty())
      made_on = flatten(layers[i]->parents[0]);
    bool grounded = layers[i]->kind() == record_kind::layer && !layers[i]->copy().rebased() &&
                    made_on.size() == i && std::equal(made_on.begin(), made_on.end(), layers.begin());
    KILN_TRY(auto shipped, export_layer(layers[i], grounded, r, job));
    out.push_back(std::move(shipped));
  }
  return out;
}

result<shipped_layer> store_core::export_layer(const record_ptr& layer, bool grounded,
                                               const record_ptr& whole, const job_context& job) {
  shipped_layer out;
  auto data = layer->copy();
  bool has_provider = false;
  {
    std::lock_guard lock(layer->mutex);
    has_provider = layer->any_provider() != nullptr;
  }
  out.blobs = blobs_of(data, blob_form::own);
  std::erase_if(out.blobs, [&](const layer_blob& b) { return !has_provider && !blobs_->has(b.blob.digest); });
  out.description = data.description();
  out.created_at_ns = data.created_at_ns();
  bool is_layer = layer->kind() == record_kind::layer;
  auto transports = blobs_of(data, blob_form::transport);
  bool as_blob =
      is_layer && !out.blobs.empty() && (data.from_blob() || (data.snapshot() == 0 && transports.empty()));
  if (as_blob && grounded) return out;

  out.origin = data.origin().empty() ? data.id() : data.origin();
  out.rebased = !grounded;
  auto source = layer;
  if (!grounded && snapshots_->layered()) {
    // On other ground it may change only what it changed on its own.
    KILN_TRY(auto plain, is_plain(layer, job));
    if (!plain) {
      KILN_TRY(source, normalized_layer(layer, whole, job));
      out.origin = source->id;
      KILN_TRY(out.archive, transport_form(layer, blob_form::archive, job));
    }
  }
  // It came as a normalized layer itself.
  if (auto archives = blobs_of(data, blob_form::archive);
      source == layer && !archives.empty() && !data.origin().empty())
    out.archive = std::move(archives.front());
  if (source == layer && data.snapshot() == 0 && !transports.empty())
    out.transport = std::move(transports.front());
  else {
    KILN_TRY(out.transport, transport_form(source, blob_form::transport, job));
  }
  return out;
}

status store_core::fetch_blob(const record_ptr& r, const digest& blob, const job_context& job) {
  for (const auto& layer : flatten(r)) {
    auto data = layer->copy();
    for (const auto& b : data.blobs()) {
      if (b.digest() != blob.str()) continue;
      auto brought = bring(layer, {from_stored(b)}, job);
      if (!brought.ok()) return std::move(brought).error();
      return {};
    }
  }
  return make_error(errc::not_found, "no layer of " + (r ? r->id : "scratch") + " has a blob " + blob.str());
}

/// The layer's blob of that form: the one it has, or one made now and kept with it.
result<layer_blob> store_core::transport_form(const record_ptr& r, blob_form form, const job_context& job) {
  auto existing = [&]() -> std::optional<layer_blob> {
    for (auto& b : blobs_of(r->copy(), form))
      if (blobs_->has(b.blob.digest)) return std::move(b);
    return std::nullopt;
  };
  if (auto found = existing()) return *std::move(found);
  if (snapshots_->layered()) KILN_CHECK(ensure_layers({r}, job));
  else KILN_CHECK(unlazy(r, job));
  KILN_TRY(auto right, materialize_lock::acquire(r, job));
  if (auto found = existing()) return *std::move(found);

  auto name = "packing " + r->id;
  job.progress->progress(name, 0, 0, false);
  KILN_TRY(auto writer, blobs_->create());
  auto compressor = make_compressor(compression::zstd, limits::transport_level, *writer);
  hashing_sink hashed(*compressor);
  buffered_sink gathered(hashed, limits::transport_buffer);
  reporting_sink checked(gathered, name, job);
  auto fill = [&]() -> status {
    if (form == blob_form::archive) KILN_CHECK(write_image_tar(r, checked, job));
    else if (snapshots_->layered())
      KILN_CHECK(write_upper_tar(snapshots_->fs_of(r->snapshot()), snapshots_->user_namespace(), checked, job,
                                 tar_detail::exact));
    else {
      bool is_diff = r->kind() == record_kind::diff;
      auto below = is_diff ? r->parents[0] : r->parents.empty() ? nullptr : r->parents[0];
      auto above = is_diff ? r->parents[1] : r;
      std::optional<scoped_mount> ignored;
      KILN_TRY(auto lower, state_directory(below, ignored, job));
      KILN_TRY(auto upper, state_directory(above, ignored, job));
      KILN_CHECK(write_difference_tar(lower, upper, checked, job, tar_detail::exact));
    }
    KILN_CHECK(gathered.finish());
    return compressor->finish();
  };
  KILN_CHECK(fill());
  layer_blob made;
  made.diff_id = hashed.sum();
  made.blob.media_type = transport_media_type;
  made.blob.size = writer->offset();
  KILN_TRY(auto stored, writer->commit());
  made.blob.digest = stored;
  made.hold = std::move(stored.hold);
  modify(r, [stored_blob = to_stored(made, form)](stored::Record& data) { add_blob(data, stored_blob); });
  job.progress->progress(name, made.blob.size, made.blob.size, true);
  return made;
}

// ---------------------------------------------------------------- coming

result<ref> store_core::receive(const ref& parent, const shipped_layer& shipped,
                                std::shared_ptr<blob_provider> provider, const record_options& options) {
  for (const auto& b : shipped.blobs)
    if (b.diff_id.empty() || b.blob.digest.empty())
      return make_error(errc::invalid_argument, "a layer needs the digest of its blob and of its content");
  ref out;
  if (!shipped.transport) {
    if (shipped.blobs.empty()) return make_error(errc::invalid_argument, "a layer without any blob");
    KILN_TRY(out, layer(parent, shipped.blobs[0], provider, options));
  } else {
    if (shipped.origin.empty() || shipped.transport->diff_id.empty() ||
        shipped.transport->blob.digest.empty())
      return make_error(errc::invalid_argument, "a layer in transport needs its origin and digests");
    // It may have been made here, or have come before.
    if (auto own = load(shipped.origin); own.ok() && !(*own)->copy().is_mutable()) {
      const auto& r = *own;
      bool in_place = r->kind() == record_kind::layer
                          ? (r->parents.empty() ? nullptr : r->parents[0]) == parent.get()
                          : r->kind() == record_kind::diff && !parent;
      if (in_place && is_available(r)) {
        std::lock_guard lock(r->mutex);
        r->count_use();
        out = ref(r);
      }
    }
    if (!out) {
      auto record_data = fresh(record_kind::layer, options);
      record_data.set_origin(shipped.origin);
      record_data.set_rebased(shipped.rebased);
      record_data.set_chain_id(sha256("origin " + shipped.origin + " on " + parent.id()).str());
      *record_data.add_blobs() = to_stored(*shipped.transport, blob_form::transport);
      if (shipped.archive) *record_data.add_blobs() = to_stored(*shipped.archive, blob_form::archive);
      record_ptr existing;
      KILN_TRY(out, new_layer(parent, std::move(record_data), provider, existing));
      if (existing) {
        std::lock_guard lock(existing->mutex);
        existing->take_provider(provider);
        existing->count_use();
        out = ref(existing);
      }
    }
  }
  // Further forms that whoever sent it knows, and can bring.
  std::vector<stored::Blob> more;
  for (const auto& b : shipped.blobs) more.push_back(to_stored(b));
  if (shipped.transport) more.push_back(to_stored(*shipped.transport, blob_form::transport));
  auto known = out.get()->copy();
  std::erase_if(more, [&](const stored::Blob& b) {
    return std::any_of(known.blobs().begin(), known.blobs().end(),
                       [&](const auto& k) { return k.digest() == b.digest() && k.form() == b.form(); });
  });
  // What was made here needs nobody's blobs.
  if (!more.empty() && known.id() != shipped.origin)
    modify(out.get(), [more](stored::Record& r) {
      for (const auto& b : more) add_blob(r, b);
    });
  return out;
}

void store_core::offer(const record_ptr& r, const std::shared_ptr<blob_provider>& peer) {
  for (const auto& layer : flatten(r)) {
    std::lock_guard lock(layer->mutex);
    if (layer->data.snapshot() == 0 || layer->peer) layer->peer = peer;
  }
}

}  // namespace kiln::store
