/*
 * Memory of APR's pools for AddressSanitizer, preloaded into httpd. A pool takes large blocks from malloc and divides them, so
 * that a read behind an allocation, or after the pool's end, stays within a block. Here malloc makes each allocation, which is
 * freed when its pool is cleared or destroyed, as in an APR that is built with --enable-pool-debug.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>

#include "apr_pools.h"
#include "apr_strings.h"

#undef apr_palloc
#undef apr_pool_clear
#undef apr_pool_destroy
#undef apr_pool_create_ex
#undef apr_pool_create_unmanaged_ex

#define BUCKETS 4093

/* What was allocated from a pool since it was created or cleared. */
typedef struct allocations {
    apr_pool_t *pool;
    void **blocks;
    size_t count, capacity;
    struct allocations *next;
} allocations;

static allocations *buckets[BUCKETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static allocations **find(apr_pool_t *pool)
{
    allocations **found = &buckets[(size_t)pool / 64 % BUCKETS];

    while (*found && (*found)->pool != pool)
        found = &(*found)->next;
    return found;
}

static void *next_function(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    if (!function)
        abort();
    return function;
}

/* The allocations of pools whose end has begun in this thread, and how many calls to end a pool have not returned. */
static __thread allocations *ended;
static __thread int depth;

/* A pool's first cleanup, which therefore runs last. The other cleanups may still use the memory. */
static apr_status_t end_allocations(void *data)
{
    allocations *of_pool = data, **found;

    pthread_mutex_lock(&lock);
    found = find(of_pool->pool);
    *found = of_pool->next;
    pthread_mutex_unlock(&lock);
    of_pool->next = ended;
    ended = of_pool;
    return APR_SUCCESS;
}

/* Call apr_pool_clear or apr_pool_destroy, then free the pool's memory: after the cleanups, APR uses its list of processes. */
static void end_pool(const char *name, apr_pool_t *pool)
{
    void (*end)(apr_pool_t *) = next_function(name);

    depth++;
    end(pool);
    depth--;
    while (depth == 0 && ended) {
        allocations *of_pool = ended;

        ended = of_pool->next;
        while (of_pool->count)
            free(of_pool->blocks[--of_pool->count]);
        free(of_pool->blocks);
        free(of_pool);
    }
}

/* As apr_pool_cleanup_null, which does not exist in the programs without APR that httpd starts. */
static apr_status_t do_nothing(void *data)
{
    (void)data;
    return APR_SUCCESS;
}

static void add_pool(apr_pool_t *pool)
{
    allocations *of_pool = calloc(1, sizeof(allocations));
    allocations **found;

    if (!of_pool)
        abort();
    of_pool->pool = pool;
    apr_pool_cleanup_register(pool, of_pool, end_allocations, do_nothing);
    pthread_mutex_lock(&lock);
    found = find(pool);
    *found = of_pool;
    pthread_mutex_unlock(&lock);
}

APR_DECLARE(apr_status_t)
apr_pool_create_ex(apr_pool_t **pool, apr_pool_t *parent, apr_abortfunc_t abort_function, apr_allocator_t *allocator)
{
    apr_status_t (*create)(apr_pool_t **, apr_pool_t *, apr_abortfunc_t,
                           apr_allocator_t *) = next_function("apr_pool_create_ex");
    apr_status_t status = create(pool, parent, abort_function, allocator);

    if (status == APR_SUCCESS)
        add_pool(*pool);
    return status;
}

APR_DECLARE(apr_status_t)
apr_pool_create_unmanaged_ex(apr_pool_t **pool, apr_abortfunc_t abort_function, apr_allocator_t *allocator)
{
    apr_status_t (*create)(apr_pool_t **, apr_abortfunc_t, apr_allocator_t *) = next_function("apr_pool_create_unmanaged_ex");
    apr_status_t status = create(pool, abort_function, allocator);

    if (status == APR_SUCCESS)
        add_pool(*pool);
    return status;
}

APR_DECLARE(void) apr_pool_clear(apr_pool_t *pool)
{
    end_pool("apr_pool_clear", pool);
    add_pool(pool);
}

APR_DECLARE(void) apr_pool_destroy(apr_pool_t *pool)
{
    end_pool("apr_pool_destroy", pool);
}

APR_DECLARE(void *) apr_palloc(apr_pool_t *pool, apr_size_t size)
{
    allocations *of_pool;
    void *block;

    pthread_mutex_lock(&lock);
    of_pool = *find(pool);
    pthread_mutex_unlock(&lock);
    if (!of_pool) {
        void *(*allocate)(apr_pool_t *, apr_size_t) = next_function("apr_palloc");
        return allocate(pool, size); /* its list is not made yet, or its end has begun */
    }
    if (of_pool->count == of_pool->capacity) {
        of_pool->capacity = of_pool->capacity ? of_pool->capacity * 2 : 16;
        of_pool->blocks = realloc(of_pool->blocks, of_pool->capacity * sizeof(void *));
    }
    block = malloc(size);
    if (!block || !of_pool->blocks)
        abort();
    of_pool->blocks[of_pool->count++] = block;
    return block;
}

/* apr_psprintf and others call it. APR's writes to a large block without an allocation. */
APR_DECLARE(char *) apr_pvsprintf(apr_pool_t *pool, const char *format, va_list arguments)
{
    va_list again;
    int length;
    char *text;

    va_copy(again, arguments);
    length = apr_vsnprintf(NULL, 0, format, again);
    va_end(again);
    text = apr_palloc(pool, (apr_size_t)length + 1);
    apr_vsnprintf(text, (apr_size_t)length + 1, format, arguments);
    return text;
}
