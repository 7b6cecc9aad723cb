/*
 * What was learned of S3, as far as httpd's threads must know of it without Python: the version that counts (each change in
 * usp_s3_wsgi/learned.py makes a new one), and by which one S3 has granted something last.
 */

#include "mod_usp_s3.h"

#include <pthread.h>

/* As many hosts as can be remembered; a second one with the same number takes the place of the first. */
#define SLOTS 1024

typedef struct {
    char *host;
    apr_int64_t version;
} granted_slot;

static granted_slot slots[SLOTS];
static apr_int64_t newest;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static granted_slot *slot_of(const char *host)
{
    apr_ssize_t length = APR_HASH_KEY_STRING;

    return &slots[apr_hashfunc_default(host, &length) % SLOTS];
}

void usp_s3_set_version(apr_int64_t version)
{
    pthread_mutex_lock(&mutex);
    if (version > newest)
        newest = version;
    pthread_mutex_unlock(&mutex);
}

apr_int64_t usp_s3_version(void)
{
    apr_int64_t version;

    pthread_mutex_lock(&mutex);
    version = newest;
    pthread_mutex_unlock(&mutex);
    return version;
}

void usp_s3_set_granted(const signed_request *request)
{
    granted_slot *place = slot_of(request->host);

    pthread_mutex_lock(&mutex);
    if (!place->host || strcmp(place->host, request->host) != 0) {
        free(place->host);
        place->host = strdup(request->host);
        place->version = request->version;
    }
    else if (place->version < request->version)
        place->version = request->version;
    pthread_mutex_unlock(&mutex);
}

apr_int64_t usp_s3_granted(const signed_request *request)
{
    granted_slot *place = slot_of(request->host);
    apr_int64_t version;

    pthread_mutex_lock(&mutex);
    version = place->host && strcmp(place->host, request->host) == 0 ? place->version : -1;
    pthread_mutex_unlock(&mutex);
    return version;
}
