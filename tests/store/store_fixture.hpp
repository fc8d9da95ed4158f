// A store on a temporary root, and shorthand for what store tests do over and over.
#pragma once

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>

#include "base/digest.hpp"
#include "base/files.hpp"
#include "store/database/cache_keys.hpp"
#include "store/files/mount.hpp"
#include "store/ref_store.hpp"
#include "store/archive/tar_writer.hpp"

namespace kiln::store::testing {

namespace fs = std::filesystem;

/// The value of a result that must be one.
template <class T>
T must(result<T> r) {
  if (!r.ok()) FAIL(r.error().message);
  return *std::move(r);
}
inline void must(status s) {
  if (!s.ok()) FAIL(s.error().message);
}

class temporary_root {
 public:
  temporary_root() : path_(fs::temp_directory_path() / ("kiln-store-" + new_id())) {
    fs::create_directories(path_);
  }
  ~temporary_root() {
    (void)unmount_below(path_);
    (void)remove_tree(path_);
  }
  temporary_root(const temporary_root&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

inline std::unique_ptr<ref_store> open_store(const temporary_root& root,
                                             snapshotter_kind kind = snapshotter_kind::automatic) {
  return must(ref_store::open({root.path(), kind}));
}

inline void write(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string read(const fs::path& path) { return must(read_file(path, 1 << 26)); }

/// A mutable snapshot, mounted for as long as this lives.
struct open_snapshot {
  mutable_ref ref;
  mounted mount;
  fs::path path() const { return mount.path(); }
};

inline open_snapshot begin(ref_store& store, const ref& parent, const record_options& options = {}) {
  auto m = must(store.create(parent, options, {}));
  auto specs = must(store.files().mounts(m));
  auto mount = must(mounted::make(store, specs));
  return {std::move(m), std::move(mount)};
}

inline ref end(ref_store& store, open_snapshot s) {
  must(s.mount.unmount());
  return must(store.commit(std::move(s.ref)));
}

/// A layer on `parent` with these files; a null value removes.
inline ref layer_of(ref_store& store, const ref& parent, const std::map<std::string, const char*>& files,
                    const record_options& options = {}) {
  auto s = begin(store, parent, options);
  for (const auto& [name, text] : files) {
    if (text) write(s.path() / name, text);
    else fs::remove_all(s.path() / name);
  }
  return end(store, std::move(s));
}

inline mounted mount_of(ref_store& store, const ref& r) {
  return must(mounted::make(store, must(store.files().mounts(r, {}))));
}

/// All files of a ref with their text ("dir/" for directories, "-> x" for links).
inline std::map<std::string, std::string> listing(const fs::path& top) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(top)) {
    auto name = fs::relative(entry.path(), top).string();
    if (entry.is_symlink()) all[name] = "-> " + fs::read_symlink(entry.path()).string();
    else if (entry.is_directory()) all[name] = "/";
    else if (entry.is_regular_file()) all[name] = read(entry.path());
    else all[name] = "special";
  }
  return all;
}
inline std::map<std::string, std::string> listing(ref_store& store, const ref& r) {
  return listing(mount_of(store, r).path());
}

/// Collects what is written.
class string_sink final : public byte_sink {
 public:
  status write(std::string_view bytes) override {
    text += bytes;
    return {};
  }
  status finish() override { return {}; }
  std::string text;
};

class string_source final : public byte_source {
 public:
  explicit string_source(std::string t) : text_(std::move(t)) {}
  result<std::size_t> read(std::span<char> buffer) override {
    auto count = std::min(buffer.size(), text_.size() - at_);
    std::copy_n(text_.data() + at_, count, buffer.data());
    at_ += count;
    return count;
  }

 private:
  std::string text_;
  std::size_t at_ = 0;
};

/// Builds tar archives in memory.
class tar_builder {
 public:
  tar_builder& add(tar_entry e, std::string_view content = {}) {
    e.size = static_cast<std::int64_t>(content.size());
    if (e.mode == 0) e.mode = e.type == '5' ? 0755 : 0644;
    tar_writer w(sink_);
    must(w.header(e));
    must(w.content(content));
    must(w.end_entry());
    return *this;
  }
  tar_builder& file(const std::string& name, std::string_view content) {
    return add({.name = name}, content);
  }
  tar_builder& directory(const std::string& name) { return add({.name = name + "/", .type = '5'}); }
  tar_builder& symlink(const std::string& name, const std::string& to) {
    return add({.name = name, .type = '2', .mode = 0777, .link = to});
  }
  tar_builder& link(const std::string& name, const std::string& to) {
    return add({.name = name, .type = '1', .link = to});
  }
  std::string text() {
    auto copy = sink_.text;
    return copy.append(1024, '\0');
  }

 private:
  string_sink sink_;
};

/// Serves blobs from memory and counts what is fetched.
class memory_provider final : public blob_provider {
 public:
  status fetch(const descriptor& blob, blob_store& into, const job_context&) override {
    auto found = blobs.find(blob.digest.str());
    if (found == blobs.end()) return make_error(errc::not_found, "no such blob");
    ++fetched;
    auto stored = into.put(found->second);
    if (!stored) return std::move(stored).error();
    return {};
  }
  layer_blob add(const std::string& bytes) {
    auto d = sha256(bytes);
    blobs[d.str()] = bytes;
    layer_blob b;
    b.blob.media_type = "application/vnd.oci.image.layer.v1.tar";
    b.blob.digest = d;
    b.blob.size = static_cast<std::int64_t>(bytes.size());
    b.diff_id = d;
    return b;
  }
  std::map<std::string, std::string> blobs;
  std::atomic<int> fetched{0};
};

inline std::string tar_of(ref_store& store, std::string_view layer_id) {
  string_sink sink;
  must(store.layers().write_tar(layer_id, sink, {}));
  return sink.text;
}

}  // namespace kiln::store::testing
