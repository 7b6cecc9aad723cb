/* The wall clock is an hour slow. Preloaded into the tests' httpd: it stands in for a server whose clock nobody sets. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

typedef int clock_function(clockid_t, struct timespec *);

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static clock_function *next;
    int result;

    if (!next)
        next = (clock_function *)dlsym(RTLD_NEXT, "clock_gettime");
    result = next(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec -= 3600;
    return result;
}
