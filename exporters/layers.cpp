#include "exporters/layers.hpp"

#include <algorithm>

#include "base/parallel.hpp"
#include "configs/exporters.hpp"
#include "exporters/tar_times.hpp"
#include "distribution/media_types.hpp"
#include "store/archive/codec.hpp"
#include "store/archive/sinks.hpp"

namespace kiln::exporters {
namespace {

/// Compresses what `fill` writes (an uncompressed tar) into a new blob of the store.
result<store::layer_blob> write_blob(store::blob_store& blobs, const compression_options& how,
                                     const job_context& job,
                                     const std::function<status(store::byte_sink&)>& fill) {
  KILN_TRY(auto writer, blobs.create());
  auto compressor = store::make_compressor(how.kind, how.level, *writer);
  store::hashing_sink hashed(*compressor);
  store::buffered_sink gathered(hashed, configs::export_buffer_size);
  store::cancellable_sink checked(gathered, job);
  KILN_CHECK(fill(checked));
  KILN_CHECK(gathered.finish());
  KILN_CHECK(compressor->finish());
  store::layer_blob out;
  out.diff_id = hashed.sum();
  out.blob.media_type = layer_media_type(how.kind);
  out.blob.size = writer->offset();
  KILN_TRY(auto stored, writer->commit());
  out.blob.digest = stored;
  out.hold = std::move(stored.hold);
  return out;
}

/// Threads of one export, however many platforms or layers it has.
constexpr std::size_t threads_max = 16;

bool is_wanted(const store::layer_blob& b, store::compression kind) {
  return store::compression_of_media_type(b.blob.media_type) == kind;
}

}  // namespace

std::string_view layer_media_type(store::compression kind) {
  namespace media = distribution::media;
  switch (kind) {
    case store::compression::uncompressed: return media::oci_layer;
    case store::compression::zstd: return media::oci_layer_zstd;
    case store::compression::gzip:
    case store::compression::estargz: break;
  }
  return media::oci_layer_gzip;
}

status in_parallel(std::size_t n, unsigned threads, const std::function<status(std::size_t)>& work) {
  return parallel_try("export", n, std::min<std::size_t>(threads, threads_max), work);
}

result<std::vector<std::vector<exported_layer>>> layer_exporter::run(std::span<const store::ref> refs,
                                                                     const job_context& job) {
  std::vector<std::vector<store::layer_info>> infos;
  std::vector<std::vector<exported_layer>> out;
  std::vector<std::pair<std::size_t, std::size_t>> todo;
  for (const auto& r : refs) {
    std::vector<store::layer_info> layers;
    if (r) {
      KILN_TRY(layers, store_.layers().of(r, job));
    }
    for (std::size_t i = 0; i < layers.size(); ++i) todo.emplace_back(infos.size(), i);
    out.emplace_back(layers.size());
    infos.push_back(std::move(layers));
  }
  // Layers that two refs share are made once.
  std::map<std::string, std::pair<std::size_t, std::size_t>> first;
  std::vector<std::pair<std::size_t, std::size_t>> unique, repeated;
  for (auto at : todo)
    (first.emplace(infos[at.first][at.second].id, at).second ? unique : repeated).push_back(at);
  KILN_CHECK(in_parallel(unique.size(), configs::export_parallel_layers, [&](std::size_t i) -> status {
    auto [r, l] = unique[i];
    KILN_TRY(out[r][l], make(infos[r][l], job));
    return {};
  }));
  for (auto [r, l] : repeated) {
    auto [r0, l0] = first[infos[r][l].id];
    out[r][l] = out[r0][l0];
  }
  return out;
}

result<exported_layer> layer_exporter::make(const store::layer_info& info, const job_context& job) {
  KILN_CHECK(job.check());
  exported_layer out{{}, info.provider, info.description, info.created_at_ns};
  auto pick = [&](const std::vector<store::layer_blob>& blobs) {
    // The wanted kind first; another is good enough unless forced.
    for (const auto& b : blobs)
      if (is_wanted(b, compression_.kind)) return out.blob = b, true;
    if (compression_.force || blobs.empty()) return false;
    return out.blob = blobs.front(), true;
  };
  bool estargz = compression_.kind == store::compression::estargz;
  if (estargz) {
    // What a media type calls gzip may be eStargz: only the footer knows, and only of blobs at hand.
    for (const auto& b : info.blobs)
      if (b.blob.annotations.contains("containerd.io/snapshot/stargz/toc.digest")) return out.blob = b, out;
    if (!compression_.force && !info.blobs.empty()) return out.blob = info.blobs.front(), out;
  } else if (pick(info.blobs)) {
    return out;
  }
  std::optional<distribution::hosts::turn> turn;
  if (hosts_ != nullptr) {
    KILN_TRY(auto mine,
             hosts_->wait_turn("layer-" + info.id + "-" + std::string(store::to_string(compression_.kind)),
                               job.stop));
    turn.emplace(std::move(mine));
  }
  if (!info.blobs.empty()) {
    exported_layer from = out;
    from.blob = info.blobs.front();
    KILN_CHECK(ensure(from, job));
    KILN_TRY(out.blob, convert(from.blob, job));
  } else {
    KILN_TRY(out.blob, compress_new(info, job));
  }
  KILN_CHECK(store_.layers().add_blob(info.id, out.blob));
  return out;
}

result<store::layer_blob> layer_exporter::compress_new(const store::layer_info& info,
                                                       const job_context& job) {
  return write_blob(store_.blobs(), compression_, job,
                    [&](store::byte_sink& out) { return store_.layers().write_tar(info.id, out, job); });
}

result<store::layer_blob> layer_exporter::convert(const store::layer_blob& from, const job_context& job) {
  auto made = write_blob(store_.blobs(), compression_, job, [&](store::byte_sink& out) -> status {
    KILN_TRY(auto in, store_.blobs().read(from.blob.digest));
    auto plain = store::make_decompressor(std::move(in));
    auto moved = store::copy(*plain, out);
    if (!moved.ok()) return std::move(moved).error();
    return {};
  });
  if (made.ok() && made->diff_id != from.diff_id)
    return make_error(errc::data_loss, "layer " + from.blob.digest.str() + " has diff id " +
                                           made->diff_id.str() + ", expected " + from.diff_id.str());
  return made;
}

status layer_exporter::ensure(const exported_layer& layer, const job_context& job) {
  const descriptor& d = layer.blob.blob;
  if (store_.blobs().has(d.digest)) return {};
  if (!layer.provider)
    return make_error(errc::not_found, "content of layer " + d.digest.str() + " is not available");
  return layer.provider->fetch(d, store_.blobs(), job);
}

status layer_exporter::rewrite_times(std::vector<exported_layer>& layers, const std::vector<digest>& base,
                                     std::int64_t epoch, const job_context& job) {
  std::size_t keep = 0;
  while (keep < layers.size() && keep < base.size() && layers[keep].blob.diff_id == base[keep]) ++keep;
  return in_parallel(layers.size() - keep, configs::export_parallel_layers, [&](std::size_t i) -> status {
    exported_layer& layer = layers[keep + i];
    KILN_CHECK(ensure(layer, job));
    auto kind = store::compression_of_media_type(layer.blob.blob.media_type);
    compression_options how = compression_;
    if (!how.force && kind) how.kind = *kind;
    auto made = write_blob(store_.blobs(), how, job, [&](store::byte_sink& out) -> status {
      KILN_TRY(auto in, store_.blobs().read(layer.blob.blob.digest));
      auto plain = store::make_decompressor(std::move(in));
      tar_time_clamp clamp(out, epoch);
      auto moved = store::copy(*plain, clamp);
      if (!moved.ok()) return std::move(moved).error();
      return clamp.finish();
    });
    if (!made.ok())
      return std::move(made).error().with_context("failed to rewrite the times of layer " +
                                                  layer.blob.blob.digest.str());
    layer.blob = *std::move(made);
    // Tells whoever sees the image. Source: util/converter/converter.go.
    layer.blob.blob.annotations["buildkit/rewritten-timestamp"] = std::to_string(epoch);
    layer.provider = nullptr;
    return {};
  });
}

}  // namespace kiln::exporters
