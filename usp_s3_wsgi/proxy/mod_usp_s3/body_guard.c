/*
 * Abort the client's response if its body is truncated, with any filter, protocol and process in between.
 *
 * mod_proxy reports a truncated body of S3. A WSGI application cannot: httpd takes the end of its data, or of the data of
 * mod_wsgi's daemon, for the end of the body. So the bytes of the gateway's bodies are counted here. In httpd's own
 * processes (embedded mode) the gateway also marks a truncated body, whose length may not be known:
 *
 *   gateway/response_body.py               S3's body is truncated, and cannot be resumed
 *   gateway/client_connection.py  abort_response: the client must see that
 *   gateway/httpd_module.py       HttpdRequest.mark_truncated
 *   python_callbacks.c            _httpd.mark_body_truncated
 *   body_guard.c                  usp_s3_mark_body_truncated; guard_filter then aborts the response at the body's end
 */

#include "mod_usp_s3.h"

#include "apr_portable.h"

#include <sys/socket.h>

typedef struct {
    request_rec *r;
    int has_started;
    apr_off_t bytes_left;    /* if the response has Content-Length */
    int is_marked_truncated; /* by the gateway */
} guarded_body;

/* The body of the request that this thread handles. */
static __thread guarded_body *current_body;

static ap_filter_rec_t *guard_filter_handle, *discard_filter_handle, *content_end_handle;

/* ---------------------------------------------------------------- an abnormal end */

/* Reset the connection (TCP RST): the only sign of a truncated body without Content-Length or chunked encoding. */
static void reset_on_close(conn_rec *connection)
{
    struct linger at_once = {1, 0};
    apr_socket_t *socket = ap_get_conn_socket(connection);
    apr_os_sock_t fd;

    if (socket && apr_os_sock_get(&fd, socket) == APR_SUCCESS)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    connection->aborted = 1;
}

/*
 * Whether the client sees that the body is truncated after the header was sent: fewer bytes than Content-Length, no last
 * chunk (httpd's chunk filter omits it after an error), or a reset of the stream in HTTP/2.
 */
static int client_sees_truncation(request_rec *client)
{
    if (client->assbackwards)
        return 0; /* HTTP/0.9 has no header */
    return client->connection->master || client->chunked || apr_table_get(client->headers_out, "Content-Length");
}

/* Discard everything after the abnormal end, mainly the regular end that httpd sends for each request. */
static apr_status_t discard_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    if (!filter->ctx) {
        ap_remove_output_filter(filter);
        return ap_pass_brigade(filter->next, brigade);
    }
    apr_brigade_cleanup(brigade);
    return APR_SUCCESS;
}

/* The filters of the request that includes this subrequest; NULL in a main request. */
static ap_filter_t *parent_filters(ap_filter_t *filter)
{
    while (filter && ap_cstr_casecmp(filter->frec->name, "SUBREQ_CORE") != 0)
        filter = filter->next;
    return filter ? filter->next : NULL;
}

/*
 * End the content filters, and discard what they send. Some buffer a whole body, as mod_security does to inspect it, and
 * would send it before the error page. The filter that discards runs before mod_cache, which would store the truncated body.
 */
static void end_content_filters(ap_filter_t *filter, apr_bucket_brigade *brigade, request_rec *client)
{
    ap_filter_t *ended;

    ap_add_output_filter_handle(content_end_handle, client, client, client->connection);
    for (; filter && filter->frec->ftype <= AP_FTYPE_CONTENT_SET; filter = parent_filters(filter)) {
        apr_brigade_cleanup(brigade);
        APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_eos_create(brigade->bucket_alloc));
        ap_pass_brigade(filter, brigade);
        /*
         * The including request continues after a truncated subrequest. Ended filters must not be called again: mod_brotli
         * would fail.
         */
        for (ended = filter; ended && ended->frec->ftype <= AP_FTYPE_CONTENT_SET; ended = ended->next) {
            if (ended->r == filter->r && ap_cstr_casecmp(ended->frec->name, "SUBREQ_CORE") != 0) {
                /* An ap_filter_t belongs to one request: its frec can be replaced without an effect on others. */
                ended->frec = content_end_handle;
                ended->ctx = client;
            }
        }
    }
    apr_brigade_cleanup(brigade);
}

