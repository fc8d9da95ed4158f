#include "store/blobs/blob_store.hpp"

#include <openssl/evp.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <mutex>

#include <spdlog/spdlog.h>

#include "base/files.hpp"
#include "base/json_text.hpp"
#include "base/text.hpp"
#include "configs/store.hpp"
#include "store/files/file_facts.hpp"
#include "store/blobs/holds.hpp"
#include "store/files/turns.hpp"

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
    return digest::trusted(algorithm_ + ":" + to_hex({reinterpret_cast<const char*>(sum.data()), size}));
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

/// What is found is as new as what is written now.
bool touch(const fs::path& file) {
  return ::utimensat(AT_FDCWD, file.c_str(), nullptr, AT_SYMLINK_NOFOLLOW) == 0;
}

class ingestion final : public blob_writer {
 public:
  /// `turn`: the right to this blob, where its digest is known.
  ingestion(fs::path blobs, fs::path file, unique_fd fd, holds held, std::optional<digest> expected,
            std::optional<std::int64_t> size, std::optional<turns::turn> turn)
      : blobs_(std::move(blobs)),
        file_(std::move(file)),
        held_(std::move(held)),
        turn_(std::move(turn)),
        fd_(std::move(fd)),
        expected_(std::move(expected)),
        size_(size),
        hash_(expected_ ? expected_->algorithm() : "sha256") {}
  ~ingestion() override {
    bool can_go_on = expected_ && offset_ > 0;
    if (fd_ && !can_go_on) discard();
  }

