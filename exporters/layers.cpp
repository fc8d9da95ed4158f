#include "exporters/layers.hpp"

#include <algorithm>

#include "base/parallel.hpp"
#include "configs/exporters.hpp"
#include "exporters/tar_times.hpp"
#include "distribution/media_types.hpp"
#include "store/archive/codec.hpp"
#include "store/archive/estargz.hpp"
#include "store/archive/sinks.hpp"
#include "store/files/first_bytes.hpp"

namespace kiln::exporters {
namespace {

/// Compresses what `fill` writes (an uncompressed tar) into a new blob of the store.
struct written_blob {
  store::layer_blob made;
  digest archive;  // of what `fill` wrote
};
result<written_blob> write_blob(store::blob_store& blobs, const compression_options& how,
                                const job_context& job,
                                const std::function<status(store::byte_sink&)>& fill) {
  KILN_TRY(auto writer, blobs.create());
  std::unique_ptr<store::byte_sink> compressor;
  store::estargz_writer* estargz = nullptr;
  if (how.kind == store::compression::estargz) {
    auto own = std::make_unique<store::estargz_writer>(how.level, *writer);
    estargz = own.get();
    compressor = std::move(own);
  } else {
    compressor = store::make_compressor(how.kind, how.level, *writer);
  }
  store::hashing_sink hashed(*compressor);
  store::buffered_sink gathered(hashed, configs::export_buffer_size);
  store::cancellable_sink checked(gathered, job);
  KILN_CHECK(fill(checked));
  KILN_CHECK(gathered.finish());
  KILN_CHECK(compressor->finish());
  written_blob out;
  out.archive = out.made.diff_id = hashed.sum();
  out.made.blob.media_type = layer_media_type(how.kind);
  out.made.blob.size = writer->offset();
  if (estargz) {
    const auto& s = estargz->summary();
    out.made.diff_id = s.diff_id;
    out.made.blob.annotations[store::estargz_table_annotation] = s.table.str();
    out.made.blob.annotations[store::estargz_size_annotation] = std::to_string(s.plain_size);
  }
  KILN_TRY(auto stored, writer->commit());
  out.made.blob.digest = stored;
  out.made.hold = std::move(stored.hold);
  return out;
}

/// Reads a layer's blob without compression; of an eStargz one, whatever its annotations say, only the
/// archive it was made of. `table`: whether it is such a one.
result<std::unique_ptr<store::byte_source>> read_archive(store::blob_store& blobs, const descriptor& blob,
                                                         bool& table) {
  table = false;
  if (blob.size > static_cast<std::int64_t>(store::estargz_footer_size)) {
    KILN_TRY(auto end,
             blobs.read(blob.digest, blob.size - static_cast<std::int64_t>(store::estargz_footer_size)));
    std::string footer(store::estargz_footer_size, '\0');
    std::size_t have = 0;
    for (std::size_t got = 1; got > 0 && have < footer.size(); have += got) {
      KILN_TRY(got, end->read(std::span(footer).subspan(have)));
    }
    if (auto at = store::estargz_table_offset(footer); at && *at < blob.size) {
      table = true;
      KILN_TRY(auto in, blobs.read(blob.digest));
      return store::make_decompressor(std::make_unique<store::first_bytes>(std::move(in), *at));
    }
  }
  KILN_TRY(auto in, blobs.read(blob.digest));
  return store::make_decompressor(std::move(in));
}

/// Threads of one export, however many platforms or layers it has.
constexpr std::size_t threads_max = 16;

/// What a media type calls gzip may be eStargz: its annotation tells.
store::compression kind_of(const store::layer_blob& b) {
  if (b.blob.annotations.contains(store::estargz_table_annotation)) return store::compression::estargz;
  return store::compression_of_media_type(b.blob.media_type).value_or(store::compression::gzip);
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
      if (kind_of(b) == compression_.kind) return out.blob = b, true;
    if (compression_.force || blobs.empty()) return false;
    return out.blob = blobs.front(), true;
  };
  if (pick(info.blobs)) return out;
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
  KILN_TRY(auto written, write_blob(store_.blobs(), compression_, job, [&](store::byte_sink& out) {
             return store_.layers().write_tar(info.id, out, job);
           }));
  return std::move(written.made);
}

result<store::layer_blob> layer_exporter::convert(const store::layer_blob& from, const job_context& job) {
  bool had_table = false;
  KILN_TRY(auto written, write_blob(store_.blobs(), compression_, job, [&](store::byte_sink& out) -> status {
             KILN_TRY(auto plain, read_archive(store_.blobs(), from.blob, had_table));
             auto moved = store::copy(*plain, out);
             if (!moved.ok()) return std::move(moved).error();
             return {};
           }));
  if (!had_table && written.archive != from.diff_id)
    return make_error(errc::data_loss, "layer " + from.blob.digest.str() + " has diff id " +
                                           written.archive.str() + ", expected " + from.diff_id.str());
  return std::move(written.made);
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
    compression_options how = compression_;
    if (!how.force) how.kind = kind_of(layer.blob);
    auto made = write_blob(store_.blobs(), how, job, [&](store::byte_sink& out) -> status {
      bool had_table = false;
      KILN_TRY(auto plain, read_archive(store_.blobs(), layer.blob.blob, had_table));
      tar_time_clamp clamp(out, epoch);
      auto moved = store::copy(*plain, clamp);
      if (!moved.ok()) return std::move(moved).error();
      return clamp.finish();
    });
    if (!made.ok())
      return std::move(made).error().with_context("failed to rewrite the times of layer " +
                                                  layer.blob.blob.digest.str());
    layer.blob = std::move(made->made);
    // Tells whoever sees the image. Source: util/converter/converter.go.
    layer.blob.blob.annotations["buildkit/rewritten-timestamp"] = std::to_string(epoch);
    layer.provider = nullptr;
    return {};
  });
}

}  // namespace kiln::exporters
