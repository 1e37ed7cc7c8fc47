/* Ends the process by SIGKILL at the n-th change of a file, before it or in the middle of it; or
   writes a log of all changes, from which a power cut can be played. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static long seen = 0, fatal = -1;
static int torn = 0, armed = 0, log_to = -1;

void faults_arm(long number, int half) { seen = 0; fatal = number; torn = half; armed = 1; }
void faults_disarm(void) { armed = 0; log_to = -1; }
void faults_log(const char *path) { log_to = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600); }
long faults_seen(void) { return seen; }

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

static ssize_t plain_write(int fd, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t) = NULL;
    if (!real) real = (ssize_t (*)(int, const void *, size_t)) dlsym(RTLD_NEXT, "write");
    return real(fd, data, size);
}

/* A line: what was done, to which file, where, how many bytes; and the bytes. */
static void note_path(char kind, const char *path, long at, const void *data, size_t size) {
    char line[4600];
    int length = snprintf(line, sizeof line, "%c\t%s\t%ld\t%zu\n", kind, path, at, size);
    plain_write(log_to, line, length);
    if (size) plain_write(log_to, data, size);
}

static void note(char kind, int fd, long at, const void *data, size_t size) {
    char link[64], path[4096];
    ssize_t length;
    if (log_to < 0 || fd == log_to) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return;
    path[length] = 0;
    note_path(kind, path, at, data, size);
}

static int is_file(int fd) {
    struct stat facts;
    return fd > 2 && fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode);
}

/* Whether this change is the last; what is not torn dies before it. */
static int last(int writes) {
    if (!armed || ++seen != fatal) return 0;
    if (!torn || !writes) die();
    return 1;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__) = NULL; \
    if (!real) real = (type (*)(__VA_ARGS__)) dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (armed && is_file(fd) && last(1)) { real(fd, data, size / 2); die(); }
    if (log_to >= 0 && is_file(fd)) note('W', fd, lseek(fd, 0, SEEK_CUR), data, size);
    return real(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    if (armed && is_file(fd) && last(1)) { real(fd, data, size / 2, at); die(); }
    if (log_to >= 0 && is_file(fd)) note('W', fd, at, data, size);
    return real(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (armed && is_file(fd) && last(1)) { real(fd, data, size / 2, at); die(); }
    if (log_to >= 0 && is_file(fd)) note('W', fd, at, data, size);
    return real(fd, data, size, at);
}

int ftruncate(int fd, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    if (armed) last(0);
    note('T', fd, size, NULL, 0);
    return real(fd, size);
}

int ftruncate64(int fd, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    if (armed) last(0);
    note('T', fd, size, NULL, 0);
    return real(fd, size);
}

int fsync(int fd) {
    REAL(int, "fsync", int);
    if (armed) last(0);
    note('S', fd, 0, NULL, 0);
    return real(fd);
}

int fdatasync(int fd) {
    REAL(int, "fdatasync", int);
    if (armed) last(0);
    note('S', fd, 0, NULL, 0);
    return real(fd);
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (armed) last(0);
    if (log_to >= 0) note_path('U', path, 0, NULL, 0);
    return real(path);
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    if (armed) last(0);
    return real(from, to);
}
