/*
 * The settings are handed over to the gateway in the variable USP_S3_SETTINGS, and secrets are hidden from everyone else.
 *
 * The variable begins with a proof, a random number of this start of httpd. The gateway in mod_wsgi, or in its daemon,
 * believes the settings because of it: an including request (SSI) or an .htaccess file can set the variable, but cannot know
 * the proof. The proof also tells the gateway that body_guard.c aborts truncated responses. In daemon mode there is no other
 * way to do that.
 *
 *   post_config    make the proof (called by trust_boundary.c)
 *   insert_filter  set the variable (here)
 *   handler        remove the variable when the gateway has received it (here; body_guard.c does so before the response)
 */

#include "log_codes.h"
#include "trust_boundary.h"

#define PROOF_SIZE 16

static char proof[2 * PROOF_SIZE + 1];

/* ---------------------------------------------------------------- the proof */

/* Before mod_wsgi forks its daemons, and at each restart: an SSI document may have seen an older proof. */
int usp_s3_make_proof(server_rec *server)
{
    unsigned char random[PROOF_SIZE];
    apr_status_t status = apr_generate_random_bytes(random, sizeof(random));

    if (status != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, status, server,
                     USP_S3_LOGNO(USP_S3_CODE_NO_RANDOM_BYTES) "cannot get random bytes");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    ap_bin2hex(random, sizeof(random), proof);
    return OK;
}

const char *usp_s3_get_proof(void)
{
    return *proof ? proof : NULL;
}

/* ---------------------------------------------------------------- requests of the gateway */

/* Whether mod_wsgi handles a request. The handler's name of a WSGIHandlerScript is known to mod_wsgi only. */
static int is_wsgi(request_rec *r)
{
    const char *handler = r->handler ? r->handler : r->content_type ? r->content_type : "";

    return strcmp(handler, "wsgi-script") == 0 || strcmp(handler, "application/x-httpd-wsgi") == 0
           || usp_s3_starts_with(handler, "wsgi-handler=");
}

/* A bucket of the gateway has S3BucketURL. */
int usp_s3_is_gateway_request(request_rec *r)
{
    return is_wsgi(r)
           && (usp_s3_has_bucket_url(usp_s3_setenv_variables(r->per_dir_config))
               || usp_s3_has_bucket_url(usp_s3_ensure_trusted_variables(r)->rule_variables));
}

/* ---------------------------------------------------------------- secrets */

/* Secrets are hidden in requests that Python does not see, too: a test compares the names with settings.py. */
static int is_secret(const char *name)
{
    static const char *const secrets[] = {
        "S3AccessKey",
        "S3SecretKey",
        "S3SecurityToken",
        "S3RoleExternalId",
        "S3FallbackAccessKey",
        "S3FallbackSecretKey",
        "S3FallbackSecurityToken",
        "S3FallbackRoleExternalId",
        NULL,
    };
    const char *const *secret;

    for (secret = secrets; *secret; secret++) {
        if (ap_cstr_casecmp(name, *secret) == 0)
            return 1;
    }
    return 0;
}

static void hide(request_rec *r, const apr_array_header_t *all, const struct htaccess_result *files)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (is_secret(entry->key) && !usp_s3_htaccess_of_variable(files, entry)) /* its author may read it */
            apr_table_unset(r->subprocess_env, entry->key);
    }
}

/*
 * Others can read the environment of a request: RewriteCond %{LA-U:ENV:...} of an .htaccess file, SSI in an object, Header,
 * an error page.
 */
void usp_s3_hide_secrets(request_rec *r)
{
    const usp_s3_trusted_variables *trusted = usp_s3_ensure_trusted_variables(r);

    hide(r, usp_s3_setenv_variables(r->per_dir_config), trusted->htaccess_files);
    hide(r, trusted->rule_variables, trusted->htaccess_files);
}

/* ---------------------------------------------------------------- netstrings */

/* Text that grows. */
typedef struct {
    apr_pool_t *pool;
    char *bytes;
    apr_size_t length, size;
} buffer;

static void append(buffer *to, const char *bytes, apr_size_t length)
{
    if (!length)
        return;
    if (to->length + length > to->size) {
        apr_size_t size = 2 * (to->length + length) + 512;
        char *larger = apr_palloc(to->pool, size);

        if (to->length)
            memcpy(larger, to->bytes, to->length);
        to->bytes = larger;
        to->size = size;
    }
    memcpy(to->bytes + to->length, bytes, length);
    to->length += length;
}

/* A value may contain any byte, so its length comes first: https://cr.yp.to/proto/netstrings.txt */
static void append_netstring(buffer *to, const char *bytes, apr_size_t length)
{
    char digits[24];

    append(to, digits, (apr_size_t)apr_snprintf(digits, sizeof(digits), "%" APR_SIZE_T_FMT ":", length));
    append(to, bytes, length);
    append(to, ",", 1);
}

