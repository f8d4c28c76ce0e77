// SPDX-License-Identifier: BSD-3-Clause
// Makes calls of the C library fail, or kills the process at them: put into a process with LD_PRELOAD.
//
// SCRJOB_FAULTS: rules, with ';' between them; each is OPERATIONS:TEXT:NUMBER:ACTION.
//   OPERATIONS  names with ',' between them: open, create, read, write, sync, rename, unlink, mkdir,
//               attributes; "change": all but open and read
//   TEXT        matches if the path has it, or its end if TEXT ends with '$'; "" matches all
//   NUMBER      the call that fails, the first is 1; with '+' behind it that one and all after it
//   ACTION      EIO, ENOSPC, EACCES, ESTALE, EDQUOT; SHORT: reading ends here; KILL: the process is killed
//               before the call; COUNT: nothing
// SCRJOB_FAULTS_COUNT: a file that gets the number of calls that the first rule matched, at the end.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, CREATE = 2, READ = 4, WRITE = 8, SYNC = 16, RENAME = 32, UNLINK = 64, MKDIR = 128, ATTRIBUTES = 256 };
enum { KILL = -1, COUNT = -2, SHORT = -3, NOTHING = 0 };

static const struct { const char *name; int value; } OPERATIONS[] = {
    {"open", OPEN}, {"create", CREATE}, {"read", READ}, {"write", WRITE}, {"sync", SYNC}, {"rename", RENAME},
    {"unlink", UNLINK}, {"mkdir", MKDIR}, {"attributes", ATTRIBUTES},
    {"change", CREATE | WRITE | SYNC | RENAME | UNLINK | MKDIR | ATTRIBUTES},
}, ACTIONS[] = {
    {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EACCES", EACCES}, {"ESTALE", ESTALE}, {"EDQUOT", EDQUOT},
    {"KILL", KILL}, {"COUNT", COUNT}, {"SHORT", SHORT},
};

struct rule {
    int operations, action, onwards;
    long number;
    char text[512];
    atomic_long seen;
};

static struct rule rules[16];
static int rule_count;
static const char *count_file;

static void die(const char *what)
{
    dprintf(2, "faults: cannot understand %s\n", what);
    _exit(97);
}

__attribute__((constructor)) static void begin(void)
{
    char *all = getenv("SCRJOB_FAULTS");
    count_file = getenv("SCRJOB_FAULTS_COUNT");
    if (all == NULL || *all == 0) return;
    all = strdup(all);
    char *next_rule;
    for (char *text = strtok_r(all, ";", &next_rule); text; text = strtok_r(NULL, ";", &next_rule)) {
        struct rule *rule = &rules[rule_count++];
        char *fields[4];
        for (int i = 0; i < 4; i++) {
            fields[i] = text;
            text = text ? strchr(text, ':') : NULL;
            if (text) *text++ = 0;
        }
        if (fields[3] == NULL) die("a rule with too few parts");
        char *next_name;
        for (char *name = strtok_r(fields[0], ",", &next_name); name; name = strtok_r(NULL, ",", &next_name)) {
            int found = 0;
            for (size_t i = 0; i < sizeof OPERATIONS / sizeof *OPERATIONS; i++)
                if (strcmp(name, OPERATIONS[i].name) == 0) found = OPERATIONS[i].value;
            if (!found) die(name);
            rule->operations |= found;
        }
        snprintf(rule->text, sizeof rule->text, "%s", fields[1]);
        char *end;
        rule->number = strtol(fields[2], &end, 10);
        rule->onwards = *end == '+';
        for (size_t i = 0; i < sizeof ACTIONS / sizeof *ACTIONS; i++)
            if (strcmp(fields[3], ACTIONS[i].name) == 0) rule->action = ACTIONS[i].value;
        if (rule->action == NOTHING) die(fields[3]);
    }
    free(all);
}

__attribute__((destructor)) static void end(void)
{
    if (count_file == NULL) return;
    FILE *file = fopen(count_file, "w");
    if (file) {
        fprintf(file, "%ld\n", atomic_load(&rules[0].seen));
        fclose(file);
    }
}

static int matches(const char *path, const char *text)
{
    size_t length = strlen(text);
    if (length && text[length - 1] == '$') {
        size_t have = strlen(path);
        length--;
        return have >= length && strncmp(path + have - length, text, length) == 0;
    }
    return strstr(path, text) != NULL;
}

// Returns what is to be done instead of the call, NOTHING for the call itself.
static int strike(int operation, const char *path)
{
    for (int i = 0; i < rule_count; i++) {
        struct rule *rule = &rules[i];
        if (!(rule->operations & operation) || !matches(path, rule->text)) continue;
        long number = atomic_fetch_add(&rule->seen, 1) + 1;
        if (rule->onwards ? number < rule->number : number != rule->number) continue;
        if (rule->action == KILL) kill(getpid(), SIGKILL);
        if (rule->action != COUNT) return rule->action;
    }
    return NOTHING;
}

static const char *path_of(int fd, char *buffer)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    buffer[length < 0 ? 0 : length] = 0;
    return buffer;
}

