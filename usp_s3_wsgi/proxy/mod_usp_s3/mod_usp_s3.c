/*
 * The module declaration, and mod_proxy's hooks: they sign requests, and forward or reject the responses.
 *
 * This shared object is an httpd module and a Python extension module. httpd loads it as usp_s3_module (LoadModule). The Python
 * of each child imports it as usp_s3_wsgi._httpd, and registers its callbacks. What is specific to S3 is in Python
 * (usp_s3_wsgi/proxy).
 *
 *   pre_request      mod_usp_s3.c        before mod_proxy sends a request: Python signs it, and returns the signed URL
 *   fixups           request_headers.c   set the headers that are sent to S3
 *   create_req       response_framing.c  parse the header of S3's response
 *   response filter  mod_usp_s3.c        forward the headers that the client may see; withhold the body of an error response
 *   post_request     mod_usp_s3.c        set the status that a balancer's failonstatus checks
 *   request_status   mod_usp_s3.c        after an error response: set the client's status, and log the error
 *
 * r->filename, r->args and r->headers_in stay the client's, so that access rules, logs, error documents, caches and filters
 * never see a signature. Content-Length and Transfer-Encoding are removed after the request body was read, Range and
 * If-Range if the whole object has to be requested.
 * https://httpd.apache.org/docs/2.4/developer/modguide.html, and httpd's mod_proxy.h.
 */

#include "mod_usp_s3.h"

/* The key of r->notes where mod_proxy stores the status of S3's response. */
#define PROXY_STATUS "proxy-status"
/* Python's code (LogCode.PROXIED_REQUEST_FAILED) for a request that got no response. */
#define PROXIED_REQUEST_FAILED "USPS30408"

static module *proxy_http_module;
static ap_filter_rec_t *response_filter_handle;

int usp_s3_is_loaded(void)
{
    return response_filter_handle != NULL;
}

/* ---------------------------------------------------------------- fields of the request that mod_proxy reads */

static void limit_log_level(request_rec *r, module *limited, int level)
{
    struct ap_logconf *log;

    if (!limited || ap_get_request_module_loglevel(r, limited->module_index) <= level)
        return;
    log = ap_new_log_config(r->pool, r->log ? r->log : r->connection->log ? r->connection->log : &r->server->log);
    ap_set_module_loglevel(r->pool, log, limited->module_index, level);
    r->log = log;
}

void usp_s3_silence_proxy_log(request_rec *r)
{
    limit_log_level(r, proxy_http_module, APLOG_ERR);
}

/* Set what mod_proxy reads from the request: the server name for TLS (with ProxyPreserveHost), and log levels. */
static void override_request_fields(request_rec *r, signed_request *request)
{
    request->saved_hostname = r->hostname;
    request->saved_log = r->log;
    request->are_fields_overridden = 1;
    r->hostname = request->server_name;
    /* At level debug mod_proxy logs the URLs that it sends, whose query may have a signature. */
    limit_log_level(r, &proxy_module, APLOG_INFO);
    limit_log_level(r, proxy_http_module, APLOG_INFO);
}

static void restore_request_fields(request_rec *r, signed_request *request)
{
    if (!request->are_fields_overridden)
        return;
    request->are_fields_overridden = 0;
    r->hostname = request->saved_hostname;
    r->log = request->saved_log;
}

/* ---------------------------------------------------------------- metrics and the access log */

/* The host of a URL as it would be signed: in lowercase, without the default port. */
static const char *host_of_url(apr_pool_t *pool, const char *url)
{
    apr_uri_t uri;
    char *host;

    if (apr_uri_parse(pool, url, &uri) != APR_SUCCESS || !uri.hostname)
        return "";
    ap_str_tolower(host = apr_pstrdup(pool, uri.hostname));
    return uri.port && uri.port != apr_uri_port_of_scheme(uri.scheme) ? apr_psprintf(pool, "%s:%u", host, uri.port) : host;
}

static const char *text_or_empty(const char *text)
{
    return text ? text : "";
}

