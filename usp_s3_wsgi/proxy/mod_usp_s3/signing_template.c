/*
 * Signatures of the same second. Python signs the first request of a section in each second, and says how it did: what is
 * hashed and sent is the same for the next ones, but for the method and the path. Those are signed here, without Python and
 * its lock, where nothing but the signature is new: a path that decodes and encodes to itself, and no query to pass.
 */

#include "mod_usp_s3.h"

#include <pthread.h>

/* As many sections as can be remembered; a second one with the same number takes the place of the first. */
#define SLOTS 1024

typedef struct {
    apr_pool_t *pool;
    const char *identity;
    apr_size_t identity_length;
    usp_s3_alike alike;
} slot;

static slot slots[SLOTS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* ---------------------------------------------------------------- which requests are alike */

/* Not isalnum, which goes by the locale. */
static int is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'
           || c == '~';
}

/* Whether a path decodes and encodes to itself; a segment that begins with a dot is for Python to judge. */
static int is_plain(const char *path, const char *end)
{
    if (path == end || *path != '/')
        return 0;
    for (; path < end; path++) {
        if (*path == '/' ? path + 1 == end || path[1] == '/' || path[1] == '.' : !is_unreserved(*path))
            return 0;
    }
    return 1;
}

static const char *end_of_path(const char *path)
{
    return path + strcspn(path, "?");
}

/* The path of a URL that is to be asked, NULL where the request is not to be signed here. */
static const char *plain_path(request_rec *r, const char *url)
{
    const char *authority = strstr(url, "://"), *path = authority ? strchr(authority + 3, '/') : NULL;

    if (!path || !is_plain(path, end_of_path(path)) || usp_s3_has_undecoded_slash(r))
        return NULL;
    if (!r->main && (!r->unparsed_uri || !is_plain(r->unparsed_uri, end_of_path(r->unparsed_uri))))
        return NULL;
    return strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0 ? path : NULL;
}

static void append(char **to, const char *text, apr_size_t length)
{
    memcpy(*to, text, length);
    *to += length;
}

/* All that Python goes by, but for method and path: section, settings, and the server that is asked. */
static const char *identity_of(request_rec *r, const signed_request *request, const char *url, const char *path,
                               apr_size_t *length)
{
    const apr_array_header_t *all = request->place.settings;
    const char *section = request->place.url ? request->place.url : "";
    apr_size_t size = strlen(section) + 1 + (apr_size_t)(path - url) + 1;
    char *identity, *end;
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        size += strlen(entry->key) + strlen(entry->val) + 2;
    }
    identity = end = apr_palloc(r->pool, size);
    append(&end, section, strlen(section) + 1);
    append(&end, url, (apr_size_t)(path - url));
    append(&end, "", 1);
    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        append(&end, entry->key, strlen(entry->key) + 1);
        append(&end, entry->val, strlen(entry->val) + 1);
    }
    *length = size;
    return identity;
}

static slot *slot_of(const char *identity, apr_size_t length)
{
    apr_ssize_t size = (apr_ssize_t)length;

    return &slots[apr_hashfunc_default(identity, &size) % SLOTS];
}

/* ---------------------------------------------------------------- to remember, and to sign alike */

static void copy(apr_pool_t *pool, usp_s3_alike *to, const usp_s3_alike *from)
{
    int i;

    *to = *from;
    to->origin = apr_pstrdup(pool, from->origin);
    to->host = apr_pstrdup(pool, from->host);
    to->server_name = apr_pstrdup(pool, from->server_name);
    to->headers = apr_table_clone(pool, from->headers);
    to->passed = apr_array_make(pool, from->passed->nelts, sizeof(const char *));
    for (i = 0; i < from->passed->nelts; i++)
        APR_ARRAY_PUSH(to->passed, const char *) = apr_pstrdup(pool, APR_ARRAY_IDX(from->passed, i, const char *));
    to->prefix = apr_pstrdup(pool, from->prefix);
    to->canonical = apr_pstrdup(pool, from->canonical);
    to->to_sign = apr_pstrdup(pool, from->to_sign);
    to->authorization = from->authorization ? apr_pstrdup(pool, from->authorization) : NULL;
    to->query = from->query ? apr_pstrdup(pool, from->query) : NULL;
}