static const char *path_at(int dir, const char *path, char *buffer)
{
    if (path[0] == '/' || dir == AT_FDCWD) return path;
    path_of(dir, buffer);
    size_t length = strlen(buffer);
    snprintf(buffer + length, PATH_MAX - length, "/%s", path);
    return buffer;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (real == NULL) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

#define FAIL_AT(operation, path) \
    do { \
        int saved = errno, found = rule_count ? strike(operation, path) : NOTHING; \
        errno = saved; \
        if (found > 0) { errno = found; return -1; } \
        if (found == SHORT) return 0; \
    } while (0)

#define FD_CALL(type, name, operation, parameters, arguments) \
    type name parameters \
    { \
        REAL(name); \
        char buffer[PATH_MAX]; \
        FAIL_AT(operation, rule_count ? path_of(fd, buffer) : ""); \
        return real arguments; \
    }

FD_CALL(ssize_t, read, READ, (int fd, void *data, size_t size), (fd, data, size))
FD_CALL(ssize_t, readv, READ, (int fd, const struct iovec *list, int count), (fd, list, count))
FD_CALL(ssize_t, preadv, READ, (int fd, const struct iovec *list, int count, off_t at), (fd, list, count, at))
FD_CALL(ssize_t, preadv64, READ, (int fd, const struct iovec *list, int count, off64_t at), (fd, list, count, at))
FD_CALL(ssize_t, preadv2, READ, (int fd, const struct iovec *list, int count, off_t at, int flags), (fd, list, count, at, flags))
FD_CALL(ssize_t, preadv64v2, READ, (int fd, const struct iovec *list, int count, off64_t at, int flags), (fd, list, count, at, flags))
FD_CALL(ssize_t, pread64, READ, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at))
FD_CALL(ssize_t, write, WRITE, (int fd, const void *data, size_t size), (fd, data, size))
FD_CALL(ssize_t, pwrite, WRITE, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
FD_CALL(ssize_t, pwrite64, WRITE, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
FD_CALL(int, fsync, SYNC, (int fd), (fd))
FD_CALL(int, fdatasync, SYNC, (int fd), (fd))
FD_CALL(int, syncfs, SYNC, (int fd), (fd))
FD_CALL(int, ftruncate, WRITE, (int fd, off_t size), (fd, size))
FD_CALL(int, ftruncate64, WRITE, (int fd, off64_t size), (fd, size))
FD_CALL(int, fchmod, ATTRIBUTES, (int fd, mode_t mode), (fd, mode))
FD_CALL(int, fchown, ATTRIBUTES, (int fd, uid_t user, gid_t group), (fd, user, group))
FD_CALL(int, futimens, ATTRIBUTES, (int fd, const struct timespec times[2]), (fd, times))

ssize_t copy_file_range(int from, off64_t *from_at, int fd, off64_t *at, size_t size, unsigned flags)
{
    REAL(copy_file_range);
    char buffer[PATH_MAX];
    FAIL_AT(READ, rule_count ? path_of(from, buffer) : "");
    FAIL_AT(WRITE, rule_count ? path_of(fd, buffer) : "");
    return real(from, from_at, fd, at, size, flags);
}

static int mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, int) : 0;
}

#define OPEN_CALL(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        int mode = mode_of(flags, rest); \
        va_end(rest); \
        FAIL_AT(flags & O_CREAT ? CREATE : OPEN, path); \
        return real(path, flags, mode); \
    }

#define OPENAT_CALL(name) \
    int name(int dir, const char *path, int flags, ...) \
    { \
        REAL(name); \
        char buffer[PATH_MAX]; \
        va_list rest; \
        va_start(rest, flags); \
        int mode = mode_of(flags, rest); \
        va_end(rest); \
        FAIL_AT(flags & O_CREAT ? CREATE : OPEN, rule_count ? path_at(dir, path, buffer) : ""); \
        return real(dir, path, flags, mode); \
    }

OPEN_CALL(open)
OPEN_CALL(open64)
OPENAT_CALL(openat)
OPENAT_CALL(openat64)

int rename(const char *from, const char *to)
{
    REAL(rename);
    FAIL_AT(RENAME, to);
    return real(from, to);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    REAL(renameat);
    char buffer[PATH_MAX];
    FAIL_AT(RENAME, rule_count ? path_at(to_dir, to, buffer) : "");
    return real(from_dir, from, to_dir, to);
}

int unlink(const char *path)
{
    REAL(unlink);
    FAIL_AT(UNLINK, path);
    return real(path);
}

int unlinkat(int dir, const char *path, int flags)
{
    REAL(unlinkat);
    char buffer[PATH_MAX];
    FAIL_AT(UNLINK, rule_count ? path_at(dir, path, buffer) : "");
    return real(dir, path, flags);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    FAIL_AT(MKDIR, path);
    return real(path, mode);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    REAL(mkdirat);
    char buffer[PATH_MAX];
    FAIL_AT(MKDIR, rule_count ? path_at(dir, path, buffer) : "");
    return real(dir, path, mode);
}
