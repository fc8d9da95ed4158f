#include "client/session/blob_directory.hpp"

#include <filesystem>

#include <ctime>

#include <sys/file.h>
#include <sys/stat.h>

#include <fmt/format.h>

namespace kiln::client {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t hash_chunk_bytes = 1 << 20;
constexpr int begin_attempts = 10;
constexpr std::int64_t stale_after_ns = 3'600'000'000'000;  // other tools' writers hold no lock of ours

std::int64_t modified_ns(const struct stat& st) {
  return st.st_mtim.tv_sec * 1'000'000'000LL + st.st_mtim.tv_nsec;
}

/// Opens the data of an unfinished blob for its only writer; unavailable while there is another.
result<unique_fd> hold(const std::string& data, int flags) {
  for (;;) {
    unique_fd fd(::open(data.c_str(), O_RDWR | O_CLOEXEC | flags, 0666));
    if (!fd) return errno_error(errno, data);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) return make_error(errc::unavailable, data + ": locked");
      return errno_error(errno, data);
    }
    // It may have been committed or removed since it was opened.
    struct stat opened {
    }, named{};
    if (::fstat(fd.get(), &opened) == 0 && ::stat(data.c_str(), &named) == 0 && opened.st_ino == named.st_ino)
      return fd;
    if ((flags & O_CREAT) == 0) return make_error(errc::not_found, data + ": gone");
  }
}

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

error not_found(const kiln::digest& d) {
  return make_error(errc::not_found, fmt::format("content {}: not found", d.str()));
}

}  // namespace

result<std::string> blob_directory::blob_path(const kiln::digest& d) const {
  // Digests come from the peer: only checked ones become paths.
  KILN_TRY(auto checked, digest::parse(d.str()));
  return fmt::format("{}/blobs/{}/{}", directory_, checked.algorithm(), checked.hex());
}

std::string blob_directory::ingest_path(const std::string& ref) const {
  return directory_ + "/ingest/" + std::string(sha256(ref).hex());
}

result<blob_facts> blob_directory::info(const kiln::digest& d) const {
  KILN_TRY(auto path, blob_path(d));
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return not_found(d);
    return errno_error(errno, path);
  }
  return blob_facts{d, st.st_size, modified_ns(st)};
}

result<unique_fd> blob_directory::open(const kiln::digest& d) const {
  KILN_TRY(auto path, blob_path(d));
  unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd) return fd;
  if (errno == ENOENT || errno == ENOTDIR) return not_found(d);
  return errno_error(errno, path);
}

result<std::string> blob_directory::read_all(const kiln::digest& d, std::size_t limit) const {
  KILN_TRY(auto fd, open(d));
  return kiln::read_all(fd.get(), limit, d.str());
}

std::vector<blob_facts> blob_directory::list() const {
  std::vector<blob_facts> out;
  std::error_code err;
  for (const auto& algorithm : fs::directory_iterator(directory_ + "/blobs", err)) {
    std::error_code inner;
    for (const auto& blob : fs::directory_iterator(algorithm.path(), inner)) {
      auto d = digest::parse(algorithm.path().filename().string() + ":" + blob.path().filename().string());
      if (!d.ok()) continue;
      if (auto facts = info(*d); facts.ok()) out.push_back(*std::move(facts));
    }
  }
  return out;
}

status blob_directory::remove(const kiln::digest& d) {
  KILN_TRY(auto path, blob_path(d));
  if (::unlink(path.c_str()) == 0) return {};
  if (errno == ENOENT || errno == ENOTDIR) return not_found(d);
  return errno_error(errno, path);
}

result<std::unique_ptr<blob_directory::ingest>> blob_directory::begin(const std::string& ref,
                                                                      std::int64_t total,
                                                                      const std::string& expected) {
  if (ref.empty()) return make_error(errc::invalid_argument, "ref must not be empty");
  if (!expected.empty())
    if (auto d = digest::parse(expected); d.ok() && info(*d).ok())
      return make_error(errc::already_exists, fmt::format("content {}: already exists", expected));
  auto locked = [&] { return make_error(errc::unavailable, fmt::format("ref {} locked: unavailable", ref)); };
  auto out = std::make_unique<ingest>();
  out->facts_.ref = ref;
  out->path_ = ingest_path(ref);
  {
    std::lock_guard lock(mutex_);
    if (!open_refs_.insert(ref).second) return locked();
    begun_.insert(out->path_);
  }
  out->owner_ = this;
  auto data = out->path_ + "/data";
  result<unique_fd> held = make_error(errc::not_found, data);
  // Whoever commits or drops it at this moment takes the directory away.
  for (int n = 0; n < begin_attempts && !held.ok() && held.error().code == errc::not_found; ++n) {
    std::error_code err;
    fs::create_directories(out->path_, err);
    if (err) return errno_error(err.value(), out->path_);
    held = hold(data, O_CREAT);
  }
  if (!held.ok()) return held.error().code == errc::unavailable ? locked() : std::move(held).error();
  out->file_ = *std::move(held);
  (void)write_file_atomically(out->path_ + "/ref", ref, 0666);
  // What an interrupted writer left is hashed again and carried on.
  std::string buffer(hash_chunk_bytes, '\0');
  for (;;) {
    auto n = ::pread(out->file_.get(), buffer.data(), buffer.size(), out->facts_.offset);
    if (n < 0) return errno_error(errno, data);
    if (n == 0) break;
    out->hasher_.update({buffer.data(), static_cast<std::size_t>(n)});
    out->facts_.offset += n;
  }
  struct stat st {};
  if (::fstat(out->file_.get(), &st) == 0) out->facts_.started_ns = out->facts_.updated_ns = modified_ns(st);
  out->expect(total, expected);
  return out;
}