/* Record the exchange of a request that has ended, or whose next attempt uses another member of a balancer. */
static void record_exchange(request_rec *r, const signed_request *request)
{
    usp_s3_exchange exchange = {.way = USP_S3_PROXY, .s3_status = request->s3_status};
    apr_uint64_t *counters = exchange.counters;

    if (!usp_s3_is_recording())
        return;
    exchange.host = request->host ? request->host : host_of_url(r->pool, request->url);
    exchange.bucket = text_or_empty(request->bucket);
    exchange.s3_code = text_or_empty(request->s3_code);
    exchange.request_id = text_or_empty(request->request_id);
    exchange.error = text_or_empty(request->error_code);
    if (!request->s3_status && !request->error_code)
        exchange.error = PROXIED_REQUEST_FAILED; /* such as for a client that went away */
    counters[USP_S3_ATTEMPTS] = request->host != NULL; /* it was signed */
    counters[USP_S3_BODY_BYTES] = request->body_bytes;
    counters[USP_S3_NEW_CONNECTIONS] = request->s3_status && request->is_connection_new;
    counters[USP_S3_REUSED_CONNECTIONS] = request->s3_status && !request->is_connection_new;
    exchange.duration = usp_s3_monotonic_time() - request->began_at;
    exchange.has_first_byte = request->first_byte_at != 0;
    if (exchange.has_first_byte)
        exchange.first_byte = request->first_byte_at - request->began_at;
    usp_s3_record_for_request(r, &exchange);
}

/* ---------------------------------------------------------------- hook pre_request: sign */

static int is_handshake_failed(request_rec *r)
{
    const char *notes = apr_table_get(r->notes, "error-notes");

    return notes && strstr(notes, "SSL Handshake");
}

/* Undo the changes of prepare_signed_request, before the next attempt or at the end. Returns the number of attempts. */
static int undo_signing(request_rec *r)
{
    signed_request *request = usp_s3_get_signed_request(r);

    usp_s3_watch_proxy_errors(NULL);
    if (!request)
        return 0;
    restore_request_fields(r, request);
    if (request->response_filter)
        ap_remove_output_filter(request->response_filter);
    usp_s3_get_request_config(r)->signed_request = NULL;
    return request->attempt;
}

/* A member of a balancer has failed, and the next one is used. mod_proxy has logged it. */
static void record_failed_member(request_rec *r, signed_request *request)
{
    if (!usp_s3_is_recording())
        return;
    if (!request->has_response) {
        request->proxy_error = usp_s3_get_proxy_error(r, request, is_handshake_failed(r));
        usp_s3_log_failure(r, request, USP_S3_FAILED_MEMBER, "no response from S3; another member of the balancer is used");
    }
    record_exchange(r, request);
}

static int pre_request(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf, char **url);
static int choose_balancer_member(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf,
                                  char **url);

/* Called once for each attempt: each member of a balancer needs its own signature. */
static int prepare_signed_request(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf,
                                  char **url)
{
    const char *balancer_url = *url;
    signed_request *request;
    usp_s3_settings settings;
    int result = DECLINED, status, attempts;

    if (usp_s3_get_signed_request(r))
        record_failed_member(r, usp_s3_get_signed_request(r));
    attempts = undo_signing(r);
    if (usp_s3_is_balancer_url(*url)) {
        if ((result = choose_balancer_member(worker, balancer, r, conf, url)) != OK)
            return result;
    }
    if (!usp_s3_is_http_url(*url) || !usp_s3_find_settings(r, conf, *url, balancer_url, &settings))
        return result; /* Python returns the error of a rejected request */
    request = apr_pcalloc(r->pool, sizeof(*request));
    request->settings = settings;
    request->attempt = attempts + 1;
    request->url = *url;
    request->initial_status = r->status;
    request->began_at = usp_s3_is_recording() ? usp_s3_monotonic_time() : 0;
    /* The body is read before the request is signed: a signature expires. */
    if ((status = usp_s3_discard_body(r)) != OK)
        return status;
    if ((status = usp_s3_sign_request(r, request, url)) != OK) {
        record_exchange(r, request);
        return status;
    }
    request->signed_url = *url;
    usp_s3_watch_proxy_errors(request);
    if (r->main && !r->kept_body && !usp_s3_client_has_body(r)) {
        /* Otherwise mod_proxy would close the connection to S3 after each subrequest. */
        r->kept_body = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    }
    apr_table_unset(r->notes, PROXY_STATUS); /* of the member before */
    apr_table_setn(r->subprocess_env, "proxy-interim-response", "Suppress"); /* otherwise a 103 would be forwarded */
    override_request_fields(r, request);
    usp_s3_get_request_config(r)->signed_request = request;
    request->response_filter = ap_add_output_filter_handle(response_filter_handle, request, r, r->connection);
    if (!attempts)
        usp_s3_keep_zero_length_of_head(r);
    return result;
}

