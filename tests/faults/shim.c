/* The file-system calls of this process below one folder: fail the k-th, cut it short, die before
   it, or write all down.

   Loaded with LD_PRELOAD, armed by shim.py. It sees the calls that Python, SQLite, PyTorch and
   safetensors make through the C library, whatever thread they come from. Glibc's own calls (of
   opendir, fopen) stay unseen. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum {   /* classes */
  OPEN = 1,
  WRITE = 2,
  SYNC = 4,
  RENAME = 8,
  MKDIR = 16,
  UNLINK = 32,
  TRUNCATE = 64,
  MMAP = 128,
  CHMOD = 256,
  LOCK = 512,
  READ = 1024
};
enum { FAIL, CUT, KILL };   /* what is done to a call */

static char folder[PATH_MAX];
static size_t folder_length;
static int armed, classes, action, error_number, sticky, record_fd = -1;
static long first, count, hits;
static char hit_call[PATH_MAX + 64];
static pthread_mutex_t record_lock = PTHREAD_MUTEX_INITIALIZER;

/* --- for Python --- */

static void watch(const char *path) {
  snprintf(folder, sizeof folder, "%s", path);
  folder_length = strlen(folder);
}

void shim_arm(const char *path, int these, long at, int what, int error, int from_there_on) {
  watch(path);
  classes = these;
  first = at;
  action = what;
  error_number = error;
  sticky = from_there_on;
  count = hits = 0;
  hit_call[0] = 0;
  armed = 1;
}

void shim_disarm(void) { armed = 0; }
long shim_count(void) { return count; }
long shim_hits(void) { return hits; }
const char *shim_hit_call(void) { return hit_call; }

void shim_record(const char *path, int fd) {
  watch(path);
  record_fd = fd;
}

/* --- which calls are meant --- */

#define REAL(name) \
  static __typeof__(name) *real; \
  if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int inside(const char *path) {
  if (!path || strncmp(path, folder, folder_length)) return 0;
  return path[folder_length] == '/' || !path[folder_length];
}

static const char *below(const char *path) {
  return path[folder_length] ? path + folder_length + 1 : ".";
}

static int path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length > 0 ? length : 0] = 0;
  return length > 0;
}

static void absolute(int dir, const char *name, char *path) {
  char base[PATH_MAX];
  path[0] = 0;
  if (name[0] == '/') snprintf(path, PATH_MAX, "%s", name);
  else if (dir == AT_FDCWD ? getcwd(base, sizeof base) != NULL : path_of(dir, base))
    if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) path[0] = 0;
}

/* Is this call to go wrong? It does not come back if the process is to die here. */
static int hit(int class, const char *call, const char *path) {
  if (!armed || !(classes & class) || !inside(path)) return 0;
  long number = __sync_add_and_fetch(&count, 1);
  if (number != first && !(sticky && number > first)) return 0;
  if (__sync_fetch_and_add(&hits, 1) == 0)
    snprintf(hit_call, sizeof hit_call, "%s %s", call, below(path));
  if (action == KILL) kill(getpid(), SIGKILL);
  errno = error_number;
  return 1;
}

static int hit_fd(int class, const char *call, int fd) {
  char path[PATH_MAX];
  return armed && (classes & class) && path_of(fd, path) && hit(class, call, path);
}

static int hit_at(int class, const char *call, int dir, const char *name) {
  char path[PATH_MAX];
  if (!armed || !(classes & class)) return 0;
  absolute(dir, name, path);
  return hit(class, call, path);
}

/* --- the record: a line of fields with a tab between, and the bytes of a write after it --- */

static void put(const void *bytes, size_t size) {
  REAL(write);
  for (const char *rest = bytes; size > 0;) {
    ssize_t done = real(record_fd, rest, size);
    if (done <= 0) _exit(99);   /* a record with holes is worse than none */
    rest += done;
    size -= done;
  }
}

static void record(const char *call, ino_t inode, long long offset, size_t size, const char *path,
                   const char *to, const void *bytes) {
  char line[2*PATH_MAX + 128];
  if (record_fd < 0 || !inside(path)) return;
  const char *other = to && inside(to) ? below(to) : "";
  int length = snprintf(line, sizeof line, "%s\t%llu\t%lld\t%zu\t%s\t%s\n", call,
                        (unsigned long long)inode, offset, size, below(path), other);
  pthread_mutex_lock(&record_lock);
  put(line, length);
  if (bytes) put(bytes, size);
  pthread_mutex_unlock(&record_lock);
}

