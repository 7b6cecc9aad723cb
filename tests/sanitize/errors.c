/* One error in each function. A child of httpd calls it (errors_in_httpd.py). A sanitizer must report it and end the child. */

#include "apr_pools.h"

extern int read_behind(const volatile char *bytes, int length);
extern int read_behind_pool_memory(int length);
extern int read_after_pool_end(void);
extern int add(int first, int second);

/* Called with a Python object, for which Python must have used malloc. */
int read_behind(const volatile char *bytes, int length)
{
    return bytes[length];
}

int read_behind_pool_memory(int length)
{
    apr_pool_t *pool;
    volatile char *bytes;

    apr_pool_create(&pool, NULL);
    bytes = apr_palloc(pool, (apr_size_t)length);
    return bytes[length];
}

int read_after_pool_end(void)
{
    apr_pool_t *parent, *child;
    volatile char *bytes;

    apr_pool_create(&parent, NULL);
    apr_pool_create(&child, parent);
    bytes = apr_palloc(child, 8);
    bytes[0] = 1;
    apr_pool_destroy(parent);
    return bytes[0];
}

int add(int first, int second)
{
    return first + second;
}