/* Run the pre_request hooks of other modules, which choose the member and set *url to its URL. */
static int choose_balancer_member(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf,
                                  char **url)
{
    apr_array_header_t *hooks = proxy_hook_get_pre_request();
    int i, status = DECLINED;

    for (i = 0; i < hooks->nelts && status == DECLINED; i++) {
        proxy_LINK_pre_request_t *hook = &APR_ARRAY_IDX(hooks, i, proxy_LINK_pre_request_t);

        if (hook->pFunc != pre_request)
            status = hook->pFunc(worker, balancer, r, conf, url);
    }
    return status;
}

/* Whether a balancer has a member that is a bucket. */
static int has_bucket_members(request_rec *r, proxy_server_conf *conf, const proxy_balancer *balancer)
{
    int i;

    for (i = 0; balancer && i < balancer->workers->nelts; i++) {
        if (usp_s3_is_bucket_member(conf, ap_proxy_worker_name(r->pool, APR_ARRAY_IDX(balancer->workers, i, proxy_worker *))))
            return 1;
    }
    return 0;
}

/*
 * The error of a subrequest is the return value of its handler. Set r->status to it too: a module that makes subrequests may
 * check only that, and would take the empty response for the object. After internal redirects the module has the first
 * request; errors of main requests get an error page from httpd itself.
 */
static void record_subrequest_error(request_rec *r, int status)
{
    while (r->prev)
        r = r->prev;
    if (r->main && !ap_is_HTTP_ERROR(r->status) && ap_is_HTTP_ERROR(status))
        r->status = status;
}

static int pre_request(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf, char **url)
{
    int status = prepare_signed_request(worker, balancer, r, conf, url);

    /* If *url is still the balancer's, no member could be chosen. */
    if (!usp_s3_is_balancer_url(*url) || has_bucket_members(r, conf, *balancer))
        record_subrequest_error(r, status);
    return status;
}

/* ---------------------------------------------------------------- response filter */

static int is_forwarded(const char *name, const char **names, signed_request *request)
{
    int i;

    for (; *names; names++) {
        if (ap_cstr_casecmp(name, *names) == 0)
            return 1;
    }
    for (i = 0; i < request->pass_headers->nelts; i++) {
        const char *prefix = APR_ARRAY_IDX(request->pass_headers, i, const char *);

        if (ap_cstr_casecmpn(name, prefix, strlen(prefix)) == 0)
            return 1;
    }
    return 0;
}

/* Remove the coding of an upload, which some servers store. As _without_upload_coding in gateway/client_response.py. */
static void remove_upload_coding(apr_pool_t *pool, apr_table_t *headers)
{
    const char *all = apr_table_getm(pool, headers, "Content-Encoding");
    const char *upload_coding = usp_s3_get_shared_tables()->upload_coding;
    char *coding, *rest, *text = apr_pstrdup(pool, all);

    if (!all)
        return;
    apr_table_unset(headers, "Content-Encoding");
    for (coding = apr_strtok(text, ",", &rest); coding; coding = apr_strtok(NULL, ",", &rest)) {
        char *end = coding + strlen(coding);

        coding += strspn(coding, " \t");
        while (end > coding && (end[-1] == ' ' || end[-1] == '\t'))
            *--end = '\0';
        if (*coding && ap_cstr_casecmp(coding, upload_coding) != 0)
            apr_table_mergen(headers, "Content-Encoding", coding);
    }
}