static void record_fd_call(const char *call, int fd, long long offset, size_t size,
                           const void *bytes) {
  char path[PATH_MAX];
  struct stat about;
  int kept = errno;
  if (record_fd >= 0 && fd != record_fd && path_of(fd, path) && inside(path) && !fstat(fd, &about))
    record(call, about.st_ino, offset, size, path, NULL, bytes);
  errno = kept;
}

static void record_names(const char *call, int dir, const char *name, int dir_to, const char *to) {
  char path[PATH_MAX], path_to[PATH_MAX] = "";
  if (record_fd < 0) return;
  absolute(dir, name, path);
  if (to) absolute(dir_to, to, path_to);
  record(call, 0, 0, 0, path, path_to, NULL);
}

static long long place_of_write(int fd) {
  struct stat about;
  int flags = record_fd < 0 ? 0 : fcntl(fd, F_GETFL);
  if (record_fd < 0) return 0;
  if (flags & O_APPEND && !fstat(fd, &about)) return about.st_size;
  return lseek(fd, 0, SEEK_CUR);
}

/* --- opening --- */

static int writes(int flags) { return flags & O_CREAT || (flags & O_ACCMODE) != O_RDONLY; }
static int has_mode(int flags) { return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE; }

static int there_before(int dir, const char *name, int flags) {
  struct stat about;
  return record_fd >= 0 && flags & (O_CREAT | O_TRUNC) && !fstatat(dir, name, &about, 0);
}

static int opened(int fd, int flags, int there) {
  if (fd < 0 || record_fd < 0) return fd;
  if ((flags & O_TMPFILE) == O_TMPFILE) record_fd_call("nameless", fd, 0, 0, NULL);
  else if (!there && flags & O_CREAT) record_fd_call("create", fd, 0, 0, NULL);
  else if (there && flags & O_TRUNC) record_fd_call("truncate", fd, 0, 0, NULL);
  return fd;
}

#define MODE \
  mode_t mode = 0; \
  if (has_mode(flags)) { \
    va_list rest; \
    va_start(rest, flags); \
    mode = va_arg(rest, mode_t); \
    va_end(rest); \
  }

#define OPENER(name) \
  int name(const char *path, int flags, ...) { \
    REAL(name); \
    MODE \
    if (hit_at(writes(flags) ? OPEN : READ, "open", AT_FDCWD, path)) return -1; \
    int there = there_before(AT_FDCWD, path, flags); \
    return opened(real(path, flags, mode), flags, there); \
  }

#define OPENER_AT(name) \
  int name(int dir, const char *path, int flags, ...) { \
    REAL(name); \
    MODE \
    if (hit_at(writes(flags) ? OPEN : READ, "open", dir, path)) return -1; \
    int there = there_before(dir, path, flags); \
    return opened(real(dir, path, flags, mode), flags, there); \
  }

OPENER(open)
OPENER(open64)
OPENER_AT(openat)
OPENER_AT(openat64)

/* --- contents --- */

/* How much of the first write that is hit is done; later ones fail. */
static size_t cut(size_t size) { return size > 1 ? size/2 : size; }

ssize_t write(int fd, const void *bytes, size_t size) {
  REAL(write);
  long long place = place_of_write(fd);
  if (hit_fd(WRITE, "write", fd)) {
    if (action != CUT || hits > 1) return -1;
    size = cut(size);
  }
  ssize_t done = real(fd, bytes, size);
  if (done > 0) record_fd_call("write", fd, place, done, bytes);
  return done;
}

#define PWRITER(name, offset_t) \
  ssize_t name(int fd, const void *bytes, size_t size, offset_t place) { \
    REAL(name); \
    if (hit_fd(WRITE, "write", fd)) { \
      if (action != CUT || hits > 1) return -1; \
      size = cut(size); \
    } \
    ssize_t done = real(fd, bytes, size, place); \
    if (done > 0) record_fd_call("write", fd, place, done, bytes); \
    return done; \
  }

PWRITER(pwrite, off_t)
PWRITER(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int n) {
  if (!armed && record_fd < 0) {
    REAL(writev);
    return real(fd, parts, n);
  }
  /* a caller has to go on after a short write */
  return n > 0 ? write(fd, parts[0].iov_base, parts[0].iov_len) : 0;
}

ssize_t read(int fd, void *bytes, size_t size) {
  REAL(read);
  return hit_fd(READ, "read", fd) ? -1 : real(fd, bytes, size);
}

ssize_t __read_chk(int fd, void *bytes, size_t size, size_t room) {
  (void)room;
  return read(fd, bytes, size);
}

ssize_t pread(int fd, void *bytes, size_t size, off_t place) {
  REAL(pread);
  return hit_fd(READ, "read", fd) ? -1 : real(fd, bytes, size, place);
}

