/* The names of the settings, functions for arrays of variables, and functions for URLs. */

#include "sections.h"

/*
 * A test compares the names with Python's table of settings. Requests of a section that sets one of them are signed. Other
 * variables that begin with S3 belong to other programs. The names are needed here too: a process whose Python did not start
 * must reject requests that it cannot sign.
 */
static const char *const setting_names[] = {
    "S3AccessKey",
    "S3AccessKeyFile",
    "S3Bucket",
    "S3BucketURL",
    "S3CAFile",
    "S3CredentialSource",
    "S3DeniedStatus",
    "S3Expires",
    "S3FallbackAccessKey",
    "S3FallbackAccessKeyFile",
    "S3FallbackBucket",
    "S3FallbackCAFile",
    "S3FallbackCredentialSource",
    "S3FallbackExpires",
    "S3FallbackOn404",
    "S3FallbackProfile",
    "S3FallbackProxySet",
    "S3FallbackRegion",
    "S3FallbackRequesterPays",
    "S3FallbackRetries",
    "S3FallbackRoleARN",
    "S3FallbackRoleDuration",
    "S3FallbackRoleExternalId",
    "S3FallbackRoleSessionName",
    "S3FallbackSTSEndpoint",
    "S3FallbackSecretKey",
    "S3FallbackSecretKeyFile",
    "S3FallbackSecurityToken",
    "S3FallbackSecurityTokenFile",
    "S3FallbackURL",
    "S3FallbackUseHeaders",
    "S3PassAcceptEncoding",
    "S3PassHeaders",
    "S3PassQuery",
    "S3Profile",
    "S3ProxySet",
    "S3Region",
    "S3RequesterPays",
    "S3Retries",
    "S3RoleARN",
    "S3RoleDuration",
    "S3RoleExternalId",
    "S3RoleSessionName",
    "S3STSEndpoint",
    "S3SecretKey",
    "S3SecretKeyFile",
    "S3SecurityToken",
    "S3SecurityTokenFile",
    "S3UseHeaders",
    NULL,
};

int usp_s3_has_setting_prefix(const apr_table_entry_t *entry)
{
    return (entry->key[0] == 'S' || entry->key[0] == 's') && entry->key[1] == '3';
}

static int has_lowercase(const char *name)
{
    for (; *name; name++) {
        if (*name >= 'a' && *name <= 'z')
            return 1;
    }
    return 0;
}

int usp_s3_is_setting_name(const char *name, size_t length)
{
    const char *const *setting;

    for (setting = setting_names; *setting; setting++) {
        if (strlen(*setting) == length && ap_cstr_casecmpn(name, *setting, length) == 0)
            return 1;
    }
    return 0;
}

/*
 * Also true for an empty value: a request must not be sent unsigned because a key is missing. Upper and lower case are
 * ignored, so that Python reports a misspelt name such as S3Accesskey.
 */
int usp_s3_is_setting(const apr_table_entry_t *entry, int capitals)
{
    return usp_s3_has_setting_prefix(entry) && (capitals || has_lowercase(entry->key))
           && usp_s3_is_setting_name(entry->key, strlen(entry->key));
}

const apr_table_entry_t *usp_s3_first_setting(const apr_array_header_t *all, int capitals)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (usp_s3_is_setting(entry, capitals))
            return entry;
    }
    return NULL;
}

int usp_s3_contains_setting(const apr_array_header_t *all)
{
    return usp_s3_first_setting(all, 0) != NULL;
}

const char *usp_s3_get_value(const apr_array_header_t *all, const char *name)
{
    int i;

    for (i = all ? all->nelts - 1 : -1; i >= 0; i--) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (ap_cstr_casecmp(entry->key, name) == 0)
            return *entry->val ? entry->val : NULL;
    }
    return NULL;
}

int usp_s3_has_bucket_url(const apr_array_header_t *all)
{
    return usp_s3_get_value(all, BUCKET_URL) != NULL;
}