static apr_table_t *forwarded_headers(request_rec *r, signed_request *request, const char **names)
{
    const apr_array_header_t *all = apr_table_elts(r->headers_out);
    apr_table_t *forwarded = apr_table_make(r->pool, 12);
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (is_forwarded(entry->key, names, request) && *entry->key && !*ap_scan_http_token(entry->key))
            apr_table_addn(forwarded, entry->key, entry->val);
    }
    remove_upload_coding(r->pool, forwarded);
    if (request->pass_accept_encoding)
        apr_table_mergen(forwarded, "Vary", "Accept-Encoding");
    return forwarded;
}

/* Error message for a header that httpd would reject with 500, as if the fault were its own; NULL if all are valid. */
static const char *header_value_error(apr_pool_t *pool, const apr_table_t *headers)
{
    const apr_array_header_t *all = apr_table_elts(headers);
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);
        const char *value;

        for (value = entry->val; *value; value++) {
            if (apr_iscntrl(*value) && *value != '\t')
                return apr_psprintf(pool, "response header with control characters: %s", entry->key);
        }
    }
    return NULL;
}

/*
 * Decide on the client's response after an error response of S3, once: its status, its headers, and the line in the error log.
 * Calls Python, except for statuses that are forwarded.
 */
static void resolve_error_response(request_rec *r, signed_request *request, int s3_status)
{
    const char **names = usp_s3_forwarded_response_headers(s3_status);

    if (request->client_status || request->must_refetch_whole)
        return;
    if (names) {
        /* 412, 416: S3's response to a condition or range of the client. */
        apr_table_overlap(r->err_headers_out, forwarded_headers(r, request, names), APR_OVERLAP_TABLES_SET);
        request->client_status = s3_status;
    }
    else
        request->client_status = usp_s3_explain_error(r, request, s3_status);
    r->status = request->client_status;
}

/*
 * Keep the beginning of an error response's body; nothing of it is forwarded. If this returns an error, mod_proxy stops
 * reading and closes the connection to S3.
 */
static apr_status_t keep_error_body(request_rec *r, signed_request *request, apr_bucket_brigade *brigade)
{
    apr_size_t limit = usp_s3_get_shared_tables()->max_error_document_size;
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade); bucket = APR_BUCKET_NEXT(bucket)) {
        const char *data;
        apr_size_t length;

        if (APR_BUCKET_IS_EOS(bucket))
            resolve_error_response(r, request, r->status);
        if (APR_BUCKET_IS_METADATA(bucket) || apr_bucket_read(bucket, &data, &length, APR_BLOCK_READ) != APR_SUCCESS)
            continue;
        if (!request->error_body)
            request->error_body = apr_palloc(r->pool, limit);
        if (length > limit - request->error_body_length)
            length = limit - request->error_body_length;
        memcpy(request->error_body + request->error_body_length, data, length);
        request->error_body_length += length;
    }
    apr_brigade_cleanup(brigade);
    /* Stop reading if the rest is not needed. */
    return request->must_refetch_whole || request->is_rejected || request->error_body_length == limit ? APR_EGENERAL
                                                                                                      : APR_SUCCESS;
}

/* The response cannot be forwarded: log the error, and send 502 to the client. */
static void reject_response(request_rec *r, signed_request *request, const char *error)
{
    usp_s3_log_failure(r, request, USP_S3_INVALID_RESPONSE, error);
    request->is_body_withheld = request->is_rejected = 1;
    request->client_status = HTTP_BAD_GATEWAY;
}