  /// Takes in what an earlier writer left.
  status resume() {
    std::string buffer(limits::copy_buffer, '\0');
    while (true) {
      auto count = ::read(fd_.get(), buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return give_up(errno_error(errno, "read " + file_.string()));
      if (count == 0) break;
      hash_.update({buffer.data(), static_cast<std::size_t>(count)});
      offset_ += count;
    }
    if (size_ && offset_ > *size_) return truncate();
    return {};
  }

  std::int64_t offset() const override { return offset_; }

  status write(std::string_view bytes) override {
    if (!fd_) return ended();
    if (size_ && offset_ + static_cast<std::int64_t>(bytes.size()) > *size_)
      return make_error(errc::out_of_range,
                        "more bytes than the " + std::to_string(*size_) + " expected" + of());
    if (auto s = write_all(fd_.get(), bytes); !s)
      return give_up(std::move(s).error().with_context("store blob" + of()));
    hash_.update(bytes);
    offset_ += static_cast<std::int64_t>(bytes.size());
    return {};
  }

  status truncate() override {
    if (!fd_) return ended();
    if (::ftruncate(fd_.get(), 0) != 0 || ::lseek(fd_.get(), 0, SEEK_SET) != 0)
      return give_up(errno_error(errno, "truncate " + file_.string()));
    offset_ = 0;
    hash_.start();
    return {};
  }

  void discard() noexcept override {
    if (!fd_) return;
    if (::unlink(file_.c_str()) != 0 && errno != ENOENT)
      spdlog::warn("store: cannot remove {}: errno {}", file_.string(), errno);
    fd_.reset();
    turn_.reset();
  }

  result<held_digest> commit() override {
    if (!fd_) return ended();
    auto actual = hash_.finish();
    if (size_ && offset_ != *size_)
      return give_up(make_error(errc::data_loss, "unexpected size " + std::to_string(offset_) +
                                                     ", expected " + std::to_string(*size_) + of()));
    if (expected_ && actual != *expected_)
      return give_up(make_error(errc::data_loss,
                                "unexpected digest " + actual.str() + ", expected " + expected_->str()));
    auto target = blobs_ / std::string(actual.algorithm()) / std::string(actual.hex());
    auto hold = held_.take(actual.str());
    struct stat info {};
    if (::stat(target.c_str(), &info) == 0 && info.st_size == offset_ && touch(target)) {
      discard();
      return held_digest(std::move(actual), std::move(hold));
    }
    if (::fchmod(fd_.get(), 0444) != 0 || ::fsync(fd_.get()) != 0)
      return give_up(errno_error(errno, "fsync blob " + actual.str()));
    if (::rename(file_.c_str(), target.c_str()) != 0)
      return give_up(errno_error(errno, "rename blob " + actual.str()));
    fd_.reset();
    auto durable = sync_directory(target.parent_path());
    turn_.reset();
    if (!durable) return std::move(durable).error();
    return held_digest(std::move(actual), std::move(hold));
  }

 private:
  static error ended() { return make_error(errc::failed_precondition, "this blob has been written already"); }
  std::string of() const { return expected_ ? " of " + expected_->str() : std::string(); }
  error give_up(error e) {
    discard();
    return e;
  }

  fs::path blobs_;
  fs::path file_;  // below blobs_/ingest
  holds held_;
  std::optional<turns::turn> turn_;
  unique_fd fd_;
  std::optional<digest> expected_;
  std::optional<std::int64_t> size_;
  hasher hash_;
  std::int64_t offset_ = 0;
};

/// What blobs being written are called: those whose digest is known by it, so that they can be gone on with.
std::string partial_name(const digest& d) { return std::string(d.algorithm()) + "-" + std::string(d.hex()); }

std::optional<digest> digest_of_partial(const std::string& name) {
  auto dash = name.find('-');
  if (dash == std::string::npos) return std::nullopt;
  auto d = digest::parse(name.substr(0, dash) + ":" + name.substr(dash + 1));
  if (!d.ok()) return std::nullopt;
  return *std::move(d);
}

std::int64_t modified_ns(const struct stat& info) {
  return std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

bool is_stale(std::int64_t written_at_ns) {
  return written_at_ns < now_ns() - std::chrono::nanoseconds(limits::partial_blob_age).count();
}

class disk_blob_store final : public blob_store {
 public:
  explicit disk_blob_store(fs::path directory) : directory_(std::move(directory)) {}

  status prepare() {
    for (auto name : {"sha256", "sha384", "sha512", "ingest", "labels"})
      KILN_CHECK(make_directories(directory_ / name, 0700));
    sweep();
    return {};
  }

  blob_hold hold(const digest& d) override { return held_.take(d.str()); }

  bool has(const digest& d) const override { return find(d).ok(); }

  result<blob_info> info(const digest& d) const override {
    KILN_TRY(auto found, find(d));
    blob_info out{d, found.st_size, modified_ns(found), {}, held_.is_held(d.str())};
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

  result<std::unique_ptr<blob_writer>> bring(const digest& d, std::optional<std::int64_t> size,
                                             std::stop_token stop) override {
    KILN_CHECK(checked(d));
    if (has(d)) return std::unique_ptr<blob_writer>();
    KILN_TRY(auto turn, turns_.wait(d.str(), stop));
    if (has(d)) return std::unique_ptr<blob_writer>();
    auto file = directory_ / "ingest" / partial_name(d);
    KILN_TRY(auto fd, open_file(file, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    auto writer =
        std::make_unique<ingestion>(directory_, file, std::move(fd), held_, d, size, std::move(turn));
    KILN_CHECK(writer->resume());
    return std::unique_ptr<blob_writer>(std::move(writer));
  }

  result<std::unique_ptr<blob_writer>> create() override {
    auto file = directory_ / "ingest" / ("new-" + new_id());
    KILN_TRY(auto fd, open_file(file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    return std::unique_ptr<blob_writer>(std::make_unique<ingestion>(
        directory_, file, std::move(fd), held_, std::nullopt, std::nullopt, std::nullopt));
  }

  result<held_digest> put(std::string_view bytes) override {
    auto d = sha256(bytes);
    auto kept = hold(d);
    if (has(d) && touch(path_of(d))) return held_digest(std::move(d), std::move(kept));
    KILN_TRY(auto writer, create());
    KILN_CHECK(writer->write(bytes));
    return writer->commit();
  }

  std::vector<partial_blob> partials() const override {
    std::vector<partial_blob> all;
    auto ingest = open_file(directory_ / "ingest", O_RDONLY | O_DIRECTORY);
    if (!ingest) return all;
    auto names = list_names(ingest->get());
    if (!names) return all;
    for (const auto& name : *names) {
      auto d = digest_of_partial(name);
      struct stat info {};
      if (!d || ::fstatat(ingest->get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
      bool in_use = turns_.is_taken(d->str());
      all.push_back(
          {*std::move(d), static_cast<std::int64_t>(info.st_blocks) * 512, modified_ns(info), in_use});
    }
    return all;
  }

  status remove_partial(const digest& d) override {
    KILN_CHECK(checked(d));
    auto turn = turns_.take(d.str());
    if (!turn) return make_error(errc::failed_precondition, "blob " + d.str() + " is being brought");
    auto file = directory_ / "ingest" / partial_name(d);
    if (::unlink(file.c_str()) != 0 && errno != ENOENT) return errno_error(errno, "remove " + file.string());
    return {};
  }

  void remove_stale_partials() override {
    for (const auto& p : partials()) {
      if (p.in_use || !is_stale(p.written_at_ns)) continue;
      spdlog::info("store: dropping what there is of blob {}: nobody went on with it", p.digest.str());
      if (auto gone = remove_partial(p.digest); !gone && gone.error().code != errc::failed_precondition)
        spdlog::warn("store: {}", gone.error().message);
    }
  }

  status change_labels(const digest& d, const std::function<void(label_map&)>& change) override {
    std::lock_guard lock(labels_mutex_);
    KILN_TRY(auto found, info(d));
    auto labels = found.labels;
    change(labels);
    return labels == found.labels ? status() : write_labels(d, labels);
  }

  status remove(const digest& d) override {
    KILN_CHECK(checked(d));
    std::lock_guard lock(labels_mutex_);
    ::unlink(labels_of(d).c_str());
    if (::unlink(path_of(d).c_str()) != 0 && errno != ENOENT)
      return errno_error(errno, "remove blob " + d.str());
    return {};
  }

  result<bool> remove_unneeded(const digest& d, const judge& unneeded) override {
    KILN_CHECK(checked(d));
    auto right = held_.begin_removal(d.str());
    if (!right) return false;
    auto found = info(d);
    if (!found.ok()) {
      if (found.error().code == errc::not_found) return true;
      return std::move(found).error();
    }
    KILN_TRY(bool go, unneeded(*found));
    if (go) KILN_CHECK(remove(d));
    return go;
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
  /// Call with labels_mutex_ held.
  status write_labels(const digest& d, const std::map<std::string, std::string>& labels) {
    if (labels.empty()) {
      ::unlink(labels_of(d).c_str());
      return {};
    }
    auto text = json_text(nlohmann::json(labels));
    if (static_cast<std::int64_t>(text.size()) > limits::blob_labels_bytes)
      return make_error(errc::invalid_argument, "labels of blob " + d.str() + " are too large");
    return write_file(labels_of(d), text);
  }

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

  /// What a killed daemon left: only what can be gone on with stays.
  void sweep() {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(directory_ / "ingest", ignored)) {
      auto d = digest_of_partial(entry.path().filename().string());
      struct stat info {};
      bool can_go_on = d && !has(*d) && ::lstat(entry.path().c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
                       !is_stale(modified_ns(info));
      if (can_go_on) continue;
      spdlog::info("store: sweeping unfinished blob {}", entry.path().filename().string());
      if (auto removed = remove_tree(entry.path()); !removed)
        spdlog::warn("store: {}", removed.error().message);
    }
    for (const auto& entry : fs::directory_iterator(directory_ / "labels", ignored)) {
      auto d = digest_of_partial(entry.path().filename().string());
      if (!d || !has(*d)) ::unlink(entry.path().c_str());
    }
  }

  fs::path directory_;
  turns turns_;  // of blobs being brought, by digest
  holds held_;   // by digest
  mutable std::mutex labels_mutex_;
};

}  // namespace

namespace {

error read_only() { return make_error(errc::unimplemented, "read-only content store"); }

}  // namespace

result<std::unique_ptr<blob_writer>> blob_store::bring(const kiln::digest&, std::optional<std::int64_t>,
                                                       std::stop_token) {
  return read_only();
}
result<std::unique_ptr<blob_writer>> blob_store::create() { return read_only(); }
result<held_digest> blob_store::put(std::string_view) { return read_only(); }
status blob_store::change_labels(const kiln::digest&, const std::function<void(label_map&)>&) {
  return read_only();
}
status blob_store::remove(const kiln::digest&) { return read_only(); }
result<bool> blob_store::remove_unneeded(const kiln::digest&, const judge&) { return read_only(); }
status blob_store::remove_partial(const kiln::digest&) { return read_only(); }

status blob_store::set_label(const kiln::digest& d, const std::string& label, const std::string& value) {
  return change_labels(d, [&](label_map& labels) { labels[label] = value; });
}

status blob_store::drop_label(const kiln::digest& d, const std::string& label, const std::string& value) {
  auto done = change_labels(d, [&](label_map& labels) {
    if (auto at = labels.find(label); at != labels.end() && at->second == value) labels.erase(at);
  });
  return !done && done.error().code == errc::not_found ? status() : done;
}

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
