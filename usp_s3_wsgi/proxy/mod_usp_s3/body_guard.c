/*
 * Bodies that S3 did not send whole end abnormally, whatever filters, protocols and processes are in between.
 *
 * mod_proxy knows that a body is not whole. For the gateway it is counted here: WSGI has no means to say so, and httpd takes
 * the end of what the application (or mod_wsgi's daemon) sent for the body's. Where the length is not known, the application
 * says that the body is cut short, which it can in httpd's own processes alone.
 */

#include "mod_usp_s3.h"

#include "apr_portable.h"

#include <sys/socket.h>

typedef struct {
    int begun;
    apr_off_t left; /* bytes that are still to come, where their number is known */
    int cut;        /* the application says that there will be no more, though there should be */
} guarded_body;

/* That of the request which this thread is about to hand to the application. */
static __thread guarded_body *current;

static ap_filter_rec_t *guard_handle, *broken_handle, *sink_handle, *empty_handle;

request_rec *usp_s3_client(request_rec *r)
{
    while (r->main)
        r = r->main;
    return r;
}

/* ---------------------------------------------------------------- an abnormal end */

/* End the connection by a reset, which is the only mark of a body's abnormal end where nothing else frames it. */
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
 * Whether the client sees that bytes are missing, now that its header is out: fewer than its Content-Length says, no last
 * chunk, which httpd's chunk filter leaves out for the error, or a reset of the stream in HTTP/2.
 */
static int is_visible(request_rec *client)
{
    if (client->assbackwards)
        return 0; /* HTTP/0.9 has no header */
    return client->connection->master || client->chunked || apr_table_get(client->headers_out, "Content-Length");
}

/* Whatever comes after an abnormal end, above all the orderly one that httpd makes for every request. */
static apr_status_t broken_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    if (!filter->ctx) {
        ap_remove_output_filter(filter);
        return ap_pass_brigade(filter->next, brigade);
    }
    apr_brigade_cleanup(brigade);
    return APR_SUCCESS;
}

/* Where the filters of a page go on, which this filter passes a part to; NULL where there is no page. */
static ap_filter_t *filters_of_page(ap_filter_t *filter)
{
    while (filter && ap_cstr_casecmp(filter->frec->name, "SUBREQ_CORE") != 0)
        filter = filter->next;
    return filter ? filter->next : NULL;
}

/*
 * Let the filters of the content come to their end, with nothing of it for the client. Those that hold a whole body back, as
 * mod_security does to inspect it, would put what they hold before the error page. They come before mod_cache, which takes
 * the end for that of a whole body.
 */
static void end_content(ap_filter_t *filter, apr_bucket_brigade *brigade, request_rec *client)
{
    ap_filter_t *ended;

    ap_add_output_filter_handle(sink_handle, client, client, client->connection);
    for (; filter && filter->frec->ftype <= AP_FTYPE_CONTENT_SET; filter = filters_of_page(filter)) {
        apr_brigade_cleanup(brigade);
        APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_eos_create(brigade->bucket_alloc));
        ap_pass_brigade(filter, brigade);
        /* A page goes on after a part that was cut: mod_brotli cannot, once it has come to its end. */
        for (ended = filter; ended && ended->frec->ftype <= AP_FTYPE_CONTENT_SET; ended = ended->next) {
            if (ended->r == filter->r && ap_cstr_casecmp(ended->frec->name, "SUBREQ_CORE") != 0) {
                ended->frec = sink_handle;
                ended->ctx = client;
            }
        }
    }
    apr_brigade_cleanup(brigade);
}

apr_status_t usp_s3_break_off(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    request_rec *r = filter->r, *client = usp_s3_client(r), *page;
    ap_filter_t *next = filter->next;
    apr_bucket *bucket = APR_BRIGADE_FIRST(brigade);

    while (bucket != APR_BRIGADE_SENTINEL(brigade)) {
        apr_bucket *this = bucket;

        bucket = APR_BUCKET_NEXT(bucket);
        if (APR_BUCKET_IS_METADATA(this))
            apr_bucket_delete(this);
    }
    for (page = r; page; page = page->main)
        page->no_cache = 1;
    APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_flush_create(brigade->bucket_alloc));
    ap_add_output_filter_handle(broken_handle, r, r, r->connection);
    ap_remove_output_filter(filter);
    ap_pass_brigade(next, brigade);
    end_content(next, brigade, client);
    /* The error goes past the filters of the content: mod_sed swallows it, and others all that they have. */
    APR_BRIGADE_INSERT_TAIL(brigade, ap_bucket_error_create(HTTP_BAD_GATEWAY, NULL, r->pool, brigade->bucket_alloc));
    /* RATE_LIMIT waits for more where nothing follows. */
    APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_flush_create(brigade->bucket_alloc));
    /* AP_FILTER_ERROR: no header was out yet, and the client has got an error page, which has taken all filters away. */
    if (ap_pass_brigade(client->proto_output_filters, brigade) == AP_FILTER_ERROR)
        ap_add_output_filter_handle(broken_handle, client, client, client->connection);
    else if (!is_visible(client))
        reset_on_close(client->connection);
    return APR_SUCCESS; /* or mod_wsgi adds an error page of its own in daemon mode */
}