/* Replace the headers of the response by those for the client. An ErrorDocument in a bucket keeps the error's status. */
static void forward_headers(request_rec *r, signed_request *request, apr_table_t *forwarded)
{
    /* mod_mime has guessed the type by the name: use S3's instead. */
    if (!apr_table_get(r->headers_out, "Content-Type"))
        r->content_type = NULL;
    r->content_encoding = NULL;
    r->content_languages = NULL;
    r->headers_out = forwarded;
    if (r->status != HTTP_NOT_MODIFIED && !r->content_type)
        ap_set_content_type(r, usp_s3_get_shared_tables()->default_content_type);
    if (request->initial_status != HTTP_OK) {
        r->status = request->initial_status;
        r->status_line = NULL;
    }
}

static int contains_bucket(apr_bucket_brigade *brigade, const apr_bucket_type_t *type)
{
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade); bucket = APR_BUCKET_NEXT(bucket)) {
        if (bucket->type == type)
            return 1;
    }
    return 0;
}

/* Bytes of data in a brigade whose length is known: all that mod_proxy sends. */
static apr_uint64_t length_of(apr_bucket_brigade *brigade)
{
    apr_uint64_t length = 0;
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade); bucket = APR_BUCKET_NEXT(bucket)) {
        if (bucket->length != (apr_size_t)-1)
            length += bucket->length;
    }
    return length;
}

/* The header of the response was read: forward the response or reject it. */
static void handle_response_header(request_rec *r, signed_request *request)
{
    const char **names, *error;
    apr_table_t *forwarded = NULL;

    request->s3_status = r->status;
    if (usp_s3_forwarded_response_headers(r->status) || r->status == HTTP_NOT_FOUND)
        usp_s3_record_accepted_version(request);
    if (!(error = usp_s3_check_framing(r, request)))
        error = usp_s3_check_range(r, request);
    names = usp_s3_forwarded_response_headers(r->status);
    if (!error && names) {
        forwarded = forwarded_headers(r, request, names);
        error = header_value_error(r->pool, forwarded);
    }
    if (error)
        reject_response(r, request, error);
    else if (!names || ap_is_HTTP_ERROR(r->status) || request->must_refetch_whole)
        request->is_body_withheld = 1;
    else {
        usp_s3_log_response(r, request);
        forward_headers(r, request, forwarded);
    }
}

static apr_status_t response_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    signed_request *request = filter->ctx;
    request_rec *r = filter->r;
    const char *s3_status = apr_table_get(r->notes, PROXY_STATUS);

    if (!request) { /* added by a SetOutputFilter directive: not supported */
        ap_remove_output_filter(filter);
        return ap_pass_brigade(filter->next, brigade);
    }

    if (!request->has_response && !s3_status && r->connection->keepalives && contains_bucket(brigade, &ap_bucket_type_eoc)) {
        /*
         * S3 closed an idle connection while the request was sent on it. mod_proxy closes the client's connection without a
         * response, as if that race had been the client's: the client retries. (With HTTP/2, mod_http2 returns 500.)
         * https://www.rfc-editor.org/rfc/rfc9112#section-9.3.1
         */
        ap_remove_output_filter(filter);
        request->response_filter = NULL;
        request->is_client_connection_closed = 1;
        return ap_pass_brigade(filter->next, brigade);
    }
    if (!request->has_response) {
        request->has_response = 1;
        restore_request_fields(r, request);
        if (request->began_at) {
            request->first_byte_at = usp_s3_monotonic_time();
            request->request_id = usp_s3_get_s3_request_id(r);
        }
        if (s3_status) {
            r->status = atoi(s3_status); /* with ProxyErrorOverride it is still that of the request for the ErrorDocument */
            handle_response_header(r, request);
        }
        else
            reject_response(r, request, "response is not valid HTTP"); /* HTTP/0.9 with status 200 for mod_proxy */
    }
    if (request->is_body_withheld)
        return keep_error_body(r, request, brigade);
    if (contains_bucket(brigade, &ap_bucket_type_error) || usp_s3_count_body_bytes(request, brigade)) {
        request->response_filter = NULL;
        request->is_truncated = 1;
        if (request->is_length_enforced && request->bytes_left < 0)
            usp_s3_log_failure(r, request, USP_S3_EXCESS_BODY, "S3 sent more bytes than the Content-Range states");
        else
            usp_s3_log_failure(r, request, USP_S3_TRUNCATED_BODY, "response body truncated");
        usp_s3_abort_response(filter, brigade);
        return APR_EGENERAL; /* mod_proxy stops reading */
    }
    if (request->began_at)
        request->body_bytes += length_of(brigade);
    return ap_pass_brigade(filter->next, brigade);
}

