/*
 * The gateway's bodies, guarded inside httpd: one that ends before its Content-Length ends abnormally, whatever filters,
 * protocols and processes are in between.
 *
 * WSGI has no means for that. httpd sees the end of what the application (or mod_wsgi's daemon) sent, and takes it for the
 * body's; where another filter has taken the length away, the client would too. This filter comes before all others.
 */

#include "_httpd.h"

#include "apr_portable.h"

#include <sys/socket.h>

typedef struct {
    int begun;
    apr_off_t left; /* bytes that are still to come */
} guarded_body;

static ap_filter_rec_t *guard_handle;

void usp_s3_reset_on_close(conn_rec *connection)
{
    struct linger at_once = {1, 0};
    apr_socket_t *socket = ap_get_conn_socket(connection);
    apr_os_sock_t fd;

    if (socket && apr_os_sock_get(&fd, socket) == APR_SUCCESS)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    connection->aborted = 1;
}

static apr_status_t break_off(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    request_rec *r = filter->r;
    apr_status_t status;

    ap_proxy_backend_broke(r, brigade);
    ap_remove_output_filter(filter);
    status = ap_pass_brigade(filter->next, brigade);
    if (r->proto_num < HTTP_VERSION(1, 1))
        usp_s3_reset_on_close(r->connection);
    return status;
}

static apr_status_t guard_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    guarded_body *body = filter->ctx;
    apr_bucket *bucket;

    if (!body->begun) {
        const char *length = apr_table_get(filter->r->headers_out, "Content-Length");

        body->begun = 1;
        if (!length || filter->r->header_only) {
            ap_remove_output_filter(filter);
            return ap_pass_brigade(filter->next, brigade);
        }
        body->left = apr_atoi64(length);
    }
    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade); bucket = APR_BUCKET_NEXT(bucket)) {
        if (APR_BUCKET_IS_EOS(bucket) && body->left > 0) {
            apr_bucket_delete(bucket);
            return break_off(filter, brigade);
        }
        /* mod_wsgi passes on nothing but bytes in memory and files, whose lengths are known. */
        if (!APR_BUCKET_IS_METADATA(bucket) && bucket->length != (apr_size_t)-1)
            body->left -= bucket->length;
    }
    return ap_pass_brigade(filter->next, brigade);
}

/* The application knows by the variable that it may end a body early: in daemon mode it has no other way to do so. */
static void guard_gateway(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, "wsgi-script") != 0 || !usp_s3_has_settings(r->per_dir_config))
        return;
    apr_table_setn(r->subprocess_env, "USP_S3_GUARDED", "1");
    ap_add_output_filter_handle(guard_handle, apr_pcalloc(r->pool, sizeof(guarded_body)), r, r->connection);
}

void usp_s3_register_guard(void)
{
    ap_hook_insert_filter(guard_gateway, NULL, NULL, APR_HOOK_FIRST);
    guard_handle = ap_register_output_filter("USP_S3_GUARD", guard_filter, NULL, AP_FTYPE_RESOURCE - 1);
}
