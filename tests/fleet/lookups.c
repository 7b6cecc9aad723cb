/*
 * Counts how often httpd resolves a name below "fleet", and resolves it to the address in FLEET_ADDRESS. Preloaded into the nodes
 * of the capacity measurement; each lookup appends a byte to the file in FLEET_LOOKUPS.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    static const char end[] = ".fleet";
    resolver *next = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    size_t length = node ? strlen(node) : 0;

    if (length >= sizeof(end) && strcmp(node + length - (sizeof(end) - 1), end) == 0) {
        int file = open(getenv("FLEET_LOOKUPS"), O_WRONLY | O_APPEND);

        if (file >= 0) {
            if (write(file, ".", 1) != 1)
                abort();
            close(file);
        }
        node = getenv("FLEET_ADDRESS");
    }
    return next(node, service, hints, result);
}