void usp_s3_remember(request_rec *r, const signed_request *request, const char *url, const usp_s3_alike *alike)
{
    const char *path = plain_path(r, url), *identity;
    apr_size_t length;
    slot *place;

    if (!path)
        return;
    identity = identity_of(r, request, url, path, &length);
    place = slot_of(identity, length);
    pthread_mutex_lock(&mutex);
    if (place->pool)
        apr_pool_clear(place->pool);
    else if (apr_pool_create(&place->pool, NULL) != APR_SUCCESS)
        place->pool = NULL;
    place->identity = NULL;
    if (place->pool) {
        copy(place->pool, &place->alike, alike);
        place->identity = apr_pmemdup(place->pool, identity, length);
        place->identity_length = length;
    }
    pthread_mutex_unlock(&mutex);
}

static int recall(request_rec *r, const char *identity, apr_size_t length, usp_s3_alike *alike)
{
    apr_int64_t version = usp_s3_version();
    slot *place = slot_of(identity, length);
    int found;

    pthread_mutex_lock(&mutex);
    found = place->identity && place->alike.second == apr_time_sec(apr_time_now()) && place->alike.version == version
            && place->identity_length == length && memcmp(place->identity, identity, length) == 0;
    if (found)
        copy(r->pool, alike, &place->alike);
    pthread_mutex_unlock(&mutex);
    return found;
}

static const char *hex(apr_pool_t *pool, const unsigned char digest[USP_S3_SHA256_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    char *text = apr_palloc(pool, 2 * USP_S3_SHA256_SIZE + 1), *end = text;
    int i;

    for (i = 0; i < USP_S3_SHA256_SIZE; i++) {
        *end++ = digits[digest[i] >> 4];
        *end++ = digits[digest[i] & 15];
    }
    *end = '\0';
    return text;
}

/* https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html, as in signing/sigv4.py. */
static const char *signature(request_rec *r, const usp_s3_alike *alike, const char *path)
{
    const char *canonical = apr_pstrcat(r->pool, r->method, "\n", path, "\n", alike->canonical, NULL), *to_sign;
    unsigned char digest[USP_S3_SHA256_SIZE];

    usp_s3_sha256(canonical, strlen(canonical), digest);
    to_sign = apr_pstrcat(r->pool, alike->to_sign, hex(r->pool, digest), NULL);
    usp_s3_hmac_sha256(alike->key, to_sign, strlen(to_sign), digest);
    return hex(r->pool, digest);
}

int usp_s3_sign_alike(request_rec *r, signed_request *request, char **url)
{
    const char *path = plain_path(r, *url), *end, *identity, *signed_with;
    usp_s3_alike alike;
    apr_size_t length;

    if (!path)
        return 0;
    identity = identity_of(r, request, *url, path, &length);
    if (!recall(r, identity, length, &alike))
        return 0;
    end = end_of_path(path);
    length = strlen(alike.prefix);
    /* A query is dropped, unless the section passes parameters; the bucket itself is no object. */
    if ((*end && alike.passes_query) || (apr_size_t)(end - path) <= length || strncmp(path, alike.prefix, length) != 0)
        return 0;
    path = apr_pstrmemdup(r->pool, path, (apr_size_t)(end - path));
    signed_with = signature(r, &alike, path);
    if (alike.query)
        *url = apr_pstrcat(r->pool, alike.origin, path, "?", alike.query, signed_with, NULL);
    else {
        *url = apr_pstrcat(r->pool, alike.origin, path, NULL);
        apr_table_setn(alike.headers, "Authorization", apr_pstrcat(r->pool, alike.authorization, signed_with, NULL));
    }
    request->host = alike.host;
    request->server_name = alike.server_name;
    request->headers = alike.headers;
    request->passed = alike.passed;
    request->passes_coding = alike.passes_coding;
    request->signed_at = alike.signed_at;
    request->version = alike.version;
    return 1;
}