int usp_s3_has_credentials(const apr_array_header_t *all)
{
    static const char *const names[] = {
        "S3AccessKey",        "S3AccessKeyFile", "S3SecretKey", "S3SecretKeyFile",
        "S3CredentialSource", "S3Profile",       "S3RoleARN",   NULL,
    };
    const char *const *name;

    for (name = names; *name; name++) {
        if (usp_s3_get_value(all, *name))
            return 1;
    }
    return 0;
}

const char *usp_s3_skip_prefix(const char *text, const char *prefix)
{
    for (; *prefix; text++, prefix++) {
        if (*text != *prefix)
            return NULL;
    }
    return text;
}

char *usp_s3_lowercase(apr_pool_t *pool, const char *text)
{
    char *copy = apr_pstrdup(pool, text);

    ap_str_tolower(copy);
    return copy;
}

/* ---------------------------------------------------------------- URLs */

const char *usp_s3_skip_socket(const char *url)
{
    const char *bar = ap_cstr_casecmpn(url, "unix:", 5) == 0 ? strchr(url, '|') : NULL;

    return bar ? bar + 1 : url;
}

const char *usp_s3_url_for_log(apr_pool_t *pool, const char *url)
{
    const char *host = strstr(url, "://"), *user;
    size_t length;

    if (!host)
        return url;
    host += 3;
    length = strcspn(host, "/?#");
    for (user = host + length; user > host && user[-1] != '@'; user--)
        continue; /* the host begins after the last "@" */
    return apr_pstrcat(pool, apr_pstrmemdup(pool, url, (apr_size_t)(host - url)), user, NULL);
}

/*
 * Requests to FastCGI, AJP or a WebSocket are never signed, whatever their section contains. HTTP/2 is included: Python
 * rejects such requests, as they cannot be signed.
 */
int usp_s3_is_http_url(const char *url)
{
    static const char *const schemes[] = {"http:", "https:", "h2:", "h2c:", NULL};
    const char *const *scheme;

    url = usp_s3_skip_socket(url);
    for (scheme = schemes; *scheme; scheme++) {
        if (ap_cstr_casecmpn(url, *scheme, strlen(*scheme)) == 0)
            return 1;
    }
    return 0;
}

int usp_s3_is_balancer_url(const char *url)
{
    return ap_cstr_casecmpn(url, BALANCER_PREFIX, sizeof(BALANCER_PREFIX) - 1) == 0;
}

int usp_s3_parse_url(apr_pool_t *pool, const char *url, apr_uri_t *uri)
{
    return apr_uri_parse(pool, usp_s3_skip_socket(url), uri) == APR_SUCCESS && uri->scheme && uri->hostname;
}

static int port_of(const apr_uri_t *uri)
{
    return uri->port ? uri->port : apr_uri_port_of_scheme(uri->scheme);
}

int usp_s3_is_same_origin(const apr_uri_t *one, const apr_uri_t *other)
{
    return ap_cstr_casecmp(one->scheme, other->scheme) == 0 && ap_cstr_casecmp(one->hostname, other->hostname) == 0
           && port_of(one) == port_of(other);
}

const char *usp_s3_decoded_directory(apr_pool_t *pool, const apr_uri_t *uri)
{
    char *path = apr_pstrdup(pool, uri->path ? uri->path : "/");
    size_t length;

    ap_unescape_url_keep2f(path, 1);
    length = strlen(path);
    return length && path[length - 1] == '/' ? path : apr_pstrcat(pool, path, "/", NULL);
}

int usp_s3_is_url_below(apr_pool_t *pool, const char *url, const char *other)
{
    apr_uri_t one, above;
    const char *directory;

    if (!usp_s3_parse_url(pool, url, &one) || !usp_s3_parse_url(pool, other, &above) || !usp_s3_is_same_origin(&one, &above))
        return 0;
    directory = usp_s3_decoded_directory(pool, &above);
    return strncmp(usp_s3_decoded_directory(pool, &one), directory, strlen(directory)) == 0;
}
