#include "store/blob_store.hpp"

#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <mutex>

#include <spdlog/spdlog.h>

#include "configs/store.hpp"
#include "messages/json_text.hpp"
#include "store/files.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

/// A digest of any of the algorithms blobs may have.
class hasher {
 public:
  explicit hasher(std::string_view algorithm) : algorithm_(algorithm), context_(EVP_MD_CTX_new()) { start(); }
  ~hasher() { EVP_MD_CTX_free(context_); }
  hasher(const hasher&) = delete;
  hasher& operator=(const hasher&) = delete;
  void start() { EVP_DigestInit_ex(context_, EVP_get_digestbyname(algorithm_.c_str()), nullptr); }
  void update(std::string_view bytes) { EVP_DigestUpdate(context_, bytes.data(), bytes.size()); }
  digest finish() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> sum;
    unsigned size = 0;
    EVP_DigestFinal_ex(context_, sum.data(), &size);
    static constexpr char digits[] = "0123456789abcdef";
    auto text = algorithm_ + ":";
    for (unsigned i = 0; i < size; ++i) {
      text += digits[sum[i] >> 4];
      text += digits[sum[i] & 15];
    }
    return digest::trusted(std::move(text));
  }

 private:
  std::string algorithm_;
  EVP_MD_CTX* context_;
};

class file_source final : public byte_source {
 public:
  /// `left`: bytes that must still come.
  file_source(unique_fd fd, std::int64_t left, std::string name)
      : fd_(std::move(fd)), left_(left), name_(std::move(name)) {}
  result<std::size_t> read(std::span<char> buffer) override {
    if (left_ == 0 || buffer.empty()) return std::size_t{0};
    while (true) {
      auto count = ::read(fd_.get(), buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return errno_error(errno, "read blob " + name_);
      if (count == 0) return make_error(errc::data_loss, "blob " + name_ + " was truncated");
      left_ = std::max<std::int64_t>(0, left_ - count);
      return static_cast<std::size_t>(count);
    }
  }

 private:
  unique_fd fd_;
  std::int64_t left_;
  std::string name_;
};

class ingestion final : public blob_writer {
 public:
  ingestion(fs::path blobs, fs::path directory, unique_fd fd, std::optional<digest> expected,
            std::optional<std::int64_t> size)
      : blobs_(std::move(blobs)),
        directory_(std::move(directory)),
        fd_(std::move(fd)),
        expected_(std::move(expected)),
        size_(size),
        hash_(expected_ ? expected_->algorithm() : "sha256") {}

  /// Takes in what an earlier writer left.
  status resume() {
    std::string buffer(limits::copy_buffer, '\0');
    while (true) {
      auto count = ::read(fd_.get(), buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return errno_error(errno, "read ingestion " + directory_.string());
      if (count == 0) break;
      hash_.update({buffer.data(), static_cast<std::size_t>(count)});
      offset_ += count;
    }
    if (size_ && offset_ > *size_) return truncate();
    return {};
  }

  std::int64_t offset() const override { return offset_; }

  status write(std::string_view bytes) override {
    if (!fd_) return make_error(errc::failed_precondition, "this ingestion has ended");
    if (size_ && offset_ + static_cast<std::int64_t>(bytes.size()) > *size_)
      return make_error(errc::out_of_range,
                        "more bytes than the " + std::to_string(*size_) + " expected" + of());
    KILN_CHECK(write_all(fd_.get(), bytes));
    hash_.update(bytes);
    offset_ += static_cast<std::int64_t>(bytes.size());
    return {};
  }

  status truncate() override {
    if (!fd_) return make_error(errc::failed_precondition, "this ingestion has ended");
    if (::ftruncate(fd_.get(), 0) != 0 || ::lseek(fd_.get(), 0, SEEK_SET) != 0)
      return errno_error(errno, "truncate ingestion");
    offset_ = 0;
    hash_.start();
    return {};
  }

  result<digest> commit() override {
    if (!fd_) return make_error(errc::failed_precondition, "this ingestion has ended");
    auto actual = hash_.finish();
    if (size_ && offset_ != *size_) {
      discard();
      return make_error(errc::data_loss, "unexpected size " + std::to_string(offset_) + ", expected " +
                                             std::to_string(*size_) + of());
    }
    if (expected_ && actual != *expected_) {
      discard();
      return make_error(errc::data_loss,
                        "unexpected digest " + actual.str() + ", expected " + expected_->str());
    }
    auto target = blobs_ / std::string(actual.algorithm()) / std::string(actual.hex());
    struct stat info {};
    if (::stat(target.c_str(), &info) == 0 && info.st_size == offset_) {
      discard();
      return actual;
    }
    if (::fchmod(fd_.get(), 0444) != 0 || ::fsync(fd_.get()) != 0)
      return errno_error(errno, "fsync blob " + actual.str());
    auto data = directory_ / "data";
    if (::rename(data.c_str(), target.c_str()) != 0) return errno_error(errno, "rename blob " + actual.str());
    fd_.reset();
    KILN_CHECK(sync_directory(target.parent_path()));
    if (::rmdir(directory_.c_str()) != 0 && errno != ENOENT)
      spdlog::warn("store: cannot remove {}: errno {}", directory_.string(), errno);
    return actual;
  }

 private:
  std::string of() const { return expected_ ? " of " + expected_->str() : std::string(); }
  void discard() {
    if (auto removed = remove_tree(directory_); !removed) spdlog::warn("store: {}", removed.error().message);
    fd_.reset();
  }

  fs::path blobs_;
  fs::path directory_;
  unique_fd fd_;  // also holds the lock of this name
  std::optional<digest> expected_;
  std::optional<std::int64_t> size_;
  hasher hash_;
  std::int64_t offset_ = 0;
};

class disk_blob_store final : public blob_store {
 public:
  explicit disk_blob_store(fs::path directory) : directory_(std::move(directory)) {}

