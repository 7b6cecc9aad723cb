/* The names of settings among the variables of sections, what they hold, and the URLs of buckets. */

#include "sections.h"

/*
 * The names of settings.py, which tests hold against these. A section is signed for where one of them is set: other
 * variables that begin with S3 are those of other programs. It must be known here, for a process whose Python did not
 * start must refuse what it cannot sign.
 */
static const char *const setting_names[] = {
    "S3AccessKey", "S3AccessKeyFile", "S3Bucket", "S3BucketURL", "S3CAFile", "S3CredentialSource", "S3DeniedStatus",
    "S3Expires", "S3FallbackAccessKey", "S3FallbackAccessKeyFile", "S3FallbackBucket", "S3FallbackCAFile",
    "S3FallbackCredentialSource", "S3FallbackExpires", "S3FallbackOn404", "S3FallbackProfile", "S3FallbackProxySet",
    "S3FallbackRegion", "S3FallbackRequesterPays", "S3FallbackRetries", "S3FallbackRoleARN", "S3FallbackRoleDuration",
    "S3FallbackRoleExternalId", "S3FallbackRoleSessionName", "S3FallbackSTSEndpoint", "S3FallbackSecretKey",
    "S3FallbackSecretKeyFile", "S3FallbackSecurityToken", "S3FallbackSecurityTokenFile", "S3FallbackURL",
    "S3FallbackUseHeaders", "S3PassAcceptEncoding", "S3PassHeaders", "S3PassQuery", "S3Profile", "S3ProxySet", "S3Region",
    "S3RequesterPays", "S3Retries", "S3RoleARN", "S3RoleDuration", "S3RoleExternalId", "S3RoleSessionName", "S3STSEndpoint",
    "S3SecretKey", "S3SecretKeyFile", "S3SecurityToken", "S3SecurityTokenFile", "S3UseHeaders",
    NULL,
};

int usp_s3_may_be_setting(const apr_table_entry_t *entry)
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

int usp_s3_is_name_of_setting(const char *name, size_t length)
{
    const char *const *setting;

    for (setting = setting_names; *setting; setting++) {
        if (strlen(*setting) == length && ap_cstr_casecmpn(name, *setting, length) == 0)
            return 1;
    }
    return 0;
}

/*
 * Also where the value is empty: keys that were lost must not make a bucket's section nobody's. And in any case, for
 * S3Accesskey would silently not count, and Python says so.
 */
int usp_s3_is_setting(const apr_table_entry_t *entry, int capitals)
{
    return usp_s3_may_be_setting(entry) && (capitals || has_lowercase(entry->key))
           && usp_s3_is_name_of_setting(entry->key, strlen(entry->key));
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

int usp_s3_holds_setting(const apr_array_header_t *all)
{
    return usp_s3_first_setting(all, 0) != NULL;
}

int usp_s3_has_settings(ap_conf_vector_t *config)
{
    return usp_s3_holds_setting(usp_s3_variables(config));
}

/* The last value of a variable that is not empty, NULL where there is none. */
const char *usp_s3_value_of(const apr_array_header_t *all, const char *name)
{
    int i;

    for (i = all ? all->nelts - 1 : -1; i >= 0; i--) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (ap_cstr_casecmp(entry->key, name) == 0)
            return *entry->val ? entry->val : NULL;
    }
    return NULL;
}

int usp_s3_names_bucket(const apr_array_header_t *all)
{
    return usp_s3_value_of(all, BUCKET) != NULL;
}

/* Whether there is what signs. */
int usp_s3_holds_identity(const apr_array_header_t *all)
{
    static const char *const identities[] = {"S3AccessKey", "S3AccessKeyFile", "S3SecretKey", "S3SecretKeyFile",
                                             "S3CredentialSource", "S3Profile", "S3RoleARN", NULL};
    const char *const *name;

    for (name = identities; *name; name++) {
        if (usp_s3_value_of(all, *name))
            return 1;
    }
    return 0;
}

/* What follows a beginning, NULL where the text begins otherwise. */
const char *usp_s3_after(const char *text, const char *beginning)
{
    for (; *beginning; text++, beginning++) {
        if (*text != *beginning)
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

/* The URL behind a socket: unix:/run/s3.sock|http://localhost/ */
const char *usp_s3_behind_socket(const char *url)
{
    const char *bar = ap_cstr_casecmpn(url, "unix:", 5) == 0 ? strchr(url, '|') : NULL;

    return bar ? bar + 1 : url;
}

const char *usp_s3_shown_url(apr_pool_t *pool, const char *url)
{
    const char *host = strstr(url, "://"), *user;
    size_t length;

    if (!host)
        return url;
    host += 3;
    length = strcspn(host, "/?#");
    for (user = host + length; user > host && user[-1] != '@'; user--)
        continue; /* what follows the last one is the host */
    return apr_pstrcat(pool, apr_pstrmemdup(pool, url, (apr_size_t)(host - url)), user, NULL);
}

/*
 * S3 is HTTP: what goes to FastCGI, AJP or a WebSocket is none of ours, whatever its section holds. HTTP/2 is; Python
 * refuses it, for it cannot be signed.
 */
int usp_s3_is_http(const char *url)
{
    static const char *const schemes[] = {"http:", "https:", "h2:", "h2c:", NULL};
    const char *const *scheme;

    url = usp_s3_behind_socket(url);
    for (scheme = schemes; *scheme; scheme++) {
        if (ap_cstr_casecmpn(url, *scheme, strlen(*scheme)) == 0)
            return 1;
    }
    return 0;
}

int usp_s3_is_balancer(const char *url)
{
    return ap_cstr_casecmpn(url, BALANCER_PREFIX, sizeof(BALANCER_PREFIX) - 1) == 0;
}

int usp_s3_parse_url(apr_pool_t *pool, const char *url, apr_uri_t *uri)
{
    return apr_uri_parse(pool, usp_s3_behind_socket(url), uri) == APR_SUCCESS && uri->scheme && uri->hostname;
}

static int port_of(const apr_uri_t *uri)
{
    return uri->port ? uri->port : apr_uri_port_of_scheme(uri->scheme);
}

/* Whether two URLs have the same scheme, host and port, however these are written. */
int usp_s3_is_same_origin(const apr_uri_t *one, const apr_uri_t *other)
{
    return ap_cstr_casecmp(one->scheme, other->scheme) == 0 && ap_cstr_casecmp(one->hostname, other->hostname) == 0
           && port_of(one) == port_of(other);
}

/* The path of a URL, decoded, with a slash at its end. */
const char *usp_s3_folder_of(apr_pool_t *pool, const apr_uri_t *uri)
{
    char *path = apr_pstrdup(pool, uri->path ? uri->path : "/");
    size_t length;

    ap_unescape_url_keep2f(path, 1);
    length = strlen(path);
    return length && path[length - 1] == '/' ? path : apr_pstrcat(pool, path, "/", NULL);
}

/* Whether a URL is below another one, however their hosts are written. What is no URL has nothing below it. */
int usp_s3_is_below(apr_pool_t *pool, const char *url, const char *other)
{
    apr_uri_t one, above;
    const char *folder;

    if (!usp_s3_parse_url(pool, url, &one) || !usp_s3_parse_url(pool, other, &above) || !usp_s3_is_same_origin(&one, &above))
        return 0;
    folder = usp_s3_folder_of(pool, &above);
    return strncmp(usp_s3_folder_of(pool, &one), folder, strlen(folder)) == 0;
}
