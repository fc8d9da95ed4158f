// Preloaded into a daemon: while the file $FAILING_DISK_SWITCH exists, everything that writes below
// $FAILING_DISK_ROOT fails with the errno that is in it, as on a disk that is broken or became read-only. After the
// errno "meta": only what is written to the first two pages of a file, where LMDB keeps what counts.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int meta_only;

static int wanted_errno(void) {
  static int (*real_open)(const char*, int, ...);
  if (!real_open) real_open = (int (*)(const char*, int, ...))dlsym(RTLD_NEXT, "open");
  const char* path = getenv("FAILING_DISK_SWITCH");
  int fd = path ? real_open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd < 0) return 0;
  char text[16] = {0};
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  meta_only = n > 0 && strstr(text, "meta") != NULL;
  return n > 0 ? atoi(text) : 0;
}

static int is_below(const char* path) {
  const char* root = getenv("FAILING_DISK_ROOT");
  return root && strncmp(path, root, strlen(root)) == 0;
}

// The errno for a call on that directory and path; 0: let it through. Keeps errno as it is.
static int verdict(int directory, const char* path, int is_meta) {
  int before = errno, code = wanted_errno(), below = 0;
  if (code && (is_meta || !meta_only)) {
    char link[64], base[4096] = {0};
    if (path && path[0] == '/' && strncmp(path, "/proc/self/fd/", 14) != 0) below = is_below(path);
    else {
      if (path && path[0] == '/') snprintf(link, sizeof link, "/proc/self/fd/%d", atoi(path + 14));
      else snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
      below = readlink(link, base, sizeof base - 1) > 0 && is_below(base);
    }
  }
  errno = before;
  return below ? code : 0;
}

#define REFUSE(directory, path) REFUSE_IF(directory, path, 0)
#define REFUSE_IF(directory, path, is_meta) \
  do { \
    int code_ = verdict(directory, path, is_meta); \
    if (code_) { \
      errno = code_; \
      return -1; \
    } \
  } while (0)

ssize_t write(int fd, const void* bytes, size_t n) {
  REAL(write);
  REFUSE(fd, NULL);
  return real(fd, bytes, n);
}
ssize_t pwrite(int fd, const void* bytes, size_t n, off_t at) {
  REAL(pwrite);
  REFUSE_IF(fd, NULL, at < 8192);
  return real(fd, bytes, n, at);
}
ssize_t pwrite64(int fd, const void* bytes, size_t n, off64_t at) {
  REAL(pwrite64);
  REFUSE_IF(fd, NULL, at < 8192);
  return real(fd, bytes, n, at);
}
int fsync(int fd) {
  REAL(fsync);
  REFUSE(fd, NULL);
  return real(fd);
}
int fdatasync(int fd) {
  REAL(fdatasync);
  REFUSE(fd, NULL);
  return real(fd);
}
int fallocate(int fd, int mode, off_t at, off_t n) {
  REAL(fallocate);
  REFUSE(fd, NULL);
  return real(fd, mode, at, n);
}
int fallocate64(int fd, int mode, off64_t at, off64_t n) {
  REAL(fallocate64);
  REFUSE(fd, NULL);
  return real(fd, mode, at, n);
}
int mkdir(const char* path, mode_t mode) {
  REAL(mkdir);
  REFUSE(AT_FDCWD, path);
  return real(path, mode);
}
int mkdirat(int directory, const char* path, mode_t mode) {
  REAL(mkdirat);
  REFUSE(directory, path);
  return real(directory, path, mode);
}
int rename(const char* from, const char* to) {
  REAL(rename);
  REFUSE(AT_FDCWD, to);
  return real(from, to);
}
int renameat(int from_directory, const char* from, int to_directory, const char* to) {
  REAL(renameat);
  REFUSE(to_directory, to);
  return real(from_directory, from, to_directory, to);
}
int unlinkat(int directory, const char* path, int flags) {
  REAL(unlinkat);
  REFUSE(directory, path);
  return real(directory, path, flags);
}

int unlink(const char* path) {
  REAL(unlink);
  REFUSE(AT_FDCWD, path);
  return real(path);
}
int rmdir(const char* path) {
  REAL(rmdir);
  REFUSE(AT_FDCWD, path);
  return real(path);
}

#define OPEN(name, ...) \
  REAL(name); \
  mode_t mode = 0; \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list more; \
    va_start(more, flags); \
    mode = va_arg(more, mode_t); \
    va_end(more); \
  }
int open(const char* path, int flags, ...) {
  OPEN(open)
  if (flags & O_CREAT) REFUSE(AT_FDCWD, path);
  return real(path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  OPEN(open64)
  if (flags & O_CREAT) REFUSE(AT_FDCWD, path);
  return real(path, flags, mode);
}
int openat(int directory, const char* path, int flags, ...) {
  OPEN(openat)
  if (flags & O_CREAT) REFUSE(directory, path);
  return real(directory, path, flags, mode);
}
int openat64(int directory, const char* path, int flags, ...) {
  OPEN(openat64)
  if (flags & O_CREAT) REFUSE(directory, path);
  return real(directory, path, flags, mode);
}
