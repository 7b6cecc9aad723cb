/*
 * Signatures without Python, for requests of the same second.
 *
 * Python signs the first request of a section in each second, and returns a signing template: what is hashed and sent is the
 * same for the next requests, except for the method and the path. Those are signed here, without Python and its global lock
 * (GIL), if the path needs no percent-encoding and no query is forwarded.
 */

#include "log_codes.h"
#include "mod_usp_s3.h"

#include <pthread.h>

/* A hash table without chains: a template replaces another one with the same hash. */
#define SLOTS 1024

typedef struct {
    apr_pool_t *pool;
    const char *identity;
    apr_size_t identity_length;
    usp_s3_signing_template template;
} template_slot;

static template_slot slots[SLOTS];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* ---------------------------------------------------------------- which requests can use a template */

/* Whether a path is the same decoded and encoded. Python handles empty segments and segments that begin with a dot. */
static int is_simple_path(const char *path, const char *end)
{
    const char *is_unreserved = usp_s3_get_shared_tables()->is_unreserved;

    if (path == end || *path != '/')
        return 0;
    for (; path < end; path++) {
        if (*path == '/' ? path + 1 == end || path[1] == '/' || path[1] == '.' : !is_unreserved[(unsigned char)*path])
            return 0;
    }
    return 1;
}

static const char *end_of_path(const char *path)
{
    return path + strcspn(path, "?");
}

/* The path of the URL, NULL if Python must sign the request. */
static const char *simple_path(request_rec *r, const char *url)
{
    const char *authority = strstr(url, "://"), *path = authority ? strchr(authority + 3, '/') : NULL;

    if (!usp_s3_has_algorithms() || !usp_s3_forwarded_request_headers(r->method))
        return NULL;
    if (!path || !is_simple_path(path, end_of_path(path)) || usp_s3_has_encoded_slash(r))
        return NULL;
    if (!r->main && (!r->unparsed_uri || !is_simple_path(r->unparsed_uri, end_of_path(r->unparsed_uri))))
        return NULL;
    return path;
}

static void append(char **to, const char *text, apr_size_t length)
{
    memcpy(*to, text, length);
    *to += length;
}

