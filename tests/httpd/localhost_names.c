/*
 * Names below localhost are this machine (RFC 6761, section 6.3), also where its resolver does not say so. Preloaded into
 * the tests' httpd: it stands in for the DNS of virtual-host style bucket names. What begins with "two." has two addresses.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static int both(resolver *next, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    struct addrinfo *last;
    int status = next("127.0.0.2", service, hints, result);

    if (status != 0)
        return status;
    for (last = *result; last->ai_next; last = last->ai_next)
        ;
    return next("127.0.0.1", service, hints, &last->ai_next);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
    static const char end[] = ".localhost";
    resolver *next = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
    size_t length = node ? strlen(node) : 0;

    if (length >= sizeof(end) && strcmp(node + length - (sizeof(end) - 1), end) == 0) {
        if (strncmp(node, "two.", 4) == 0)
            return both(next, service, hints, result);
        node = "127.0.0.1";
    }
    return next(node, service, hints, result);
}
