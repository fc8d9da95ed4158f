#include "gateway/peer/peer_requests.hpp"

#include <algorithm>

#include "base/utf8.hpp"
#include "configs/cluster.hpp"
#include "configs/peers.hpp"
#include "messages/located_id.hpp"

namespace kiln::gateway {

namespace {

namespace cfg = configs::peers;

error nonsense(const std::string& what) { return make_error(errc::invalid_argument, what); }

bool is_key_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

/// Headers that a transport makes itself.
bool is_reserved(std::string_view key) {
  constexpr std::string_view all[] = {"te",         "content-type", "content-length",
                                      "user-agent", "host",         "connection"};
  return key.starts_with("grpc-") || std::find(std::begin(all), std::end(all), key) != std::end(all);
}

/// The id of something here: short, and of no other node.
status check_id(const std::string& id, std::string_view what) {
  if (id.empty() || id.size() > configs::cluster::id_bytes_max || is_remote(id) ||
      id.find('\0') != std::string::npos)
    return nonsense("that is no id of a " + std::string(what));
  return {};
}

kiln::v1::LayerBlob to_proto(const store::layer_blob& blob) {
  kiln::v1::LayerBlob out;
  out.set_media_type(blob.blob.media_type);
  out.set_digest(blob.blob.digest.str());
  out.set_size(blob.blob.size);
  out.set_diff_id(blob.diff_id.str());
  for (const auto& [key, value] : blob.blob.annotations) (*out.mutable_annotations())[key] = value;
  for (const auto& url : blob.blob.urls) out.add_urls(url);
  return out;
}

result<store::layer_blob> from_proto(const kiln::v1::LayerBlob& blob) {
  store::layer_blob out;
  KILN_TRY(out.blob.digest, digest::parse(blob.digest()));
  KILN_TRY(out.diff_id, digest::parse(blob.diff_id()));
  if (blob.size() < 0) return nonsense("a blob of negative size");
  if (blob.media_type().size() > cfg::text_bytes_max || blob.annotations_size() > cfg::annotations_max ||
      blob.urls_size() > cfg::urls_max)
    return nonsense("a blob with too much said of it");
  out.blob.media_type = blob.media_type();
  out.blob.size = blob.size();
  out.blob.annotations.insert(blob.annotations().begin(), blob.annotations().end());
  out.blob.urls.assign(blob.urls().begin(), blob.urls().end());
  return out;
}

}  // namespace

status check_metadata(const call_metadata& metadata) {
  for (const auto& [key, value] : metadata) {
    if (key.empty() || !std::all_of(key.begin(), key.end(), is_key_character))
      return make_error(errc::internal,
                        "header key \"" + key + "\" contains illegal characters not in [0-9a-z-_.]");
    if (key.ends_with("-bin")) continue;
    for (unsigned char c : value)
      if (c < 0x20 || c > 0x7e)
        return make_error(errc::internal,
                          "header key \"" + key + "\" contains value with non-printable ASCII characters");
  }
  return {};
}

result<std::string> ref_asked_for(const kiln::v1::DescribeRefRequest& request) {
  KILN_CHECK(check_id(request.id(), "ref"));
  return request.id();
}

result<wanted_blob> blob_asked_for(const kiln::v1::ProvideBlobRequest& request) {
  KILN_CHECK(check_id(request.ref(), "ref"));
  KILN_TRY(auto blob, digest::parse(request.digest()));
  return wanted_blob{request.ref(), std::move(blob)};
}

result<session_question> session_asked_for(const kiln::v1::SessionInfoRequest& request,
                                           const std::vector<std::string>& nodes,
                                           const session_access& access) {
  KILN_CHECK(check_id(request.id(), "session"));
  KILN_CHECK(access.check_session(nodes, request.id()));
  auto wait = std::clamp<std::int64_t>(request.wait_ms(), 0, cfg::session_wait_max.count());
  return session_question{request.id(), std::chrono::milliseconds{wait}};
}

result<session_call> call_asked_for(kiln::v1::SessionFrame first, const std::vector<std::string>& nodes,
                                    const session_access& access) {
  if (!first.has_open()) return nonsense("a session call begins with its opening");
  auto& open = *first.mutable_open();
  KILN_CHECK(check_id(open.session(), "session"));
  if (open.method().size() > configs::cluster::id_bytes_max) return nonsense("that is no method");
  if (open.metadata_size() > cfg::session_headers_max)
    return nonsense("a session call with " + std::to_string(open.metadata_size()) + " headers");
  if (open.timeout_ms() < 0) return nonsense("a session call that was to end before it began");
  session_call out;
  for (auto& header : *open.mutable_metadata()) {
    if (is_reserved(header.key())) return nonsense("a session call with header \"" + header.key() + "\"");
    out.metadata.emplace_back(std::move(*header.mutable_key()), std::move(*header.mutable_value()));
  }
  if (auto s = check_metadata(out.metadata); !s.ok()) return nonsense(s.error().message);
  out.session = std::move(*open.mutable_session());
  out.method = std::move(*open.mutable_method());
  out.unary = open.unary();
  out.request = std::move(*open.mutable_request());
  out.timeout = std::chrono::milliseconds{
      std::min<std::int64_t>(open.timeout_ms(), cfg::session_call_time_max.count())};
  if (out.unary && out.timeout.count() == 0) out.timeout = cfg::session_call_time_max;
  KILN_CHECK(access.check_call(nodes, out.session, out.method, out.metadata, out.request));
  return out;
}

kiln::v1::RefLayer to_proto(const store::shipped_layer& layer) {
  kiln::v1::RefLayer out;
  out.set_origin(layer.origin);
  for (const auto& blob : layer.blobs) *out.add_blobs() = to_proto(blob);
  if (layer.transport) *out.mutable_transport() = to_proto(*layer.transport);
  if (layer.archive) *out.mutable_archive() = to_proto(*layer.archive);
  out.set_description(valid_utf8(layer.description));
  out.set_created_at_ns(layer.created_at_ns);
  out.set_rebased(layer.rebased);
  return out;
}

result<store::shipped_layer> from_proto(const kiln::v1::RefLayer& layer) {
  if (layer.origin().size() > cfg::text_bytes_max || layer.description().size() > cfg::description_bytes_max)
    return nonsense("a layer with too much said of it");
  store::shipped_layer out;
  out.origin = layer.origin();
  out.description = layer.description();
  out.created_at_ns = layer.created_at_ns();
  out.rebased = layer.rebased();
  for (const auto& blob : layer.blobs()) {
    KILN_TRY(auto b, from_proto(blob));
    out.blobs.push_back(std::move(b));
  }
  if (layer.has_transport()) {
    KILN_TRY(out.transport, from_proto(layer.transport()));
  }
  if (layer.has_archive()) {
    KILN_TRY(out.archive, from_proto(layer.archive()));
  }
  if (!out.transport && out.blobs.empty()) return nonsense("a layer without any blob");
  return out;
}

}  // namespace kiln::gateway