ssize_t pread64(int fd, void *bytes, size_t size, off64_t place) {
  REAL(pread64);
  return hit_fd(READ, "read", fd) ? -1 : real(fd, bytes, size, place);
}

ssize_t __pread64_chk(int fd, void *bytes, size_t size, off64_t place, size_t room) {
  (void)room;
  return pread64(fd, bytes, size, place);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t place) {
  REAL(mmap);
  if (fd >= 0 && hit_fd(MMAP, "mmap", fd)) return MAP_FAILED;
  return real(at, size, protection, flags, fd, place);
}

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t place) {
  REAL(mmap64);
  if (fd >= 0 && hit_fd(MMAP, "mmap", fd)) return MAP_FAILED;
  return real(at, size, protection, flags, fd, place);
}

#define TRUNCATER(name, offset_t) \
  int name(int fd, offset_t size) { \
    REAL(name); \
    if (hit_fd(TRUNCATE, "truncate", fd)) return -1; \
    int result = real(fd, size); \
    if (!result) record_fd_call("truncate", fd, size, 0, NULL); \
    return result; \
  }

TRUNCATER(ftruncate, off_t)
TRUNCATER(ftruncate64, off64_t)

#define SYNCER(name) \
  int name(int fd) { \
    REAL(name); \
    if (hit_fd(SYNC, #name, fd)) return -1; \
    int result = real(fd); \
    if (!result) record_fd_call("sync", fd, 0, 0, NULL); \
    return result; \
  }

SYNCER(fsync)
SYNCER(fdatasync)

/* --- names --- */

int rename(const char *from, const char *to) {
  REAL(rename);
  if (hit_at(RENAME, "rename", AT_FDCWD, to)) return -1;
  int result = real(from, to);
  if (!result) record_names("rename", AT_FDCWD, from, AT_FDCWD, to);
  return result;
}

int renameat(int dir, const char *from, int dir_to, const char *to) {
  REAL(renameat);
  if (hit_at(RENAME, "rename", dir_to, to)) return -1;
  int result = real(dir, from, dir_to, to);
  if (!result) record_names("rename", dir, from, dir_to, to);
  return result;
}

int link(const char *from, const char *to) {
  REAL(link);
  if (hit_at(RENAME, "link", AT_FDCWD, to)) return -1;
  int result = real(from, to);
  if (!result) record_names("link", AT_FDCWD, from, AT_FDCWD, to);
  return result;
}

int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  if (hit_at(MKDIR, "mkdir", AT_FDCWD, path)) return -1;
  int result = real(path, mode);
  if (!result) record_names("mkdir", AT_FDCWD, path, 0, NULL);
  return result;
}

int mkdirat(int dir, const char *path, mode_t mode) {
  REAL(mkdirat);
  if (hit_at(MKDIR, "mkdir", dir, path)) return -1;
  int result = real(dir, path, mode);
  if (!result) record_names("mkdir", dir, path, 0, NULL);
  return result;
}

int unlink(const char *path) {
  REAL(unlink);
  if (hit_at(UNLINK, "unlink", AT_FDCWD, path)) return -1;
  int result = real(path);
  if (!result) record_names("unlink", AT_FDCWD, path, 0, NULL);
  return result;
}

int rmdir(const char *path) {
  REAL(rmdir);
  if (hit_at(UNLINK, "rmdir", AT_FDCWD, path)) return -1;
  int result = real(path);
  if (!result) record_names("rmdir", AT_FDCWD, path, 0, NULL);
  return result;
}

int unlinkat(int dir, const char *path, int flags) {
  REAL(unlinkat);
  const char *call = flags & AT_REMOVEDIR ? "rmdir" : "unlink";
  if (hit_at(UNLINK, call, dir, path)) return -1;
  int result = real(dir, path, flags);
  if (!result) record_names(call, dir, path, 0, NULL);
  return result;
}

/* --- modes and locks --- */

int chmod(const char *path, mode_t mode) {
  REAL(chmod);
  return hit_at(CHMOD, "chmod", AT_FDCWD, path) ? -1 : real(path, mode);
}

int fchmod(int fd, mode_t mode) {
  REAL(fchmod);
  return hit_fd(CHMOD, "chmod", fd) ? -1 : real(fd, mode);
}

int fchmodat(int dir, const char *path, mode_t mode, int flags) {
  REAL(fchmodat);
  return hit_at(CHMOD, "chmod", dir, path) ? -1 : real(dir, path, mode, flags);
}

int flock(int fd, int operation) {
  REAL(flock);
  return !(operation & LOCK_UN) && hit_fd(LOCK, "flock", fd) ? -1 : real(fd, operation);
}
