/*
 * Why mod_proxy got no response: what it and mod_ssl have written to the error log meanwhile, for the flight recorder.
 *
 * mod_ssl says at level info only why it does not accept a certificate. So after a handshake that failed, its level is info for
 * the next connection to a bucket, at most every few seconds: that one fails for the same reason, or it is none any more.
 */

#include "metrics.h"
#include "mod_usp_s3.h"

#include "apr_errno.h"
#include "http_connection.h"
#include "http_core.h"

/* Microseconds between two connections for which mod_ssl writes at level info. */
#define DETAILS_INTERVAL 10000000
/* Microseconds for which the cause of a failed handshake is used for the next ones with the same host. */
#define CAUSE_VALIDITY 60000000
#define CAUSE_SIZE 400

/* Set by post_config. */
static module *ssl_module_found, *proxy_http_module_found;

/* The request that this thread sends to a bucket now; what was written first. */
static __thread const signed_request *watched;
static __thread char cause[CAUSE_SIZE];
static __thread int is_tls_cause;

/* Of the last handshake in this process that has failed with a cause. */
static apr_thread_mutex_t *last_mutex;
static char last_host[USP_S3_HOST_SIZE], last_cause[CAUSE_SIZE];
static apr_uint64_t last_cause_at, last_details_at;
static int are_details_wanted;

void usp_s3_watch_proxy_errors(const signed_request *request)
{
    watched = usp_s3_is_recording() ? request : NULL;
    if (!request)
        return; /* the cause may still be asked for */
    *cause = '\0';
    is_tls_cause = 0;
}

/* Whether mod_ssl says why it does not accept a certificate. */
static int is_about_certificate(const char *message)
{
    return strstr(message, "Certificate Verification: Error") || strstr(message, "SSL Proxy: Peer certificate");
}

static int is_of_module(const ap_errorlog_info *info, const module *found)
{
    return found && info->module_index == found->module_index;
}

/* Hook error_log: keep the first line of mod_proxy, or better the first one of mod_ssl about a certificate. */
static void note_line(const ap_errorlog_info *info, const char *message)
{
    char reason[120] = "";
    int is_tls, is_proxy;

    if (!watched || is_tls_cause)
        return;
    is_tls = is_of_module(info, ssl_module_found) && is_about_certificate(message);
    is_proxy = info->level <= APLOG_WARNING
               && (is_of_module(info, &proxy_module) || is_of_module(info, proxy_http_module_found));
    if (!is_tls && (!is_proxy || *cause))
        return;
    is_tls_cause = is_tls;
    if (info->status)
        apr_strerror(info->status, reason, sizeof(reason));
    apr_snprintf(cause, sizeof(cause), "%s%s%s", reason, *reason ? ": " : "", message);
}

static void keep_tls_cause(const signed_request *request, const char *found)
{
    apr_thread_mutex_lock(last_mutex);
    apr_cpystrn(last_host, request->host, sizeof(last_host));
    apr_cpystrn(last_cause, found, sizeof(last_cause));
    last_cause_at = usp_s3_monotonic_time();
    apr_thread_mutex_unlock(last_mutex);
}

static const char *last_tls_cause(apr_pool_t *pool, const signed_request *request)
{
    const char *found = NULL;

    apr_thread_mutex_lock(last_mutex);
    if (*last_cause && usp_s3_monotonic_time() - last_cause_at < CAUSE_VALIDITY && strcmp(last_host, request->host) == 0)
        found = apr_pstrdup(pool, last_cause);
    apr_thread_mutex_unlock(last_mutex);
    return found;
}

const char *usp_s3_get_proxy_error(request_rec *r, const signed_request *request, int is_handshake_failed)
{
    const char *found = *cause ? apr_pstrdup(r->pool, cause) : "";

    if (!usp_s3_is_recording() || !request->host || !last_mutex)
        return "";
    if (is_handshake_failed) {
        if (is_tls_cause)
            keep_tls_cause(request, found);
        else {
            const char *earlier = last_tls_cause(r->pool, request);

            __atomic_store_n(&are_details_wanted, 1, __ATOMIC_RELAXED);
            if (earlier)
                found = earlier;
        }
    }
    return found;
}

/* Hook pre_connection: of a new connection to the bucket, before mod_ssl begins. */
static int raise_log_level(conn_rec *c, void *socket)
{
    apr_uint64_t now;
    struct ap_logconf *log;

    (void)socket;
    if (!watched || !ssl_module_found || !__atomic_load_n(&are_details_wanted, __ATOMIC_RELAXED))
        return DECLINED;
    now = usp_s3_monotonic_time();
    if (now - __atomic_load_n(&last_details_at, __ATOMIC_RELAXED) < DETAILS_INTERVAL)
        return DECLINED;
    __atomic_store_n(&last_details_at, now, __ATOMIC_RELAXED);
    __atomic_store_n(&are_details_wanted, 0, __ATOMIC_RELAXED);
    log = ap_new_log_config(c->pool, c->log ? c->log : &c->base_server->log);
    if (ap_get_conn_module_loglevel(c, ssl_module_found->module_index) < APLOG_INFO)
        ap_set_module_loglevel(c->pool, log, ssl_module_found->module_index, APLOG_INFO);
    c->log = log;
    return DECLINED;
}

static int find_modules(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary, server_rec *server)
{
    (void)config;
    (void)log;
    (void)temporary;
    (void)server;
    ssl_module_found = ap_find_linked_module("mod_ssl.c");
    proxy_http_module_found = ap_find_linked_module("mod_proxy_http.c");
    return OK;
}

static void make_mutex(apr_pool_t *pool, server_rec *server)
{
    (void)server;
    if (usp_s3_is_recording())
        apr_thread_mutex_create(&last_mutex, APR_THREAD_MUTEX_DEFAULT, pool);
}

void usp_s3_register_proxy_errors(void)
{
    ap_hook_post_config(find_modules, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(make_mutex, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_pre_connection(raise_log_level, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_error_log(note_line, NULL, NULL, APR_HOOK_MIDDLE);
}
