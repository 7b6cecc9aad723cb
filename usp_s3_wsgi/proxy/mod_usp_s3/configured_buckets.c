/* The list of configured buckets, which the check of the settings makes at each start and restart (configtest.c). */

#include "shared_memory.h"

#include "apr_time.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* How often a reader begins again when the list is replaced meanwhile. */
#define MAX_READS 100
/* How often the check of a restart waits for that of the restart before, and the microseconds between. */
#define MAX_WRITES 200
#define WRITE_INTERVAL 10000

/* The version is odd while the list is written. */
void usp_s3_store_configured_buckets(const char *text)
{
    unsigned version;
    apr_size_t length = strlen(text);
    int waits;

    if (!usp_s3_memory || length >= sizeof(usp_s3_memory->configuration))
        return;
    for (waits = 0; !usp_s3_lock(&usp_s3_memory->configuration_lock); waits++) {
        if (waits == MAX_WRITES)
            return;
        apr_sleep(WRITE_INTERVAL);
    }
    if (usp_s3_memory->configuration_generation > usp_s3_generation) {
        usp_s3_unlock(&usp_s3_memory->configuration_lock);
        return; /* of the check of a later restart, which was faster */
    }
    usp_s3_memory->configuration_generation = usp_s3_generation;
    version = __atomic_load_n(&usp_s3_memory->configuration_version, __ATOMIC_RELAXED) | 1;
    __atomic_store_n(&usp_s3_memory->configuration_version, version, __ATOMIC_SEQ_CST);
    memcpy(usp_s3_memory->configuration, text, length);
    usp_s3_memory->configuration_length = (unsigned)length;
    __atomic_store_n(&usp_s3_memory->configuration_version, version + 1, __ATOMIC_SEQ_CST);
    usp_s3_unlock(&usp_s3_memory->configuration_lock);
}

char *usp_s3_copy_configured_buckets(void)
{
    char *copy = NULL;
    int reads;

    for (reads = 0; usp_s3_memory && reads < MAX_READS; reads++) {
        unsigned version = __atomic_load_n(&usp_s3_memory->configuration_version, __ATOMIC_SEQ_CST);
        unsigned length = __atomic_load_n(&usp_s3_memory->configuration_length, __ATOMIC_SEQ_CST);

        if (!version || !length)
            return NULL;
        if (!(version & 1) && length < sizeof(usp_s3_memory->configuration) && (copy = malloc(length + 1))) {
            memcpy(copy, usp_s3_memory->configuration, length);
            copy[length] = '\0';
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            if (__atomic_load_n(&usp_s3_memory->configuration_version, __ATOMIC_SEQ_CST) == version)
                return copy;
            free(copy);
        }
        sched_yield();
    }
    return NULL;
}