/* Everything that a signature depends on, except for method and path: the section's URL, the settings, the server. */
static const char *template_identity(request_rec *r, const signed_request *request, const char *url, const char *path,
                                     apr_size_t *length)
{
    const apr_array_header_t *all = request->settings.variables;
    const char *section = request->settings.section_url ? request->settings.section_url : "";
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

static template_slot *find_slot(const char *identity, apr_size_t length)
{
    apr_ssize_t size = (apr_ssize_t)length;

    return &slots[apr_hashfunc_default(identity, &size) % SLOTS];
}

/* ---------------------------------------------------------------- store, find and use templates */

static void copy_template(apr_pool_t *pool, usp_s3_signing_template *to, const usp_s3_signing_template *from)
{
    int i;

    *to = *from;
    to->origin = apr_pstrdup(pool, from->origin);
    to->host = apr_pstrdup(pool, from->host);
    to->server_name = apr_pstrdup(pool, from->server_name);
    to->bucket = apr_pstrdup(pool, from->bucket);
    to->signature_headers = apr_table_clone(pool, from->signature_headers);
    to->pass_headers = apr_array_make(pool, from->pass_headers->nelts, sizeof(const char *));
    for (i = 0; i < from->pass_headers->nelts; i++)
        APR_ARRAY_PUSH(to->pass_headers, const char *) = apr_pstrdup(pool, APR_ARRAY_IDX(from->pass_headers, i, const char *));
    to->path_prefix = apr_pstrdup(pool, from->path_prefix);
    to->parts.canonical_request = apr_pstrdup(pool, from->parts.canonical_request);
    to->parts.string_to_sign = apr_pstrdup(pool, from->parts.string_to_sign);
    to->authorization = from->authorization ? apr_pstrdup(pool, from->authorization) : NULL;
    to->query = from->query ? apr_pstrdup(pool, from->query) : NULL;
}

void usp_s3_remember_template(request_rec *r, const signed_request *request, const char *url,
                              const usp_s3_signing_template *template)
{
    const char *path = simple_path(r, url), *identity;
    apr_size_t length;
    template_slot *slot;

    if (!path)
        return;
    identity = template_identity(r, request, url, path, &length);
    slot = find_slot(identity, length);
    pthread_mutex_lock(&mutex);
    if (slot->pool)
        apr_pool_clear(slot->pool);
    else if (apr_pool_create(&slot->pool, NULL) != APR_SUCCESS)
        slot->pool = NULL;
    slot->identity = NULL;
    if (slot->pool) {
        copy_template(slot->pool, &slot->template, template);
        slot->identity = apr_pmemdup(slot->pool, identity, length);
        slot->identity_length = length;
    }
    pthread_mutex_unlock(&mutex);
}

static int find_template(request_rec *r, const char *identity, apr_size_t length, usp_s3_signing_template *template)
{
    apr_int64_t version = usp_s3_get_state_version();
    template_slot *slot = find_slot(identity, length);
    int found;

    pthread_mutex_lock(&mutex);
    found = slot->identity && slot->template.second == apr_time_sec(apr_time_now()) && slot->template.state_version == version
            && slot->identity_length == length && memcmp(slot->identity, identity, length) == 0;
    if (found)
        copy_template(r->pool, template, &slot->template);
    pthread_mutex_unlock(&mutex);
    return found;
}

int usp_s3_sign_with_template(request_rec *r, signed_request *request, char **url)
{
    const char *path = simple_path(r, *url), *end, *identity;
    char signature[USP_S3_SIGNATURE_LENGTH + 1];
    usp_s3_signing_template template;
    apr_size_t length;

    if (!path)
        return 0;
    identity = template_identity(r, request, *url, path, &length);
    if (!find_template(r, identity, length, &template))
        return 0;
    end = end_of_path(path);
    length = strlen(template.path_prefix);
    /* A query is dropped, unless S3PassQuery is set. The bucket itself is not an object. */
    if ((*end && template.requires_empty_query) || (apr_size_t)(end - path) <= length
        || strncmp(path, template.path_prefix, length) != 0)
        return 0;
    path = apr_pstrmemdup(r->pool, path, (apr_size_t)(end - path));
    if (!usp_s3_compute_signature(&template.parts, r->method, path, signature))
        return 0;
    if (template.query)
        *url = apr_pstrcat(r->pool, template.origin, path, "?", template.query, signature, NULL);
    else {
        *url = apr_pstrcat(r->pool, template.origin, path, NULL);
        apr_table_setn(template.signature_headers, "Authorization",
                       apr_pstrcat(r->pool, template.authorization, signature, NULL));
    }
    request->host = template.host;
    request->server_name = template.server_name;
    request->bucket = template.bucket;
    request->signature_headers = template.signature_headers;
    request->pass_headers = template.pass_headers;
    request->pass_accept_encoding = template.pass_accept_encoding;
    request->signed_at = template.signed_at;
    request->state_version = template.state_version;
    return 1;
}

/* ---------------------------------------------------------------- hook child_init */

static apr_status_t free_algorithms(void *data)
{
    (void)data;
    usp_s3_free_algorithms();
    return APR_SUCCESS;
}

/*
 * In each child, not before the fork: the parent unloads and loads this module at each restart, and signs nothing. The pool
 * ends before the module is unloaded, and before OpenSSL's own exit handler runs.
 */
static void load_algorithms(apr_pool_t *child, server_rec *server)
{
    if (usp_s3_load_algorithms())
        apr_pool_cleanup_register(child, NULL, free_algorithms, apr_pool_cleanup_null);
    else if (USP_S3_USES_OPENSSL)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, server,
                     USP_S3_LOGNO(USP_S3_CODE_NO_ALGORITHMS) "OpenSSL has no SHA-256 or HMAC: Python signs each request");
}

void usp_s3_register_signing_template(void)
{
    ap_hook_child_init(load_algorithms, NULL, NULL, APR_HOOK_MIDDLE);
}
