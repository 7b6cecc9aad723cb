/*
 * The wall clock is CLOCK_SHIFT seconds fast, or slow if that is negative. Preloaded into an httpd, it stands in for a server with
 * a wrong clock; preloaded into a radosgw, the credentials that it issues expire earlier or later by other clocks. Monotonic
 * clocks, which both use for timeouts, stay as they are.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

typedef int clock_function(clockid_t, struct timespec *);

static clock_function *true_clock;
static long shift;

__attribute__((constructor)) static void set(void)
{
    const char *text = getenv("CLOCK_SHIFT");

    shift = text ? atol(text) : 0;
    true_clock = (clock_function *)dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result;

    if (!true_clock) /* another library's constructor is before ours */
        set();
    result = true_clock(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += shift;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
        return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}
