/* Records what a process does to the files of one directory, with all data, for LD_PRELOAD.
 *
 * A record is one line, its fields separated by slashes; that of a write is followed by the data:
 *   create/NAME/INODE  link/NAME/INODE  rename/FROM/TO/INODE  unlink/NAME  syncdir
 *   write/INODE/OFFSET/SIZE  truncate/INODE/SIZE  chmod/INODE/MODE  sync/INODE  mark/TEXT
 * Files are named by inode, because what is written to one may have several names, or none.
 * Only calls that succeeded are recorded. A -shm file is mapped and holds nothing that lasts: of it
 * only the name is recorded.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char directory[512];
static size_t length;
static ino_t directory_inode;
static int output = -1;

static void put(const void *data, size_t size)
{
    while (size > 0) {
        ssize_t written = syscall(SYS_write, output, data, size);
        if (written <= 0)
            syscall(SYS_exit_group, 99);
        data = (const char *)data + written, size -= written;
    }
}

static void emit(const char *format, ...)
{
    char line[1024];
    va_list more;
    va_start(more, format);
    int size = vsnprintf(line, sizeof line, format, more);
    va_end(more);
    put(line, size);
}

void record_mark(const char *text) { emit("mark/%s\n", text); }

void record_start(const char *where, const char *log)
{
    struct stat status;
    stat(where, &status);
    directory_inode = status.st_ino;
    length = snprintf(directory, sizeof directory, "%s/", where);
    output = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
}

/* The name of a file in the directory; NULL for any other path. */
static const char *name_of(const char *path)
{
    if (output < 0 || !path || strncmp(path, directory, length) || strchr(path + length, '/'))
        return NULL;
    return path + length;
}

static long inode_of(const char *path)
{
    struct stat status;
    return lstat(path, &status) ? -1 : (long)status.st_ino;
}

/* The inode of a descriptor's file; 0 if it is not in the directory. */
static long watched(int fd)
{
    char link[64], path[1024];
    struct stat status;
    if (output < 0 || fstat(fd, &status))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size < 0 ? 0 : size] = 0;
    if (size > 4 && !strcmp(path + size - 4, "-shm"))
        return 0;
    return name_of(path) || status.st_ino == directory_inode ? (long)status.st_ino : 0;
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) \
        real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static void linked(const char *to)
{
    if (name_of(to))
        emit("link/%s/%ld\n", name_of(to), inode_of(to));
}

static void renamed(const char *from, const char *to)
{
    if (name_of(to))
        emit("rename/%s/%s/%ld\n", name_of(from), name_of(to), inode_of(to));
}

static void unlinked(const char *path)
{
    if (name_of(path))
        emit("unlink/%s\n", name_of(path));
}

static void synced(int fd)
{
    long inode = watched(fd);
    if (inode && inode == (long)directory_inode)
        emit("syncdir\n");
    else if (inode)
        emit("sync/%ld\n", inode);
}

static void truncated(int fd, long size)
{
    long inode = watched(fd);
    if (inode)
        emit("truncate/%ld/%ld\n", inode, size);
}

static void changed(const char *path, mode_t mode)
{
    if (name_of(path))
        emit("chmod/%ld/%u\n", inode_of(path), mode);
}

static void written(int fd, const void *data, ssize_t size, long at)
{
    long inode = size > 0 ? watched(fd) : 0;
    if (!inode)
        return;
    emit("write/%ld/%ld/%zd\n", inode, at < 0 ? lseek(fd, 0, SEEK_CUR) - size : at, size);
    put(data, size);
}

#define ON(result, name, parameters, arguments, record, ...) \
    result name parameters \
    { \
        REAL(result, name, __VA_ARGS__); \
        result answer = real arguments; \
        if (answer >= 0) \
            record; \
        return answer; \
    }

ON(int, link, (const char *from, const char *to), (from, to), linked(to), const char *, const char *)
ON(int, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags),
    linked(to), int, const char *, int, const char *, int)
ON(int, rename, (const char *from, const char *to), (from, to), renamed(from, to), const char *,
    const char *)
ON(int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags),
    (a, from, b, to, flags), renamed(from, to), int, const char *, int, const char *, unsigned)
ON(int, unlink, (const char *path), (path), unlinked(path), const char *)
ON(int, chmod, (const char *path, mode_t mode), (path, mode), changed(path, mode), const char *,
    mode_t)
ON(int, fsync, (int fd), (fd), synced(fd), int)
ON(int, fdatasync, (int fd), (fd), synced(fd), int)
ON(int, ftruncate, (int fd, off_t size), (fd, size), truncated(fd, size), int, off_t)
ON(int, ftruncate64, (int fd, off64_t size), (fd, size), truncated(fd, size), int, off64_t)
ON(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size),
    written(fd, data, answer, -1), int, const void *, size_t)
ON(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at),
    written(fd, data, answer, at), int, const void *, size_t, off_t)
ON(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at),
    written(fd, data, answer, at), int, const void *, size_t, off64_t)

#define ON_OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(int, name, const char *, int, ...); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        int is_new = flags & O_CREAT && name_of(path) && inode_of(path) < 0; \
        int fd = real(path, flags, mode); \
        if (fd >= 0 && is_new) \
            emit("create/%s/%ld\n", name_of(path), inode_of(path)); \
        else if (fd >= 0 && flags & O_TRUNC) \
            truncated(fd, 0); \
        return fd; \
    }

ON_OPEN(open)
ON_OPEN(open64)
