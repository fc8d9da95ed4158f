#include "store/files/file_data.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "configs/store.hpp"

namespace kiln::store {

namespace {

constexpr std::size_t block_size = 4096;  // what a hole is made of, on most file systems

struct stretch {
  std::int64_t begin = 0, end = 0;
};

/// Whether the kernel or the file systems have no such way of copying, between these two files.
bool no_such_copy(int err) {
  return err == EXDEV || err == EINVAL || err == ENOSYS || err == EOPNOTSUPP || err == ENOTTY ||
         err == EBADF || err == EPERM || err == ETXTBSY;
}

bool has_holes(const struct stat& info) { return std::int64_t{info.st_blocks} * 512 < info.st_size; }

/// The next data of a file from `offset` on; empty and at its end when only a hole is left.
stretch next_data(int fd, std::int64_t offset, std::int64_t size) {
  auto begin = ::lseek(fd, offset, SEEK_DATA);
  if (begin < 0) return errno == ENXIO ? stretch{size, size} : stretch{offset, size};  // no holes known there
  auto end = ::lseek(fd, begin, SEEK_HOLE);
  return {begin, end <= begin ? size : end};
}

status write_at(int fd, std::string_view bytes, std::int64_t offset) {
  while (!bytes.empty()) {
    auto count = ::pwrite(fd, bytes.data(), bytes.size(), offset);
    if (count < 0) {
      if (errno == EINTR) continue;
      return errno_error(errno, "write");
    }
    offset += count;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

/// Copies data of one file to the same place in another. Tries the kernel's way as long as it works.
class data_copier {
 public:
  data_copier(int from, int to, const job_context& job) : from_(from), to_(to), job_(job) {}

  /// Up to `end`, or to the end of the file where that comes first or none is given.
  status copy(std::int64_t offset, std::int64_t end) {
    while (end < 0 || offset < end) {
      KILN_CHECK(job_.check());
      auto wanted = limits::copy_step;
      if (end >= 0)
        wanted = static_cast<std::size_t>(std::min<std::int64_t>(end - offset, limits::copy_step));
      bool by_range = by_range_;  // may turn out not to work
      KILN_TRY(auto count, by_range ? copy_range(offset, wanted) : copy_bytes(offset, wanted));
      if (count == 0 && !by_range) return {};
      offset += count;
    }
    return {};
  }

 private:
  result<std::int64_t> copy_range(std::int64_t offset, std::size_t wanted) {
    off_t in = offset, out = offset;
    auto count = ::copy_file_range(from_, &in, to_, &out, wanted, 0);
    if (count > 0) return count;
    bool unable =
        count == 0 ||  // some special file systems claim to be at the end at once; read() tells the truth
        no_such_copy(errno);
    if (unable) by_range_ = false;
    else if (errno != EINTR) return errno_error(errno, "copy file data");
    return std::int64_t{0};
  }

  result<std::int64_t> copy_bytes(std::int64_t offset, std::size_t wanted) {
    if (!buffer_) buffer_ = std::make_unique<char[]>(limits::copy_buffer);
    while (true) {
      auto count = ::pread(from_, buffer_.get(), std::min(wanted, limits::copy_buffer), offset);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return errno_error(errno, "read");
      KILN_CHECK(write_at(to_, {buffer_.get(), static_cast<std::size_t>(count)}, offset));
      return count;
    }
  }

  int from_, to_;
  const job_context& job_;
  bool by_range_ = true;
  std::unique_ptr<char[]> buffer_;
};

class file_source final : public byte_source {
 public:
  explicit file_source(unique_fd fd) : fd_(std::move(fd)) {
    struct stat info {};
    if (::fstat(fd_.get(), &info) == 0 && S_ISREG(info.st_mode) && has_holes(info)) size_ = info.st_size;
    else ::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  }

  result<std::size_t> read(std::span<char> buffer) override {
    if (at_ < size_ && at_ >= data_.end) data_ = next_data(fd_.get(), at_, size_);
    if (at_ < data_.begin) {
      auto count = std::min<std::int64_t>(data_.begin - at_, static_cast<std::int64_t>(buffer.size()));
      std::memset(buffer.data(), 0, static_cast<std::size_t>(count));
      at_ += count;
      return static_cast<std::size_t>(count);
    }
    auto wanted = static_cast<std::int64_t>(buffer.size());
    if (at_ < data_.end) wanted = std::min(wanted, data_.end - at_);
    while (true) {
      auto count = ::pread(fd_.get(), buffer.data(), static_cast<std::size_t>(wanted), at_);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return errno_error(errno, "read");
      at_ += count;
      return static_cast<std::size_t>(count);
    }
  }

 private:
  unique_fd fd_;
  std::int64_t size_ = 0;  // up to which holes are looked for
  std::int64_t at_ = 0;
  stretch data_;
};

}  // namespace

status copy_file_data(int from, int to, const job_context& job) {
  if (::ioctl(to, FICLONE, from) == 0) return {};
  if (!no_such_copy(errno)) return errno_error(errno, "copy file data");
  struct stat info {};
  if (::fstat(from, &info) != 0) return errno_error(errno, "stat");
  data_copier data(from, to, job);
  if (!has_holes(info)) return data.copy(0, -1);
  for (std::int64_t at = 0; at < info.st_size;) {
    auto next = next_data(from, at, info.st_size);
    KILN_CHECK(data.copy(next.begin, next.end));
    at = next.end;
  }
  if (::ftruncate(to, info.st_size) != 0) return errno_error(errno, "extend");
  return {};
}

std::unique_ptr<byte_source> read_file_data(unique_fd file) {
  return std::make_unique<file_source>(std::move(file));
}

bool is_zero(std::string_view bytes) {
  return bytes.empty() ||
         (bytes[0] == '\0' && std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

void sparse_writer::move_to(std::int64_t offset) {
  zeros_ = 0;  // the file is new, so what is not written is zeros as well
  at_ = offset;
}

status sparse_writer::flush_zeros(int fd) {
  static constexpr std::array<char, limits::hole_bytes> zeros{};
  if (zeros_ > 0 && zeros_ < static_cast<std::int64_t>(zeros.size()))
    KILN_CHECK(write_at(fd, {zeros.data(), static_cast<std::size_t>(zeros_)}, at_ - zeros_));
  zeros_ = 0;
  return {};
}

status sparse_writer::write(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    // Block by block, as the file has them; blocks that are no zeros are written together.
    std::size_t data = 0;
    while (data < bytes.size()) {
      auto position = static_cast<std::size_t>(at_) + data;
      auto size = std::min(bytes.size() - data, block_size - position % block_size);
      if (is_zero(bytes.substr(data, size))) break;
      data += size;
    }
    if (data > 0) {
      KILN_CHECK(flush_zeros(fd));
      KILN_CHECK(write_at(fd, bytes.substr(0, data), at_));
      at_ += static_cast<std::int64_t>(data);
      end_ = std::max(end_, at_);
      bytes.remove_prefix(data);
      continue;
    }
    auto size = std::min(bytes.size(), block_size - static_cast<std::size_t>(at_) % block_size);
    zeros_ += static_cast<std::int64_t>(size);
    at_ += static_cast<std::int64_t>(size);
    bytes.remove_prefix(size);
  }
  return {};
}

status sparse_writer::finish(int fd, std::int64_t size) {
  KILN_CHECK(flush_zeros(fd));
  size = std::max(size, at_);
  if (size > end_ && ::ftruncate(fd, size) != 0) return errno_error(errno, "extend");
  return {};
}

}  // namespace kiln::store