/* ---------------------------------------------------------------- empty objects */

/* Drop what would be a body; whether one of an error is to come in its place. */
static int drop_data(apr_bucket_brigade *brigade)
{
    apr_bucket *bucket = APR_BRIGADE_FIRST(brigade);
    int has_error = 0;

    while (bucket != APR_BRIGADE_SENTINEL(brigade)) {
        apr_bucket *this = bucket;

        bucket = APR_BUCKET_NEXT(bucket);
        has_error |= AP_BUCKET_IS_ERROR(this);
        if (!APR_BUCKET_IS_METADATA(this))
            apr_bucket_delete(this);
    }
    return has_error;
}

/*
 * Of the answer to a HEAD httpd's core takes a Content-Length of 0 away, for a handler may have sent no body only because of
 * the method. Here it is the object's: while the header goes out, the request is one for the body, too, which is empty.
 */
static apr_status_t empty_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    request_rec *r = filter->r;
    const char *length = apr_table_get(r->headers_out, "Content-Length");
    apr_status_t status;

    if (r->main || !r->header_only) { /* SetOutputFilter: it is nobody's to name */
        ap_remove_output_filter(filter);
        return ap_pass_brigade(filter->next, brigade);
    }
    r->header_only = drop_data(brigade) || !length || strcmp(length, "0") != 0;
    status = ap_pass_brigade(filter->next, brigade);
    r->header_only = 1;
    return status;
}

void usp_s3_keep_zero_length(request_rec *r)
{
    if (!r->main && r->header_only)
        ap_add_output_filter_handle(empty_handle, NULL, r, r->connection);
}

/* ---------------------------------------------------------------- the gateway's bodies */

static apr_status_t guard_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    guarded_body *body = filter->ctx;
    apr_bucket *bucket;

    if (!body) { /* SetOutputFilter: it is nobody's to name */
        ap_remove_output_filter(filter);
        return ap_pass_brigade(filter->next, brigade);
    }
    if (!body->begun) {
        const char *length = apr_table_get(filter->r->headers_out, "Content-Length");

        body->begun = 1;
        usp_s3_hide_handed_over(filter->r); /* the application has it, or mod_wsgi's daemon */
        if (filter->r->header_only || AP_STATUS_IS_HEADER_ONLY(filter->r->status)) {
            ap_remove_output_filter(filter);
            return ap_pass_brigade(filter->next, brigade);
        }
        body->left = length ? apr_atoi64(length) : 0;
    }
    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade); bucket = APR_BUCKET_NEXT(bucket)) {
        if (APR_BUCKET_IS_EOS(bucket) && (body->left > 0 || body->cut))
            return usp_s3_break_off(filter, brigade);
        /* mod_wsgi passes on nothing but bytes in memory and files, whose lengths are known. */
        if (!APR_BUCKET_IS_METADATA(bucket) && bucket->length != (apr_size_t)-1)
            body->left -= bucket->length;
    }
    return ap_pass_brigade(filter->next, brigade);
}

/* The application knows by the proof that it may end a body early: in daemon mode it has no other way to do so. */
static void guard_gateway(request_rec *r)
{
    current = NULL;
    if (!usp_s3_is_gateway(r))
        return;
    current = apr_pcalloc(r->pool, sizeof(*current));
    ap_add_output_filter_handle(guard_handle, current, r, r->connection);
    usp_s3_keep_zero_length(r);
}

void *usp_s3_guarded_body(void)
{
    return current;
}

void usp_s3_cut_body(void *body)
{
    ((guarded_body *)body)->cut = 1;
}

void usp_s3_register_guard(void)
{
    ap_hook_insert_filter(guard_gateway, NULL, NULL, APR_HOOK_FIRST);
    /* Before every filter that others add. */
    guard_handle = ap_register_output_filter("USP_S3_GUARD", guard_filter, NULL, AP_FTYPE_RESOURCE - 1);
    /* After every filter of the content, and before those of the protocol. */
    empty_handle = ap_register_output_filter("USP_S3_EMPTY", empty_filter, NULL, AP_FTYPE_PROTOCOL - 1);
    broken_handle = ap_register_output_filter("USP_S3_BROKEN", broken_filter, NULL, AP_FTYPE_RESOURCE - 1);
    /* After every filter of the content, and before mod_cache's. */
    sink_handle = ap_register_output_filter("USP_S3_SINK", broken_filter, NULL, AP_FTYPE_CONTENT_SET);
}