/* ---------------------------------------------------------------- hook post_request: the status for a balancer */

static int is_in_failonstatus(const proxy_balancer *balancer, int status)
{
    int i;

    /* errstatuses is NULL without failonstatus. */
    for (i = 0; !apr_is_empty_array(balancer->errstatuses) && i < balancer->errstatuses->nelts; i++) {
        if (APR_ARRAY_IDX(balancer->errstatuses, i, int) == status)
            return 1;
    }
    return 0;
}

/*
 * failonstatus checks the client's status: a member that rejects this server's credentials (502) fails, a member that denies
 * one object (403) does not. A server error also fails if S3's own status is listed: failonstatus=403 is written for
 * rejected credentials. An expired token is a 400 of S3, and counts as 403 here if it becomes a 502; a 400 about the client's
 * URL does not.
 */
static int set_balancer_status(proxy_worker *worker, proxy_balancer *balancer, request_rec *r, proxy_server_conf *conf)
{
    signed_request *request = usp_s3_get_signed_request(r);

    (void)worker;
    (void)conf;
    if (!request || !request->is_body_withheld)
        return DECLINED;
    resolve_error_response(r, request, request->s3_status); /* if the body was not read to its end */
    if (!ap_is_HTTP_SERVER_ERROR(request->client_status))
        return DECLINED;
    r->status = request->client_status;
    if (is_in_failonstatus(balancer, request->client_status) || !ap_is_HTTP_ERROR(request->s3_status))
        return DECLINED;
    if (is_in_failonstatus(balancer, request->s3_status))
        r->status = request->s3_status;
    else if (request->s3_status == HTTP_BAD_REQUEST && request->client_status == HTTP_BAD_GATEWAY)
        r->status = HTTP_FORBIDDEN;
    return DECLINED; /* mod_proxy_balancer runs next; set_request_status sets the client's status again after it */
}

/* ---------------------------------------------------------------- hook request_status: the client's status */

/* Send the same request again without Range, by an internal redirect. */
static int refetch_whole_object(request_rec *r)
{
    r->headers_in = apr_table_copy(r->pool, r->headers_in);
    apr_table_unset(r->headers_in, "Range");
    apr_table_unset(r->headers_in, "If-Range");
    ap_internal_redirect(r->unparsed_uri, r);
    return OK;
}

/* Whether mod_proxy stopped reading the header at a line that exceeds its limit. */
static int is_header_line_too_long(request_rec *r, const signed_request *request)
{
    proxy_server_conf *conf = ap_get_module_config(r->server->module_config, &proxy_module);
    proxy_worker *worker = ap_proxy_get_worker(r->pool, NULL, conf, request->url);
    apr_size_t limit = worker && worker->s->response_field_size ? worker->s->response_field_size : HUGE_STRING_LEN;

    return request->response_header.status && !request->response_header.is_complete
           && request->response_header.last_line_size >= limit;
}

/* The reason of a failed connection to S3, if it is known and useful to the operator, else "". */
static const char *connection_failure_hint(request_rec *r, const signed_request *request)
{
    if (is_header_line_too_long(r, request))
        return ", a header line is too long for mod_proxy: increase responsefieldsize (ProxySet)";
    if (is_handshake_failed(r))
        return ", the TLS handshake failed: the certificate is not trusted, or the server speaks no TLS on this port";
    return "";
}

