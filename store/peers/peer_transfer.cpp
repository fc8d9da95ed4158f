#include "store/peers/peer_transfer.hpp"

#include <algorithm>

#include "base/digest.hpp"
#include "configs/store.hpp"
#include "store/archive/codec.hpp"
#include "store/archive/layer_tar.hpp"
#include "store/archive/sinks.hpp"
#include "store/layers/fetch_blob.hpp"
#include "store/layers/layer_plan.hpp"
#include "store/layers/ref_layers.hpp"
#include "store/materialize/materializer.hpp"
#include "store/materialize/ref_files.hpp"
#include "store/records/record_table.hpp"
#include "store/ref_store.hpp"

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

// ---------------------------------------------------------------- going

result<std::vector<shipped_layer>> peer_transfer::export_to_peer(const ref& r, const job_context& job) {
  auto layers = flatten(r.get());
  std::vector<shipped_layer> out;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    KILN_CHECK(job.check());
    // Whether just what it was made on lies beneath it.
    bool in_place = layers[i]->kind == record_kind::layer && !layers[i]->rebased;
    if (in_place) {
      auto made_on = flatten(sides_of(layers[i]).lower);
      in_place = made_on.size() == i && std::equal(made_on.begin(), made_on.end(), layers.begin());
    }
    KILN_TRY(auto shipped, export_layer(layers[i], in_place, r.get(), job));
    out.push_back(std::move(shipped));
  }
  return out;
}