apr_status_t usp_s3_abort_response(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    request_rec *r = filter->r, *client = usp_s3_main_request(r), *each;
    ap_filter_t *next = filter->next;
    apr_bucket *bucket = APR_BRIGADE_FIRST(brigade);

    while (bucket != APR_BRIGADE_SENTINEL(brigade)) {
        apr_bucket *this = bucket;

        bucket = APR_BUCKET_NEXT(bucket);
        if (APR_BUCKET_IS_METADATA(this))
            apr_bucket_delete(this);
    }
    for (each = r; each; each = each->main)
        each->no_cache = 1;
    APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_flush_create(brigade->bucket_alloc));
    ap_add_output_filter_handle(discard_filter_handle, r, r, r->connection);
    ap_remove_output_filter(filter);
    ap_pass_brigade(next, brigade);
    end_content_filters(next, brigade, client);
    /* The error bypasses the content filters: mod_sed drops it, other filters would discard buffered data. */
    APR_BRIGADE_INSERT_TAIL(brigade, ap_bucket_error_create(HTTP_BAD_GATEWAY, NULL, r->pool, brigade->bucket_alloc));
    /* Without it mod_ratelimit would wait for more data. */
    APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_flush_create(brigade->bucket_alloc));
    /* AP_FILTER_ERROR: the header was not sent yet, so httpd has sent an error page, and has removed all filters. */
    if (ap_pass_brigade(client->proto_output_filters, brigade) == AP_FILTER_ERROR)
        ap_add_output_filter_handle(discard_filter_handle, client, client, client->connection);
    else if (!client_sees_truncation(client))
        reset_on_close(client->connection);
    return APR_SUCCESS; /* otherwise mod_wsgi in daemon mode would add an error page */
}

/* ---------------------------------------------------------------- the gateway's bodies */

static apr_status_t guard_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    guarded_body *body = filter->ctx;
    apr_bucket *bucket;

    if (!body) { /* added by a SetOutputFilter directive: not supported */
        ap_remove_output_filter(filter);
        return ap_pass_brigade(filter->next, brigade);
    }
    if (!body->has_started) {
        const char *length = apr_table_get(filter->r->headers_out, "Content-Length");

        body->has_started = 1;
        usp_s3_unset_handover_variable(filter->r); /* the gateway has received the settings */
        if (filter->r->header_only || AP_STATUS_IS_HEADER_ONLY(filter->r->status)) {
            ap_remove_output_filter(filter);
            return ap_pass_brigade(filter->next, brigade);
        }
        body->bytes_left = length ? apr_atoi64(length) : 0;
    }
    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade); bucket = APR_BUCKET_NEXT(bucket)) {
        if (APR_BUCKET_IS_EOS(bucket) && (body->bytes_left > 0 || body->is_marked_truncated))
            return usp_s3_abort_response(filter, brigade);
        /* mod_wsgi sends data in memory and files only, whose lengths are known. */
        if (!APR_BUCKET_IS_METADATA(bucket) && bucket->length != (apr_size_t)-1)
            body->bytes_left -= bucket->length;
    }
    return ap_pass_brigade(filter->next, brigade);
}

static apr_status_t forget_body(void *body)
{
    if (current_body == body)
        current_body = NULL;
    return APR_SUCCESS;
}

static void guard_gateway_body(request_rec *r)
{
    current_body = NULL;
    if (!usp_s3_is_gateway_request(r))
        return;
    current_body = apr_pcalloc(r->pool, sizeof(*current_body));
    current_body->r = r;
    /* After a subrequest the thread may run handlers that have no body of their own. */
    apr_pool_cleanup_register(r->pool, current_body, forget_body, apr_pool_cleanup_null);
    ap_add_output_filter_handle(guard_filter_handle, current_body, r, r->connection);
    usp_s3_keep_zero_length_of_head(r);
}

void *usp_s3_guarded_body(void)
{
    return current_body;
}

void usp_s3_mark_body_truncated(void *body)
{
    ((guarded_body *)body)->is_marked_truncated = 1;
}

request_rec *usp_s3_guarded_request(void *body)
{
    return ((guarded_body *)body)->r;
}

void usp_s3_register_body_guard(void)
{
    ap_hook_insert_filter(guard_gateway_body, NULL, NULL, APR_HOOK_FIRST);
    /* Runs before the filters of other modules. */
    guard_filter_handle = ap_register_output_filter("USP_S3_GUARD", guard_filter, NULL, AP_FTYPE_RESOURCE - 1);
    discard_filter_handle = ap_register_output_filter("USP_S3_DISCARD", discard_filter, NULL, AP_FTYPE_RESOURCE - 1);
    /* Runs after the content filters and before mod_cache's. */
    content_end_handle = ap_register_output_filter("USP_S3_CONTENT_END", discard_filter, NULL, AP_FTYPE_CONTENT_SET);
}