/* Error message for a response that mod_proxy did not get, and for which it returned this status. */
static const char *no_response_error(request_rec *r, const signed_request *request, int status)
{
    if (request->is_client_connection_closed)
        return r->connection->master ? "no response from S3; mod_proxy closed the client's HTTP/2 stream"
                                     : "no response from S3; mod_proxy closed the client's connection";
    return apr_psprintf(r->pool, "no response from S3; mod_proxy returned %d%s", status, connection_failure_hint(r, request));
}

static int set_request_status(int *status, request_rec *r)
{
    signed_request *request = usp_s3_get_signed_request(r);
    int error_override;

    undo_signing(r);
    if (!request)
        return DECLINED;
    if (!request->has_response)
        request->proxy_error = usp_s3_get_proxy_error(r, request, is_handshake_failed(r));
    error_override = !request->has_response && apr_table_get(r->notes, "proxy-error-override");
    if (!request->has_response && request->response_header.error)
        usp_s3_log_failure(r, request, USP_S3_INVALID_RESPONSE, request->response_header.error);
    else if (request->is_client_connection_closed
             || (!request->has_response && !error_override && *status >= HTTP_INTERNAL_SERVER_ERROR)) {
        request->proxy_status = request->is_client_connection_closed ? 0 : *status;
        usp_s3_log_failure(r, request, USP_S3_NO_RESPONSE, no_response_error(r, request, *status));
    }
    if (!request->is_body_withheld && !error_override) {
        if ((request->is_truncated || request->is_client_connection_closed) && r->main)
            *status = HTTP_BAD_GATEWAY;
        record_exchange(r, request);
        record_subrequest_error(r, *status);
        return DECLINED;
    }
    if (error_override) {
        /* With ProxyErrorOverride the response filter is not called. */
        r->status = request->s3_status = *status;
        usp_s3_check_range(r, request);
        apr_table_unset(r->err_headers_out, "WWW-Authenticate"); /* a 401 of S3 is not for the client */
    }
    resolve_error_response(r, request, request->s3_status);
    usp_s3_log_response(r, request);
    record_exchange(r, request);
    /* From here on httpd makes the response. */
    r->status = request->initial_status;
    r->status_line = NULL;
    r->headers_out = apr_table_make(r->pool, 4);
    r->content_type = NULL;
    r->sent_bodyct = 0;
    *status = request->must_refetch_whole ? refetch_whole_object(r) : request->client_status;
    record_subrequest_error(r, *status);
    return OK;
}

/* ---------------------------------------------------------------- usp_s3_module */

static int find_proxy_http_module(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary, server_rec *server)
{
    (void)config;
    (void)log;
    (void)temporary;
    (void)server;
    proxy_http_module = ap_find_linked_module("mod_proxy_http.c");
    return OK;
}

static void register_hooks(apr_pool_t *pool)
{
    static const char *const before[] = {"mod_proxy_balancer.c", NULL};

    (void)pool;
    ap_hook_post_config(find_proxy_http_module, NULL, NULL, APR_HOOK_MIDDLE);
    proxy_hook_pre_request(pre_request, NULL, before, APR_HOOK_REALLY_FIRST);
    proxy_hook_post_request(set_balancer_status, NULL, before, APR_HOOK_REALLY_FIRST);
    APR_OPTIONAL_HOOK(proxy, request_status, set_request_status, NULL, NULL, APR_HOOK_REALLY_LAST);
    usp_s3_register_signing_template();
    usp_s3_register_request_headers();
    usp_s3_register_response_framing();
    usp_s3_register_trust_boundary();
    usp_s3_register_body_guard();
    usp_s3_register_head_length();
    usp_s3_register_configtest();
    usp_s3_register_shared_memory();
    usp_s3_register_access_log();
    usp_s3_register_proxy_errors();
    /* Runs before the filters of other modules. */
    response_filter_handle = ap_register_output_filter("USP_S3_RESPONSE", response_filter, NULL, AP_FTYPE_RESOURCE - 1);
}

module AP_MODULE_DECLARE_DATA usp_s3_module = {STANDARD20_MODULE_STUFF, NULL,           NULL, NULL, NULL,
                                               usp_s3_directives,       register_hooks, 0};
