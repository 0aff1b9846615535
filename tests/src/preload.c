/* Faults that a test cannot make by files and sockets: a disk that does not answer, a name server
 * that is silent, a clock that is set. The broker is started with this library in LD_PRELOAD.
 *
 * SLOW_WHILE   while this file exists, what SLOW_PATH and SLOW_NAME name does not answer
 * SLOW_PATH    a part of the paths that are slow to open and to look up
 * SLOW_NAME    a part of the host names that are slow to resolve
 * CLOCK_OFFSET a file with the seconds by which the clock is off
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void wait_for_it(const char *part, const char *name) {
    const char *gate = getenv("SLOW_WHILE");
    if (gate == NULL || part == NULL || name == NULL || strstr(name, part) == NULL) return;
    struct timespec pause = {0, 10000000};
    while (syscall(SYS_faccessat, AT_FDCWD, gate, F_OK) == 0) nanosleep(&pause, NULL);
}

int open64(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    wait_for_it(getenv("SLOW_PATH"), path);
    int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
    return next(path, flags, mode);
}

int statx(int folder, const char *restrict path, int flags, unsigned mask,
          struct statx *restrict found) {
    wait_for_it(getenv("SLOW_PATH"), path);
    int (*next)(int, const char *, int, unsigned, struct statx *) = dlsym(RTLD_NEXT, "statx");
    return next(folder, path, flags, mask, found);
}

int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict found) {
    wait_for_it(getenv("SLOW_NAME"), name);
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    return next(name, service, hints, found);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    long done = syscall(SYS_clock_gettime, clock, now);
    const char *path = getenv("CLOCK_OFFSET");
    if (done != 0 || clock != CLOCK_REALTIME || path == NULL) return (int)done;
    char text[24] = {0};
    long file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0);
    if (file < 0) return 0;
    syscall(SYS_read, file, text, sizeof text - 1);
    syscall(SYS_close, file);
    now->tv_sec += atol(text);
    return 0;
}