result<shipped_layer> peer_transfer::export_layer(const record_ptr& layer, bool in_place,
                                                  const record_ptr& whole, const job_context& job) {
  shipped_layer out;
  auto data = layer->copy();
  bool has_provider = layer->provider() != nullptr;
  out.blobs = blobs_of(data, blob_form::own);
  std::erase_if(out.blobs,
                [&](const layer_blob& b) { return !has_provider && !records_.blobs().has(b.blob.digest); });
  out.description = data.description();
  out.created_at_ns = data.created_at_ns();
  bool is_layer = layer->kind == record_kind::layer;
  auto transports = blobs_of(data, blob_form::transport);
  bool as_blob =
      is_layer && !out.blobs.empty() && (data.from_blob() || (data.snapshot() == 0 && transports.empty()));
  if (as_blob && in_place) return out;

  out.origin = data.origin().empty() ? data.id() : data.origin();
  out.rebased = !in_place;
  auto source = layer;
  if (!in_place && records_.root().snapshots().layered()) {
    // On other layers it may change only what it changed on its own.
    KILN_TRY(bool is_normalized, files_.is_normalized(layer, job));
    if (!is_normalized) {
      KILN_TRY(source, files_.normalized_layer(layer, whole, job));
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

/// The layer's blob of that form: the one it has, or one made now and kept with it.
result<layer_blob> peer_transfer::transport_form(const record_ptr& r, blob_form form,
                                                 const job_context& job) {
  auto existing = [&]() -> std::optional<layer_blob> {
    for (auto& b : r->blobs(form))
      if (records_.blobs().has(b.blob.digest)) return std::move(b);
    return std::nullopt;
  };
  if (auto found = existing()) return *std::move(found);
  if (records_.root().snapshots().layered()) KILN_CHECK(maker_.make_layers({r}, job));
  else KILN_CHECK(maker_.make(r, job));
  KILN_TRY(auto lock, materialize_lock::acquire(r, job));
  if (auto found = existing()) return *std::move(found);
  KILN_TRY(auto made, pack(r, form, job));
  records_.modify(
      r, [stored_blob = to_stored(made, form)](stored::Record& data) { add_blob(data, stored_blob); });
  return made;
}

result<layer_blob> peer_transfer::pack(const record_ptr& r, blob_form form, const job_context& job) {
  auto name = "packing " + r->id;
  job.progress->progress(name, 0, 0, false);
  KILN_TRY(auto writer, records_.blobs().create());
  auto compressor = make_compressor(compression::zstd, limits::transport_level, *writer);
  hashing_sink hashed(*compressor);
  buffered_sink gathered(hashed, limits::transport_buffer);
  reporting_sink checked(gathered, name, job);
  if (form == blob_form::archive) KILN_CHECK(layers_.write_image_tar(r, checked, job));
  else KILN_CHECK(write_exact_tar(r, checked, job));
  KILN_CHECK(gathered.finish());
  KILN_CHECK(compressor->finish());
  layer_blob made;
  made.diff_id = hashed.sum();
  made.blob.media_type = transport_media_type;
  made.blob.size = writer->offset();
  KILN_TRY(auto stored, writer->commit());
  made.blob.digest = stored;
  made.hold = std::move(stored.hold);
  job.progress->progress(name, made.blob.size, made.blob.size, true);
  return made;
}

/// The layer's change with what images leave out.
status peer_transfer::write_exact_tar(const record_ptr& r, byte_sink& out, const job_context& job) {
  auto& snapshots = records_.root().snapshots();
  if (snapshots.layered())
    return write_upper_tar(snapshots.fs_of(r->snapshot()), snapshots.user_namespace(), out, job,
                           tar_detail::exact);
  auto sides = sides_of(r);
  std::optional<mounted> none;  // whole states are directories here
  KILN_TRY(auto lower, files_.state_directory(sides.lower, none, job));
  KILN_TRY(auto upper, files_.state_directory(sides.upper, none, job));
  return write_difference_tar(lower, upper, out, job, tar_detail::exact);
}

// ---------------------------------------------------------------- coming

result<ref> peer_transfer::import_from_peer(const ref& parent, const shipped_layer& shipped,
                                            std::shared_ptr<blob_provider> provider,
                                            const record_options& options) {
  for (const auto& b : shipped.blobs)
    if (b.diff_id.empty() || b.blob.digest.empty())
      return make_error(errc::invalid_argument, "a layer needs the digest of its blob and of its content");
  ref out;
  if (shipped.transport) {
    KILN_TRY(out, import_transport(parent, shipped, std::move(provider), options));
  } else if (!shipped.blobs.empty()) {
    KILN_TRY(out, store_.layer(parent, shipped.blobs[0], std::move(provider), options));
  } else {
    return make_error(errc::invalid_argument, "a layer without any blob");
  }
  // What was made here needs nobody's blobs.
  if (out.id() != shipped.origin) add_forms(out.get(), shipped);
  return out;
}

result<ref> peer_transfer::import_transport(const ref& parent, const shipped_layer& shipped,
                                            std::shared_ptr<blob_provider> provider,
                                            const record_options& options) {
  if (shipped.origin.empty() || shipped.transport->diff_id.empty() || shipped.transport->blob.digest.empty())
    return make_error(errc::invalid_argument, "a layer in transport needs its origin and digests");
  if (auto own = known_here(parent, shipped)) {
    own->count_use();
    return ref(std::move(own));
  }
  auto data = record_table::fresh(record_kind::layer, options);
  data.set_origin(shipped.origin);
  data.set_rebased(shipped.rebased);
  data.set_chain_id(sha256("origin " + shipped.origin + " on " + parent.id()).str());
  *data.add_blobs() = to_stored(*shipped.transport, blob_form::transport);
  if (shipped.archive) *data.add_blobs() = to_stored(*shipped.archive, blob_form::archive);
  KILN_TRY(auto added, records_.add_layer(parent.get(), std::move(data), std::move(provider)));
  return ref(std::move(added.layer));
}

/// The very record, where the layer was made here or came before under its own name; null otherwise.
record_ptr peer_transfer::known_here(const ref& parent, const shipped_layer& shipped) {
  auto own = records_.load(shipped.origin);
  if (!own.ok() || (*own)->is_mutable()) return nullptr;
  const auto& r = *own;
  bool in_place = r->kind == record_kind::layer ? sides_of(r).lower == parent.get()
                                                : r->kind == record_kind::diff && !parent;
  return in_place && is_available(r, records_.blobs()) ? r : nullptr;
}

/// Further forms that whoever sent it knows, and can bring.
void peer_transfer::add_forms(const record_ptr& r, const shipped_layer& shipped) {
  std::vector<stored::Blob> more;
  for (const auto& b : shipped.blobs) more.push_back(to_stored(b));
  if (shipped.transport) more.push_back(to_stored(*shipped.transport, blob_form::transport));
  auto known = r->copy();
  std::erase_if(more, [&](const stored::Blob& b) {
    return std::any_of(known.blobs().begin(), known.blobs().end(),
                       [&](const auto& k) { return k.digest() == b.digest() && k.form() == b.form(); });
  });
  if (more.empty()) return;
  records_.modify(r, [more](stored::Record& data) {
    for (const auto& b : more) add_blob(data, b);
  });
}

void peer_transfer::add_peer_source(const ref& r, const std::shared_ptr<blob_provider>& peer) {
  for (const auto& layer : flatten(r.get())) layer->add_peer(peer);
}

}  // namespace kiln::store