  status prepare() {
    for (auto name : {"sha256", "sha384", "sha512", "ingest", "labels"})
      KILN_CHECK(make_directories(directory_ / name, 0700));
    sweep();
    return {};
  }

  bool has(const digest& d) const override { return find(d).ok(); }

  result<blob_info> info(const digest& d) const override {
    KILN_TRY(auto found, find(d));
    blob_info out{
        d, found.st_size, std::int64_t{found.st_mtim.tv_sec} * 1'000'000'000 + found.st_mtim.tv_nsec, {}};
    if (auto text = read_file(labels_of(d), limits::blob_labels_bytes); text.ok()) {
      out.labels = text_members(json_or_null(*text));
    }
    return out;
  }

  fs::path path_of(const digest& d) const override {
    return directory_ / std::string(d.algorithm()) / std::string(d.hex());
  }

  result<std::unique_ptr<byte_source>> read(const digest& d, std::int64_t offset) const override {
    KILN_TRY(auto found, find(d));
    if (offset < 0 || offset > found.st_size)
      return make_error(errc::out_of_range,
                        "offset " + std::to_string(offset) + " is outside of blob " + d.str());
    KILN_TRY(auto fd, open_file(path_of(d), O_RDONLY | O_NOFOLLOW));
    if (offset > 0 && ::lseek(fd.get(), offset, SEEK_SET) < 0)
      return errno_error(errno, "seek in blob " + d.str());
    return std::unique_ptr<byte_source>(
        std::make_unique<file_source>(std::move(fd), found.st_size - offset, d.str()));
  }

  result<std::string> read_all(const digest& d, std::int64_t limit) const override {
    KILN_TRY(auto found, find(d));
    if (found.st_size > limit)
      return make_error(errc::resource_exhausted, "blob " + d.str() + " of " + std::to_string(found.st_size) +
                                                      " bytes is larger than " + std::to_string(limit));
    return read_file(path_of(d), limit);
  }

  result<std::unique_ptr<blob_writer>> write(std::string_view ref, std::optional<digest> expected,
                                             std::optional<std::int64_t> size) override {
    if (expected) KILN_CHECK(checked(*expected));
    auto directory = directory_ / "ingest" / std::string(sha256(ref).hex());
    // Another writer of this name may finish (and remove the directory) between our steps.
    for (int attempt = 0; attempt < 100; ++attempt) {
      if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
        return errno_error(errno, "mkdir " + directory.string());
      int raw = ::open((directory / "data").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
      if (raw < 0) {
        if (errno == ENOENT) continue;
        return errno_error(errno, "open ingestion " + std::string(ref));
      }
      unique_fd fd(raw);
      if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
        return make_error(errc::failed_precondition,
                          "ingestion " + std::string(ref) + " is under way already");
      struct stat opened {
      }, named{};
      if (::fstat(fd.get(), &opened) != 0 || ::stat((directory / "data").c_str(), &named) != 0 ||
          opened.st_ino != named.st_ino)
        continue;
      auto writer =
          std::make_unique<ingestion>(directory_, directory, std::move(fd), std::move(expected), size);
      KILN_CHECK(writer->resume());
      return std::unique_ptr<blob_writer>(std::move(writer));
    }
    return make_error(errc::aborted, "ingestion " + std::string(ref) + " keeps changing");
  }

  result<digest> put(std::string_view bytes) override {
    auto d = sha256(bytes);
    if (has(d)) return d;
    auto size = static_cast<std::int64_t>(bytes.size());
    auto writer = write("put-" + new_id(), d, size);
    if (!writer) return std::move(writer).error();
    KILN_CHECK((*writer)->write(bytes));
    return (*writer)->commit();
  }

  status set_labels(const digest& d, const std::map<std::string, std::string>& labels) override {
    KILN_TRY(auto found, find(d));
    (void)found;
    std::lock_guard lock(labels_mutex_);
    if (labels.empty()) {
      ::unlink(labels_of(d).c_str());
      return {};
    }
    auto text = json_text(nlohmann::json(labels));
    if (static_cast<std::int64_t>(text.size()) > limits::blob_labels_bytes)
      return make_error(errc::invalid_argument, "labels of blob " + d.str() + " are too large");
    return write_file(labels_of(d), text);
  }

  status remove(const digest& d) override {
    KILN_CHECK(checked(d));
    std::lock_guard lock(labels_mutex_);
    ::unlink(labels_of(d).c_str());
    if (::unlink(path_of(d).c_str()) != 0 && errno != ENOENT)
      return errno_error(errno, "remove blob " + d.str());
    return {};
  }

  std::vector<blob_info> list() const override {
    std::vector<blob_info> all;
    for (auto algorithm : {"sha256", "sha384", "sha512"}) {
      auto fd = open_file(directory_ / algorithm, O_RDONLY | O_DIRECTORY);
      if (!fd) continue;
      auto names = list_names(fd->get());
      if (!names) continue;
      for (const auto& name : *names)
        if (auto d = digest::parse(std::string(algorithm) + ":" + name); d.ok())
          if (auto found = info(*d); found.ok()) all.push_back(*std::move(found));
    }
    return all;
  }

 private:
  static status checked(const digest& d) {
    KILN_TRY(auto parsed, digest::parse(d.str()));
    if (parsed.algorithm() == "random")
      return make_error(errc::invalid_argument, "\"" + d.str() + "\" cannot name a blob");
    return {};
  }

  result<struct stat> find(const digest& d) const {
    KILN_CHECK(checked(d));
    struct stat info {};
    if (::lstat(path_of(d).c_str(), &info) != 0) {
      if (errno == ENOENT) return make_error(errc::not_found, "content " + d.str() + ": not found");
      return errno_error(errno, "blob " + d.str());
    }
    if (!S_ISREG(info.st_mode))
      return make_error(errc::data_loss, "blob " + d.str() + " is not a regular file");
    return info;
  }

  fs::path labels_of(const digest& d) const {
    return directory_ / "labels" / (std::string(d.algorithm()) + "-" + std::string(d.hex()));
  }

  /// Removes ingestions that nobody has touched for long, and those of put(), which nobody resumes.
  void sweep() {
    auto oldest = now_ns() / 1'000'000'000 - std::chrono::seconds(limits::stale_ingestion).count();
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(directory_ / "ingest", ignored)) {
      struct stat info {};
      auto data = entry.path() / "data";
      if (::stat(data.c_str(), &info) == 0 && info.st_mtim.tv_sec >= oldest) continue;
      spdlog::info("store: sweeping stale ingestion {}", entry.path().filename().string());
      if (auto removed = remove_tree(entry.path()); !removed)
        spdlog::warn("store: {}", removed.error().message);
    }
    for (const auto& entry : fs::directory_iterator(directory_ / "labels", ignored))
      if (entry.path().extension() == ".tmp") ::unlink(entry.path().c_str());
  }

  fs::path directory_;
  mutable std::mutex labels_mutex_;
};

}  // namespace

status blob_writer::finish() {
  auto committed = commit();
  if (!committed) return std::move(committed).error();
  return {};
}

result<std::unique_ptr<blob_store>> blob_store::open(fs::path directory) {
  auto opened = std::make_unique<disk_blob_store>(std::move(directory));
  KILN_CHECK(opened->prepare());
  return std::unique_ptr<blob_store>(std::move(opened));
}

}  // namespace kiln::store
