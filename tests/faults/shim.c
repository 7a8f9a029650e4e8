/* Faults at file operations, for LD_PRELOAD: counts the operations on files below one directory,
 * and at the n-th kills or stops the process, tears the write in two, or lets the operation fail.
 *
 * Counted: open with O_CREAT, write, pwrite, fsync, fdatasync, ftruncate, link, unlink, rename,
 * renameat2, chmod, chown. Not counted: -shm files, which are mapped and hold nothing that lasts;
 * FAIL_INDEX counts them alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* FAIL_ON: the n-th operation and all after it fail, those on -shm files too: a disk is full.
 * FAIL_INDEX: the n-th operation on a -shm file fails. */
enum action { NONE, KILL, TEAR, FAIL, STOP, FAIL_ON, FAIL_INDEX };

static char directory[512], operations[1 << 16];
static size_t directory_length;
static int action, failure;
static long wanted, counted;

void fault_arm(const char *where, int what, long nth, int error)
{
    snprintf(directory, sizeof directory, "%s", where);
    directory_length = strlen(directory);
    action = what, wanted = nth, failure = error, counted = 0, operations[0] = 0;
}

/* One line an operation: its name and the file's name. */
const char *fault_operations(void) { return operations; }
long fault_count(void) { return counted; }

static int is_watched(const char *path)
{
    size_t length = path ? strlen(path) : 0;
    int is_index = length > 4 && !strcmp(path + length - 4, "-shm");
    return directory_length && length >= directory_length
        && !strncmp(path, directory, directory_length)
        && (action == FAIL_ON || is_index == (action == FAIL_INDEX));
}

static const char *path_of(int fd, char *buffer, size_t size)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = directory_length ? readlink(link, buffer, size - 1) : -1;
    if (length < 0)
        return NULL;
    buffer[length] = 0;
    return buffer;
}

/* Count an operation; return 1 if it is to fail, 2 if only half of it is to be written. */
static int reached(const char *name, const char *path)
{
    size_t used = strlen(operations);
    const char *base = strrchr(path, '/');
    snprintf(operations + used, sizeof operations - used, "%s %s\n", name, base ? base + 1 : path);
    if (++counted > wanted && action == FAIL_ON) {
        errno = failure;
        return 1;
    }
    if (counted != wanted)
        return 0;
    if (action == KILL)
        kill(getpid(), SIGKILL);
    if (action == STOP)
        kill(getpid(), SIGSTOP);
    if (action == FAIL || action == FAIL_ON || action == FAIL_INDEX) {
        errno = failure;
        return 1;
    }
    return action == TEAR ? 2 : 0;
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) \
        real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define ON_PATH(result, name, path, parameters, arguments, ...) \
    result name parameters \
    { \
        REAL(result, name, __VA_ARGS__); \
        if (is_watched(path) && reached(#name, path) == 1) \
            return -1; \
        return real arguments; \
    }

ON_PATH(int, link, to, (const char *from, const char *to), (from, to), const char *, const char *)
ON_PATH(int, unlink, path, (const char *path), (path), const char *)
ON_PATH(int, rename, to, (const char *from, const char *to), (from, to), const char *, const char *)
ON_PATH(int, chmod, path, (const char *path, mode_t mode), (path, mode), const char *, mode_t)
ON_PATH(int, chown, path, (const char *path, uid_t owner, gid_t group), (path, owner, group),
    const char *, uid_t, gid_t)
ON_PATH(int, linkat, to, (int a, const char *from, int b, const char *to, int flags),
    (a, from, b, to, flags), int, const char *, int, const char *, int)
ON_PATH(int, renameat2, to, (int a, const char *from, int b, const char *to, unsigned flags),
    (a, from, b, to, flags), int, const char *, int, const char *, unsigned)

#define ON_FILE(name, parameters, arguments, ...) \
    int name parameters \
    { \
        REAL(int, name, __VA_ARGS__); \
        char buffer[1024]; \
        const char *path = path_of(fd, buffer, sizeof buffer); \
        if (is_watched(path) && reached(#name, path) == 1) \
            return -1; \
        return real arguments; \
    }

ON_FILE(fsync, (int fd), (fd), int)
ON_FILE(fdatasync, (int fd), (fd), int)
ON_FILE(ftruncate, (int fd, off_t size), (fd, size), int, off_t)
ON_FILE(ftruncate64, (int fd, off64_t size), (fd, size), int, off64_t)
ON_FILE(fchmod, (int fd, mode_t mode), (fd, mode), int, mode_t)
ON_FILE(fchown, (int fd, uid_t owner, gid_t group), (fd, owner, group), int, uid_t, gid_t)

#define ON_WRITE(name, parameters, arguments, half, ...) \
    ssize_t name parameters \
    { \
        REAL(ssize_t, name, __VA_ARGS__); \
        char buffer[1024]; \
        const char *path = path_of(fd, buffer, sizeof buffer); \
        int fate = is_watched(path) ? reached(#name, path) : 0; \
        if (fate == 1) \
            return -1; \
        if (fate == 2) { \
            real half; \
            kill(getpid(), SIGKILL); \
        } \
        return real arguments; \
    }

ON_WRITE(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2),
    int, const void *, size_t)
ON_WRITE(pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at),
    (fd, data, size / 2, at), int, const void *, size_t, off_t)
ON_WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at),
    (fd, data, size / 2, at), int, const void *, size_t, off64_t)

#define ON_OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(int, name, const char *, int, ...); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        if (flags & O_CREAT && is_watched(path) && reached("create", path) == 1) \
            return -1; \
        return real(path, flags, mode); \
    }

ON_OPEN(open)
ON_OPEN(open64)