blob_directory::ingest::~ingest() {
  if (!owner_) return;
  std::lock_guard lock(owner_->mutex_);
  owner_->open_refs_.erase(facts_.ref);
}

void blob_directory::ingest::expect(std::int64_t total, const std::string& digest) {
  if (total > 0) facts_.total = total;
  if (!digest.empty()) facts_.expected = digest;
}

status blob_directory::ingest::write(std::int64_t offset, std::string_view bytes) {
  if (offset > facts_.offset)
    return make_error(errc::out_of_range,
                      fmt::format("write offset {} beyond the end {}", offset, facts_.offset));
  if (offset < facts_.offset) {
    if (offset != 0)
      return make_error(errc::out_of_range,
                        fmt::format("write offset {} inside what is written ({})", offset, facts_.offset));
    if (::ftruncate(file_.get(), 0) != 0) return errno_error(errno, path_);
    facts_.offset = 0;
    hasher_ = sha256_hasher();
  }
  hasher_.update(bytes);
  while (!bytes.empty()) {
    auto n = ::pwrite(file_.get(), bytes.data(), bytes.size(), facts_.offset);
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno_error(errno, path_);
    }
    bytes.remove_prefix(static_cast<std::size_t>(n));
    facts_.offset += n;
  }
  return {};
}

result<kiln::digest> blob_directory::ingest::commit() {
  if (facts_.total > 0 && facts_.total != facts_.offset)
    return make_error(errc::failed_precondition,
                      fmt::format("unexpected commit size {}, expected {}: failed precondition",
                                  facts_.offset, facts_.total));
  auto got = hasher_.finish();
  if (!facts_.expected.empty() && facts_.expected != got.str())
    return make_error(errc::failed_precondition,
                      fmt::format("unexpected commit digest {}, expected {}: failed precondition", got.str(),
                                  facts_.expected));
  KILN_TRY(auto target, owner_->blob_path(got));
  std::error_code err;
  fs::create_directories(fs::path(target).parent_path(), err);
  if (::fsync(file_.get()) != 0) return errno_error(errno, path_);
  ::fchmod(file_.get(), 0444);
  bool existed = fs::exists(target, err);
  if (!existed && ::rename((path_ + "/data").c_str(), target.c_str()) != 0) return errno_error(errno, target);
  fs::remove_all(path_, err);  // the lock is still held
  file_.reset();
  {
    std::lock_guard lock(owner_->mutex_);
    owner_->begun_.erase(path_);
  }
  unique_fd parent(::open(fs::path(target).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent) ::fsync(parent.get());
  if (existed) return make_error(errc::already_exists, fmt::format("content {}: already exists", got.str()));
  return got;
}

result<ingest_facts> blob_directory::status_of(const std::string& ref) const {
  struct stat st {};
  if (::stat((ingest_path(ref) + "/data").c_str(), &st) != 0)
    return make_error(errc::not_found, fmt::format("no ingest {}: not found", ref));
  ingest_facts out;
  out.ref = ref;
  out.offset = st.st_size;
  out.started_ns = out.updated_ns = modified_ns(st);
  return out;
}

namespace {

/// Unless somebody is writing it.
void remove_unheld(const std::string& path) {
  auto held = hold(path + "/data", 0);
  std::error_code ignored;
  if (held.ok() || held.error().code == errc::not_found) fs::remove_all(path, ignored);
}

}  // namespace

blob_directory::~blob_directory() {
  for (const auto& path : begun_) remove_unheld(path);
}

void blob_directory::remove_stale_ingests() {
  std::error_code err;
  for (const auto& entry : fs::directory_iterator(directory_ + "/ingest", err)) {
    struct stat st {};
    auto path = entry.path().string();
    bool has_data = ::stat((path + "/data").c_str(), &st) == 0;
    if (!has_data && ::stat(path.c_str(), &st) != 0) continue;
    if (modified_ns(st) < now_ns() - stale_after_ns) remove_unheld(path);
  }
}

std::vector<ingest_facts> blob_directory::ingests() const {
  std::vector<ingest_facts> out;
  std::error_code err;
  for (const auto& entry : fs::directory_iterator(directory_ + "/ingest", err)) {
    auto ref = read_file(entry.path().string() + "/ref", 64 * 1024);
    if (!ref.ok()) continue;
    if (auto facts = status_of(*ref); facts.ok()) out.push_back(*std::move(facts));
  }
  return out;
}

status blob_directory::abort(const std::string& ref) {
  std::error_code err;
  if (!fs::exists(ingest_path(ref), err))
    return make_error(errc::not_found, fmt::format("no ingest {}: not found", ref));
  fs::remove_all(ingest_path(ref), err);
  return {};
}

}  // namespace kiln::client
