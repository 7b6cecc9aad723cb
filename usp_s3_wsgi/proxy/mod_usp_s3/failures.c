/* The flight recorder: the last failed exchanges of each bucket, as observability/flight_recorder.py writes them. */

#include "shared_memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The place for a new failure: an empty one, or that of the oldest failure of the kind with the most failures. */
static int find_place(const usp_s3_failure_list *list, unsigned kind)
{
    int i, j, chosen = 0, most = 0;

    for (i = 0; i < USP_S3_MAX_FAILURES; i++) {
        int count = list->failures[i].kind == kind; /* the new one counts too */

        if (!list->failures[i].number)
            return i;
        for (j = 0; j < USP_S3_MAX_FAILURES; j++)
            count += list->failures[j].kind == list->failures[i].kind;
        if (count > most || (count == most && list->failures[i].number < list->failures[chosen].number)) {
            chosen = i;
            most = count;
        }
    }
    return chosen;
}

void usp_s3_record_failure(const char *host, const char *bucket, usp_s3_way way, unsigned kind, const char *bytes,
                           apr_size_t length)
{
    usp_s3_failure_list *list;
    int place;

    if (!usp_s3_memory || length > USP_S3_FAILURE_SIZE)
        return;
    list = &usp_s3_memory->failures[usp_s3_find_bucket(host, bucket)];
    if (!usp_s3_lock(&list->lock))
        return;
    place = find_place(list, kind);
    list->failures[place].number = 0; /* if this process is killed now, there is none */
    memcpy(list->failures[place].bytes, bytes, length);
    list->failures[place].length = (unsigned)length;
    list->failures[place].kind = kind;
    list->failures[place].way = way;
    list->last_number = list->last_number % 999999999 + 1;
    __atomic_store_n(&list->failures[place].number, list->last_number, __ATOMIC_RELEASE);
    usp_s3_unlock(&list->lock);
}

void usp_s3_for_each_failure(usp_s3_failure_callback *callback, void *context)
{
    usp_s3_failure_list *copy = usp_s3_memory ? malloc(sizeof(*copy)) : NULL;
    int i, j, goes_on = 1;

    for (i = 0; copy && goes_on && i <= USP_S3_MAX_BUCKETS; i++) {
        usp_s3_failure_list *list = &usp_s3_memory->failures[i];
        const usp_s3_bucket_metrics *bucket = &usp_s3_memory->buckets[i];

        if (!list->last_number || !usp_s3_lock(&list->lock))
            continue;
        memcpy(copy, list, sizeof(*copy));
        usp_s3_unlock(&list->lock);
        for (j = 0; goes_on && j < USP_S3_MAX_FAILURES; j++) {
            if (copy->failures[j].number && copy->failures[j].length <= USP_S3_FAILURE_SIZE)
                goes_on = callback(context, bucket->host, i < USP_S3_MAX_BUCKETS ? bucket->bucket : NULL, copy->failures[j].way,
                                   i, copy->failures[j].number, copy->failures[j].bytes, copy->failures[j].length);
        }
    }
    free(copy);
}

void usp_s3_unlock_failures_of_killed_processes(void)
{
    int i;

    for (i = 0; i <= USP_S3_MAX_BUCKETS; i++)
        usp_s3_unlock_if_abandoned(&usp_s3_memory->failures[i].lock);
}

void usp_s3_unlock_failures_of_namesake(void)
{
    pid_t own = getpid();
    int i;

    for (i = 0; i <= USP_S3_MAX_BUCKETS; i++) {
        pid_t *lock = &usp_s3_memory->failures[i].lock;

        if (__atomic_load_n(lock, __ATOMIC_ACQUIRE) == own)
            usp_s3_unlock(lock);
    }
}