static void append_pair(buffer *to, const char *name, const char *value)
{
    append_netstring(to, name, strlen(name));
    append_netstring(to, value, strlen(value));
}

static void append_variables(buffer *settings, buffer *control, const apr_array_header_t *all)
{
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (usp_s3_has_setting_prefix(entry))
            append_pair(settings, entry->key, entry->val);
        else if (usp_s3_is_package_variable(entry))
            append_pair(control, "path", entry->val);
    }
}

/* ---------------------------------------------------------------- hooks */

/*
 * Whether PATH_INFO is the end of the request's own path. mod_include's "exec cgi" gives a subrequest that of the
 * including request.
 */
static int has_own_path_info(request_rec *r)
{
    char *path = apr_pstrdup(r->pool, r->uri), *end = apr_pstrdup(r->pool, r->path_info ? r->path_info : "");
    size_t length;

    ap_no2slash(path);
    ap_no2slash(end);
    length = strlen(path);
    return strlen(end) <= length && strcmp(path + length - strlen(end), end) == 0;
}

/*
 * The proof, the token for metrics, and two netstrings, which the gateway parses: the settings, which are the same for all
 * requests of a section, and data of this request alone. Each contains a netstring for each name and each value.
 */
static void hand_over_settings(request_rec *r)
{
    buffer settings = {.pool = r->pool}, control = {.pool = r->pool}, all = {.pool = r->pool};
    const usp_s3_trusted_variables *trusted;

    /*
     * Variables that httpd sets only if a request has such a header or path: else those of the including request remain. The
     * gateway's Python may be in another process than this module: a test compares the names with forwarded_headers.py.
     */
    static const char *const of_request[] = {
        "PATH_INFO",
        "HTTP_RANGE",
        "HTTP_IF_MATCH",
        "HTTP_IF_NONE_MATCH",
        "HTTP_IF_MODIFIED_SINCE",
        "HTTP_IF_UNMODIFIED_SINCE",
        "HTTP_IF_RANGE",
        NULL,
    };
    const char *const *name, *error;

    apr_table_unset(r->subprocess_env, HANDOVER_VARIABLE);
    if (!usp_s3_is_gateway_request(r))
        return;
    for (name = of_request; *name; name++)
        apr_table_unset(r->subprocess_env, *name);
    trusted = usp_s3_ensure_trusted_variables(r);
    error = trusted->htaccess_error ? trusted->htaccess_error : trusted->ambiguity_error;
    if (!error && !has_own_path_info(r))
        error = "the path differs from the one that access rules checked (exec cgi)";
    if (error)
        append_pair(&control, "error", error);
    else {
        /* Variables of sections come last, as in the environment: they override the others. */
        append_variables(&settings, &control, trusted->rule_variables);
        append_variables(&settings, &control, usp_s3_setenv_variables(r->per_dir_config));
    }
    if (r->prev && ap_is_HTTP_ERROR(r->status))
        append_pair(&control, "error status", apr_itoa(r->pool, r->status));
    if (APLOG_R_IS_LEVEL(r, APLOG_DEBUG))
        append_pair(&control, "debug", "");
    append(&all, proof, strlen(proof));
    append(&all, usp_s3_get_slot_token(r), USP_S3_TOKEN_SIZE);
    append_netstring(&all, settings.bytes, settings.length);
    append_netstring(&all, control.bytes, control.length);
    append(&all, "", 1);
    apr_table_setn(r->subprocess_env, HANDOVER_VARIABLE, all.bytes);
}

void usp_s3_unset_handover_variable(request_rec *r)
{
    apr_table_unset(r->subprocess_env, HANDOVER_VARIABLE);
}

static int handle_gateway_request(request_rec *r)
{
    usp_s3_request_config *config = usp_s3_is_gateway_request(r) ? usp_s3_get_request_config(r) : NULL;
    int status;

    if (!config || config->is_handled)
        return DECLINED;
    config->is_handled = 1;
    /* mod_wsgi would respond without reading the body, and forget that the client waits for "100 Continue". */
    if ((status = usp_s3_discard_body(r)) == OK)
        status = ap_run_handler(r);
    usp_s3_collect_slot(r);
    usp_s3_unset_handover_variable(r);
    return status;
}

void usp_s3_register_settings_handover(void)
{
    /*
     * With "CacheQuickHandler Off" mod_cache's handler inserts its filters. It must run once, in the ap_run_handler above: twice,
     * a body would be stored twice, and a stale one as a fresh one.
     */
    static const char *const successors[] = {"mod_cache.c", NULL};

    ap_hook_insert_filter(hand_over_settings, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_handler(handle_gateway_request, NULL, successors, APR_HOOK_REALLY_FIRST);
}
