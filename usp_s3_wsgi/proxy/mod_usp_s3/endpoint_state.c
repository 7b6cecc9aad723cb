/*
 * The version of Python's endpoint state (S3's clock and the regions of buckets), for httpd's threads that do not call Python.
 *
 * Each change of the state makes a new version, and templates of an older one are not used any more. For each host, the newest
 * version is kept whose signatures S3 has accepted: clock_correction.py needs it to judge a denial.
 */

#include "mod_usp_s3.h"

#include <pthread.h>

/* A hash table without chains: a host replaces another one with the same hash. */
#define SLOTS 1024

typedef struct {
    char *host;
    apr_int64_t version;
} host_slot;

static host_slot slots[SLOTS];
static apr_int64_t state_version;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static host_slot *find_slot(const char *host)
{
    apr_ssize_t length = APR_HASH_KEY_STRING;

    return &slots[apr_hashfunc_default(host, &length) % SLOTS];
}

void usp_s3_set_state_version(apr_int64_t version)
{
    pthread_mutex_lock(&mutex);
    if (version > state_version)
        state_version = version;
    pthread_mutex_unlock(&mutex);
}

apr_int64_t usp_s3_get_state_version(void)
{
    apr_int64_t version;

    pthread_mutex_lock(&mutex);
    version = state_version;
    pthread_mutex_unlock(&mutex);
    return version;
}

void usp_s3_record_accepted_version(const signed_request *request)
{
    host_slot *slot = find_slot(request->host);

    pthread_mutex_lock(&mutex);
    if (!slot->host || strcmp(slot->host, request->host) != 0) {
        free(slot->host);
        slot->host = strdup(request->host);
        slot->version = request->state_version;
    }
    else if (slot->version < request->state_version)
        slot->version = request->state_version;
    pthread_mutex_unlock(&mutex);
}

apr_int64_t usp_s3_get_accepted_version(const signed_request *request)
{
    host_slot *slot = find_slot(request->host);
    apr_int64_t version;

    pthread_mutex_lock(&mutex);
    version = slot->host && strcmp(slot->host, request->host) == 0 ? slot->version : -1;
    pthread_mutex_unlock(&mutex);
    return version;
}
