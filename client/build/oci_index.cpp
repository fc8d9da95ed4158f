#include "client/build/oci_index.hpp"

#include <sys/file.h>

#include <fmt/format.h>

#include "base/json_text.hpp"
#include "client/fd.hpp"

namespace kiln::client {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t index_bytes_max = 64 << 20;
constexpr const char* image_name_key = "io.containerd.image.name";
constexpr const char* ref_name_key = "org.opencontainers.image.ref.name";
constexpr const char* index_media_type = "application/vnd.oci.image.index.v1+json";

// Held while the index is read and rewritten. Directories on read-only file systems are read without it.
class index_lock {
 public:
  static result<index_lock> take(const std::string& directory, bool exclusive) {
    index_lock lock;
    lock.path_ = directory + "/index.json.lock";
    lock.fd_ = unique_fd(::open(lock.path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!lock.fd_) {
      if (!exclusive && (errno == EROFS || errno == EPERM || errno == EACCES)) return lock;
      return errno_error(errno, "could not lock " + lock.path_);
    }
    int locked;
    do locked = ::flock(lock.fd_.get(), exclusive ? LOCK_EX : LOCK_SH);
    while (locked != 0 && errno == EINTR);
    if (locked != 0) return errno_error(errno, "could not lock " + lock.path_);
    return lock;
  }
  index_lock(index_lock&&) = default;
  index_lock& operator=(index_lock&&) = default;
  ~index_lock() {
    if (fd_) ::unlink(path_.c_str());
  }

 private:
  index_lock() = default;
  std::string path_;
  unique_fd fd_;
};

std::string annotation(const ordered_json& manifest, const char* key) {
  auto it = manifest.find("annotations");
  if (it == manifest.end() || !it->is_object()) return {};
  auto value = it->find(key);
  return value != it->end() && value->is_string() ? text_value(*value) : std::string();
}

result<ordered_json> load(const std::string& path) {
  auto text = read_file(path, index_bytes_max);
  if (!text.ok()) return std::move(text).error().with_context("could not read " + path);
  auto read = parse_json<ordered_json>(*text);
  if (!read.ok()) return std::move(read).error().with_context("could not unmarshal " + path);
  auto parsed = *std::move(read);
  if (!parsed.is_object()) return make_error(errc::invalid_argument, "could not unmarshal " + path);
  if (!parsed.contains("manifests") || !parsed["manifests"].is_array())
    parsed["manifests"] = ordered_json::array();
  return parsed;
}

}  // namespace

std::string oci_reference_name(const std::string& name) {
  auto slash = name.rfind('/');
  auto tail = slash == std::string::npos ? 0 : slash + 1;
  if (auto at = name.find('@', tail); at != std::string::npos) {
    auto colon = name.find(':', tail);
    return colon < at ? name.substr(colon + 1) : name.substr(at);
  }
  auto colon = name.find(':', tail);
  return colon == std::string::npos ? (slash == std::string::npos ? name : std::string())
                                    : name.substr(colon + 1);
}

result<std::optional<std::string>> oci_index::find(const std::string& tag) const {
  KILN_TRY(auto lock, index_lock::take(directory_, false));
  KILN_TRY(auto index, load(directory_ + "/index.json"));
  for (const char* key : {image_name_key, ref_name_key})
    for (const auto& manifest : index["manifests"])
      if (manifest.is_object() && annotation(manifest, key) == tag && manifest.contains("digest") &&
          manifest["digest"].is_string())
        return std::optional<std::string>(text_member(manifest, "digest"));
  return std::optional<std::string>();
}

result<std::vector<std::string>> oci_index::digests() const {
  KILN_TRY(auto lock, index_lock::take(directory_, false));
  KILN_TRY(auto index, load(directory_ + "/index.json"));
  std::vector<std::string> out;
  for (const auto& manifest : index["manifests"])
    if (manifest.is_object() && manifest.contains("digest") && manifest["digest"].is_string())
      out.push_back(text_member(manifest, "digest"));
  return out;
}

status oci_index::put_tag(const std::string& descriptor, const std::string& tag) {
  return put(descriptor, {}, tag);
}

status oci_index::put_name(const std::string& descriptor, const std::string& name) {
  return put(descriptor, name, oci_reference_name(name));
}

status oci_index::put(const std::string& descriptor, const std::string& image_name,
                      const std::string& ref_name) {
  auto entry = json_or_null<ordered_json>(descriptor);
  if (!entry.is_object())
    return make_error(errc::invalid_argument, "the daemon's manifest descriptor is not JSON");
  KILN_TRY(auto lock, index_lock::take(directory_, true));
  auto path = directory_ + "/index.json";
  ordered_json index = {
      {"schemaVersion", 2}, {"mediaType", index_media_type}, {"manifests", ordered_json::array()}};
  if (::access(path.c_str(), F_OK) == 0) {
    KILN_TRY(index, load(path));
  }
  auto& annotations = entry["annotations"];
  if (!annotations.is_object()) annotations = ordered_json::object();
  if (!image_name.empty()) annotations[image_name_key] = image_name;
  annotations[ref_name_key] = ref_name;
  auto kept = ordered_json::array();
  for (const auto& manifest : index["manifests"])
    if (annotation(manifest, ref_name_key) != ref_name || annotation(manifest, image_name_key) != image_name)
      kept.push_back(manifest);
  kept.push_back(std::move(entry));
  index["manifests"] = std::move(kept);
  KILN_CHECK(write_file_atomically(directory_ + "/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", 0644));
  return write_file_atomically(path, json_text(index), 0644);
}

}  // namespace kiln::client
