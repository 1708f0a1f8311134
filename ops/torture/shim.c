/* Loaded before libc into a Redis or a node under test (LD_PRELOAD): its clock can be moved and its fdatasync watched.
 *
 * TORTURE_CLOCK  a file of one native double: seconds added to the wall clock. Mapped, so it can be changed at any time.
 * TORTURE_SYNC   a file of triples of native 64-bit numbers. A triple (inode, size, monotonic ns) is appended after each
 *                fdatasync or fsync that returned: up to there the file would have survived the loss of power. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile double *clock_offset;
static int sync_file = -1;

/* Other libraries' constructors ask for the time before ours has run, so each function finds the real one by itself. */
#define REAL(type, name) \
    static type real; \
    if (!real) real = (type)dlsym(RTLD_NEXT, name)

typedef int (*clock_gettime_function)(clockid_t, struct timespec *);
typedef int (*gettimeofday_function)(struct timeval *, void *);
typedef int (*sync_function)(int);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TORTURE_CLOCK");
    if (path) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            void *mapped = mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
            if (mapped != MAP_FAILED) clock_offset = mapped;
            close(file);
        }
    }
    path = getenv("TORTURE_SYNC");
    if (path) sync_file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static double offset(void) { return clock_offset ? *clock_offset : 0.0; }

int clock_gettime(clockid_t id, struct timespec *found) {
    REAL(clock_gettime_function, "clock_gettime");
    int code = real(id, found);
    double by = offset();
    if (code == 0 && by != 0.0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        int64_t ns = (int64_t)(by * 1e9) + found->tv_nsec + (int64_t)found->tv_sec * 1000000000LL;
        found->tv_sec = ns / 1000000000LL;
        found->tv_nsec = ns % 1000000000LL;
    }
    return code;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone) {
    REAL(gettimeofday_function, "gettimeofday");
    int code = real(found, zone);
    double by = offset();
    if (code == 0 && by != 0.0) {
        int64_t us = (int64_t)(by * 1e6) + found->tv_usec + (int64_t)found->tv_sec * 1000000LL;
        found->tv_sec = us / 1000000LL;
        found->tv_usec = us % 1000000LL;
    }
    return code;
}

time_t time(time_t *found) {
    struct timeval now;
    gettimeofday(&now, NULL);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}

/* The size is taken before the call: what another thread appends during it need not be on the disk. */
static int synced(sync_function real, int file) {
    struct stat before;
    int is_known = sync_file >= 0 && fstat(file, &before) == 0;
    int code = real(file);
    if (code == 0 && is_known) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        uint64_t ns = (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
        uint64_t triple[3] = {(uint64_t)before.st_ino, (uint64_t)before.st_size, ns};
        ssize_t written = write(sync_file, triple, sizeof triple);
        (void)written;
    }
    return code;
}

int fdatasync(int file) {
    REAL(sync_function, "fdatasync");
    return synced(real, file);
}

int fsync(int file) {
    REAL(sync_function, "fsync");
    return synced(real, file);
}
