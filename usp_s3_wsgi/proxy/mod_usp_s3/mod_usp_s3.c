/*
 * Signing inside mod_proxy. One shared object with two faces: httpd loads it as usp_s3_module (LoadModule), and the
 * Python of each child imports it as usp_s3_wsgi._httpd, to hand over the functions that know how to sign.
 *
 * Whatever is to be known of S3 is in Python (usp_s3_wsgi/access.py). Here are the hooks, mod_proxy's own:
 *
 *   pre_request     mod_proxy is about to send: settings and URL go to Python, the signed URL comes back
 *   fixups          the headers that go out: those that S3 may see of the client's, and the signature's (request_headers.c)
 *   create_req      how the end of S3's body will be known (response_framing.c)
 *   answer filter   the headers of S3's answer that the client may see; the body of a refusal is kept away from it
 *   post_request    which status "failonstatus" of a balancer sees
 *   request_status  a refusal becomes the client's status, and a line in the error log
 *
 * r->filename, r->args and r->headers_in stay the client's (but for what announces a body, which is read already), so that
 * access rules, logs, error documents, caches and filters never see a signature.
 * https://httpd.apache.org/docs/2.4/developer/modguide.html, and httpd's mod_proxy.h.
 */

#include "mod_usp_s3.h"

/* As much of S3's error document as is read: as in error_document.py. */
#define REFUSAL_SIZE 65536
/* Where mod_proxy notes the status that S3 sent. */
#define PROXY_STATUS "proxy-status"

static module *proxy_http_module;
static ap_filter_rec_t *answer_filter_handle;

int usp_s3_is_loaded(void)
{
    return answer_filter_handle != NULL;
}

/* ---------------------------------------------------------------- hook: sign what mod_proxy is about to send */

static void quieten(request_rec *r, module *talkative, int level)
{
    struct ap_logconf *log;

    if (!talkative || ap_get_request_module_loglevel(r, talkative->module_index) <= level)
        return;
    log = ap_new_log_config(r->pool, r->log ? r->log : r->connection->log ? r->connection->log : &r->server->log);
    ap_set_module_loglevel(r->pool, log, talkative->module_index, level);
    r->log = log;
}

void usp_s3_silence_proxy(request_rec *r)
{
    quieten(r, proxy_http_module, APLOG_ERR);
}

/* Put into the request what mod_proxy takes from there: the name for TLS, with ProxyPreserveHost, and levels of logs. */
static void lend(request_rec *r, signed_request *request)
{
    request->client_host = r->hostname;
    request->client_log = r->log;
    request->lent = 1;
    r->hostname = request->server_name;
    /* mod_proxy writes the URLs that it asks at level debug; there they would have a signature in the query. */
    quieten(r, &proxy_module, APLOG_INFO);
    quieten(r, proxy_http_module, APLOG_INFO);
}

static void give_back(request_rec *r, signed_request *request)
{
    if (!request->lent)
        return;
    request->lent = 0;
    r->hostname = request->client_host;
    r->log = request->client_log;
}

/* Undo what sign_request did to the request; returns how often it has been sent. */
static int let_go(request_rec *r)
{
    signed_request *request = usp_s3_sent(r);

    if (!request)
        return 0;
    give_back(r, request);
    if (request->filter)
        ap_remove_output_filter(request->filter);
    usp_s3_request_of(r)->sent = NULL;
    return request->attempt;
}

static int pre_request(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf,
                       char **url);
static int choose_member(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf,
                         char **url);

/* Whether the client sent a body, with the request that this one is a part of. */
static int has_body(request_rec *r)
{
    return ap_request_has_body(usp_s3_client(r));
}

/*
 * The client's body is read and dropped, and what announced it forgotten: mod_proxy would wait for it, and mod_wsgi refuse it.
 * The client may hold it back (RFC 9110, 10.1.1) until "100 Continue" comes, which httpd sends when it is read; where that
 * has not been sent, as for the page of an error, nobody knows whether it will come: the connection ends with this answer.
 */
int usp_s3_discard_body(request_rec *r)
{
    int status, proxyreq = r->proxyreq, is_announced = has_body(r);

    r->proxyreq = PROXYREQ_NONE; /* for LimitRequestBody to count */
    status = ap_discard_request_body(r); /* in a subrequest it reads nothing: the body is its page's */
    r->proxyreq = proxyreq;
    if (status != OK)
        return status;
    if (!r->main && is_announced && r->expecting_100)
        apr_table_setn(r->err_headers_out, "Connection", "close");
    r->expecting_100 = 0;
    if (r->main && r->headers_in == r->main->headers_in)
        r->headers_in = apr_table_copy(r->pool, r->headers_in);
    apr_table_unset(r->headers_in, "Content-Length");
    apr_table_unset(r->headers_in, "Transfer-Encoding");
    return OK;
}

/* Called once for each try: a balancer's next member is asked with its own signature. */
static int sign_request(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf,
                        char **url)
{
    const char *unchosen = *url;
    signed_request *request;
    usp_s3_place place;
    int chosen = DECLINED, status, attempts = let_go(r);

    if (usp_s3_is_balancer(*url)) {
        if ((chosen = choose_member(worker, balancer, r, conf, url)) != OK)
            return chosen;
    }
    if (!usp_s3_is_http(*url) || !usp_s3_find_place(r, conf, *url, unchosen, &place))
        return chosen;
    request = apr_pcalloc(r->pool, sizeof(*request));
    request->place = place;
    request->attempt = attempts + 1;
    request->url = *url;
    request->client_status = r->status;
    /* Read to its end before a signature begins to age. */
    if ((status = usp_s3_discard_body(r)) != OK || (status = usp_s3_sign(r, request, url)) != OK)
        return status;
    if (r->main && !r->kept_body && !has_body(r)) {
        /* mod_proxy ends the connection to S3 after each subrequest, unless there is a body that is kept already. */
        r->kept_body = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    }
    apr_table_unset(r->notes, PROXY_STATUS); /* of another member */
    apr_table_setn(r->subprocess_env, "proxy-interim-response", "Suppress"); /* 103: its headers would pass as they are */
    lend(r, request);
    usp_s3_request_of(r)->sent = request;
    request->filter = ap_add_output_filter_handle(answer_filter_handle, request, r, r->connection);
    if (!attempts)
        usp_s3_keep_zero_length(r);
    return chosen;
}

/* Let the hooks of others choose the member: *url becomes its own. */
static int choose_member(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf,
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

/* Whether a balancer has members that are buckets. */
static int has_buckets(request_rec *r, proxy_server_conf *conf, const proxy_balancer *balancer)
{
    int i;

    for (i = 0; balancer && i < balancer->workers->nelts; i++) {
        if (usp_s3_is_bucket(conf, ap_proxy_worker_name(r->pool, APR_ARRAY_IDX(balancer->workers, i, proxy_worker *))))
            return 1;
    }
    return 0;
}

/*
 * httpd tells the failure of a subrequest by what its handler returns. Its status says the same here, for a module that
 * asks for a part of its own may look at nothing else, and would take an empty part for the object. The module has the
 * first request, where internal redirects have led to this one; those httpd ends with error pages by themselves.
 */
static void tell_subrequest(request_rec *r, int status)
{
    while (r->prev)
        r = r->prev;
    if (r->main && !ap_is_HTTP_ERROR(r->status) && ap_is_HTTP_ERROR(status))
        r->status = status;
}

static int pre_request(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf,
                       char **url)
{
    int status = sign_request(worker, balancer, r, conf, url);

    /* A URL that is the balancer's still: no member could be chosen. */
    if (!usp_s3_is_balancer(*url) || has_buckets(r, conf, *balancer))
        tell_subrequest(r, status);
    return status;
}

/* ---------------------------------------------------------------- filter: what comes back */

static int is_passed(const char *name, const char **names, signed_request *request)
{
    int i;

    for (; *names; names++) {
        if (ap_cstr_casecmp(name, *names) == 0)
            return 1;
    }
    for (i = 0; i < request->passed->nelts; i++) {
        const char *prefix = APR_ARRAY_IDX(request->passed, i, const char *);

        if (ap_cstr_casecmpn(name, prefix, strlen(prefix)) == 0)
            return 1;
    }
    return 0;
}

/* Some servers store the coding of an upload as one of the object; none is left where that is all. As in response.py. */
static void drop_coding_of_upload(apr_pool_t *pool, apr_table_t *headers)
{
    const char *all = apr_table_getm(pool, headers, "Content-Encoding");
    char *coding, *rest, *text = apr_pstrdup(pool, all);

    if (!all)
        return;
    apr_table_unset(headers, "Content-Encoding");
    for (coding = apr_strtok(text, ",", &rest); coding; coding = apr_strtok(NULL, ",", &rest)) {
        char *end = coding + strlen(coding);

        coding += strspn(coding, " \t");
        while (end > coding && (end[-1] == ' ' || end[-1] == '\t'))
            *--end = '\0';
        if (*coding && ap_cstr_casecmp(coding, "aws-chunked") != 0)
            apr_table_mergen(headers, "Content-Encoding", coding);
    }
}

static apr_table_t *passed_headers(request_rec *r, signed_request *request, const char **names)
{
    const apr_array_header_t *all = apr_table_elts(r->headers_out);
    apr_table_t *passed = apr_table_make(r->pool, 12);
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (is_passed(entry->key, names, request) && *entry->key && !*ap_scan_http_token(entry->key))
            apr_table_addn(passed, entry->key, entry->val);
    }
    drop_coding_of_upload(r->pool, passed);
    if (request->passes_coding)
        apr_table_mergen(passed, "Vary", "Accept-Encoding");
    return passed;
}

/* Why these headers cannot be passed on, NULL where they can: httpd would take it for a fault of its own. */
static const char *value_error(apr_pool_t *pool, const apr_table_t *headers)
{
    const apr_array_header_t *all = apr_table_elts(headers);
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);
        const char *value;

        for (value = entry->val; *value; value++) {
            if (apr_iscntrl(*value) && *value != '\t')
                return apr_psprintf(pool, "S3 sent a header with control characters: %s", entry->key);
        }
    }
    return NULL;
}

/* Decide what becomes of a refusal. */
static void decide(request_rec *r, signed_request *request, int refused)
{
    const char **names = usp_s3_passed_on(refused);

    if (request->status || request->ask_for_all)
        return;
    if (names) {
        /* 412, 416: the answer to what the client asked for. */
        apr_table_overlap(r->err_headers_out, passed_headers(r, request, names), APR_OVERLAP_TABLES_SET);
        request->status = refused;
    }
    else
        request->status = usp_s3_explain(r, request, refused);
    r->status = request->status;
}

/*
 * Keep the beginning of a refusal's body; nothing of it goes on to the client. With an error mod_proxy gives up the rest,
 * and the connection with it.
 */
static apr_status_t keep_refusal(request_rec *r, signed_request *request, apr_bucket_brigade *brigade)
{
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade); bucket = APR_BUCKET_NEXT(bucket)) {
        const char *data;
        apr_size_t length;

        if (APR_BUCKET_IS_EOS(bucket))
            decide(r, request, r->status);
        if (APR_BUCKET_IS_METADATA(bucket) || apr_bucket_read(bucket, &data, &length, APR_BLOCK_READ) != APR_SUCCESS)
            continue;
        if (!request->body)
            request->body = apr_palloc(r->pool, REFUSAL_SIZE);
        length = length < REFUSAL_SIZE - request->length ? length : REFUSAL_SIZE - request->length;
        memcpy(request->body + request->length, data, length);
        request->length += length;
    }
    apr_brigade_cleanup(brigade);
    /* What its header has decided, or a long page, is not worth the rest of it. */
    return request->ask_for_all || request->is_decided || request->length == REFUSAL_SIZE ? APR_EGENERAL : APR_SUCCESS;
}

/* S3's answer cannot be passed on: the operator hears why, the client gets 502. */
static void refuse(request_rec *r, signed_request *request, const char *why)
{
    usp_s3_report(r, request, why);
    request->refused = request->is_decided = 1;
    request->status = HTTP_BAD_GATEWAY;
}

/* The client gets S3's headers, and where it asked for something that was not found, S3's page with that status. */
static void pass_headers(request_rec *r, signed_request *request, apr_table_t *passed)
{
    /* What mod_mime made of the name is not what S3 says of the object. */
    if (!apr_table_get(r->headers_out, "Content-Type"))
        r->content_type = NULL;
    r->content_encoding = NULL;
    r->content_languages = NULL;
    r->headers_out = passed;
    if (r->status != HTTP_NOT_MODIFIED && !r->content_type)
        ap_set_content_type(r, "binary/octet-stream"); /* S3's own default */
    if (request->client_status != HTTP_OK) {
        r->status = request->client_status;
        r->status_line = NULL;
    }
}

static int holds(apr_bucket_brigade *brigade, const apr_bucket_type_t *type)
{
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade); bucket = APR_BUCKET_NEXT(bucket)) {
        if (bucket->type == type)
            return 1;
    }
    return 0;
}

/* The answer's header has come: decide whose it is. */
static void begin_answer(request_rec *r, signed_request *request)
{
    const char **names, *why;
    apr_table_t *passed = NULL;

    request->s3_status = r->status;
    if (usp_s3_passed_on(r->status) || r->status == HTTP_NOT_FOUND)
        usp_s3_set_granted(request);
    if (!(why = usp_s3_framing_error(r, request)))
        why = usp_s3_range_error(r, request);
    names = usp_s3_passed_on(r->status);
    if (!why && names) {
        passed = passed_headers(r, request, names);
        why = value_error(r->pool, passed);
    }
    if (why)
        refuse(r, request, why);
    else if (!names || ap_is_HTTP_ERROR(r->status) || request->ask_for_all)
        request->refused = 1;
    else {
        usp_s3_log_answer(r, request);
        pass_headers(r, request, passed);
    }
}

static apr_status_t answer_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    signed_request *request = filter->ctx;
    request_rec *r = filter->r;
    const char *s3_status = apr_table_get(r->notes, PROXY_STATUS);

    if (!request) { /* SetOutputFilter: it is nobody's to name */
        ap_remove_output_filter(filter);
        return ap_pass_brigade(filter->next, brigade);
    }

    if (!request->answered && !s3_status && r->connection->keepalives && holds(brigade, &ap_bucket_type_eoc)) {
        /* S3 has just closed a connection that was kept: the client's is to end likewise, so that it asks again. */
        ap_remove_output_filter(filter);
        request->filter = NULL;
        return ap_pass_brigade(filter->next, brigade);
    }
    if (!request->answered) {
        request->answered = 1;
        give_back(r, request);
        if (s3_status) {
            r->status = atoi(s3_status); /* with ProxyErrorOverride it is the one that an ErrorDocument is for */
            begin_answer(r, request);
        }
        else
            refuse(r, request, "S3 sent what is not HTTP"); /* mod_proxy takes it for HTTP/0.9, and for a 200 */
    }
    if (request->refused)
        return keep_refusal(r, request, brigade);
    if (holds(brigade, &ap_bucket_type_error) || usp_s3_ends_early(request, brigade)) {
        request->filter = NULL;
        request->cut = 1;
        usp_s3_report(r, request, "S3 ended the body early");
        usp_s3_break_off(filter, brigade);
        return APR_EGENERAL; /* mod_proxy reads no further */
    }
    return ap_pass_brigade(filter->next, brigade);
}

/* ---------------------------------------------------------------- hook: the balancer's status */

static int fails_on(const proxy_balancer *balancer, int status)
{
    int i;

    /* Where there is no failonstatus there is no array. */
    for (i = 0; !apr_is_empty_array(balancer->errstatuses) && i < balancer->errstatuses->nelts; i++) {
        if (APR_ARRAY_IDX(balancer->errstatuses, i, int) == status)
            return 1;
    }
    return 0;
}

/*
 * What "failonstatus" sees is what becomes of the answer, so that a bucket which refuses this server's key (502) is left
 * alone, and one which denies a client's object (403) is not. A failure that is not the client's counts for S3's own status
 * as well: failonstatus=403 is written for keys that S3 refuses. (A token that has expired is a 400 of S3's; each 400 that is
 * about the client's URL stays one.)
 */
static int show_balancer(proxy_worker *worker, proxy_balancer *balancer, request_rec *r, proxy_server_conf *conf)
{
    signed_request *request = usp_s3_sent(r);

    (void)worker;
    (void)conf;
    if (!request || !request->refused)
        return DECLINED;
    decide(r, request, request->s3_status); /* of a body that was not read to its end */
    if (!ap_is_HTTP_SERVER_ERROR(request->status))
        return DECLINED;
    r->status = request->status;
    if (fails_on(balancer, request->status) || !ap_is_HTTP_ERROR(request->s3_status))
        return DECLINED;
    if (fails_on(balancer, request->s3_status))
        r->status = request->s3_status;
    else if (request->s3_status == HTTP_BAD_REQUEST && request->status == HTTP_BAD_GATEWAY)
        r->status = HTTP_FORBIDDEN;
    return DECLINED; /* it is mod_proxy_balancer's; r->status is what the client gets once more after it */
}

/* ---------------------------------------------------------------- hook: the client's status */

/* The same request again without its range, as CGI scripts redirect within a server. */
static int ask_for_all(request_rec *r)
{
    r->headers_in = apr_table_copy(r->pool, r->headers_in);
    apr_table_unset(r->headers_in, "Range");
    apr_table_unset(r->headers_in, "If-Range");
    ap_internal_redirect(r->unparsed_uri, r);
    return OK;
}

/* Whether the header ended for mod_proxy at a line that is longer than it reads. */
static int is_line_too_long(request_rec *r, const signed_request *request)
{
    proxy_server_conf *conf = ap_get_module_config(r->server->module_config, &proxy_module);
    proxy_worker *worker = ap_proxy_get_worker(r->pool, NULL, conf, request->url);
    apr_size_t limit = worker && worker->s->response_field_size ? worker->s->response_field_size : HUGE_STRING_LEN;

    return request->header.status && !request->header.is_over && request->header.last_size >= limit;
}

/* What mod_proxy says of a failed connection, where that is of use to an operator. */
static const char *why_not(request_rec *r, const signed_request *request)
{
    const char *notes = apr_table_get(r->notes, "error-notes");

    if (is_line_too_long(r, request))
        return ", a line of the header is too long for mod_proxy: set responsefieldsize (ProxySet)";
    if (notes && strstr(notes, "SSL Handshake"))
        return ", the TLS handshake failed: the certificate is not trusted, or the server speaks no TLS on this port";
    return "";
}

static int answer_status(int *status, request_rec *r)
{
    signed_request *request = usp_s3_sent(r);
    int overridden;

    if (!request)
        return DECLINED;
    let_go(r);
    overridden = !request->answered && apr_table_get(r->notes, "proxy-error-override");
    if (!request->answered && request->header.error)
        usp_s3_report(r, request, request->header.error);
    else if (!request->answered && !overridden && *status >= HTTP_INTERNAL_SERVER_ERROR)
        usp_s3_report(r, request, apr_psprintf(r->pool, "mod_proxy got no answer: %d%s", *status,
                                               why_not(r, request)));
    if (!request->refused && !overridden) {
        if (request->cut && r->main)
            *status = HTTP_BAD_GATEWAY;
        tell_subrequest(r, *status);
        return DECLINED;
    }
    if (overridden) {
        /* The filter has seen nothing of it. */
        r->status = request->s3_status = *status;
        usp_s3_range_error(r, request);
        apr_table_unset(r->err_headers_out, "WWW-Authenticate"); /* a 401 of S3 is no question to the client */
    }
    decide(r, request, request->s3_status);
    usp_s3_log_answer(r, request);
    /* From here on it is an answer of httpd's own. */
    r->status = request->client_status;
    r->status_line = NULL;
    r->headers_out = apr_table_make(r->pool, 4);
    r->content_type = NULL;
    r->sent_bodyct = 0;
    *status = request->ask_for_all ? ask_for_all(r) : request->status;
    tell_subrequest(r, *status);
    return OK;
}

/* ---------------------------------------------------------------- httpd's face: usp_s3_module */

static int find_modules(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary, server_rec *server)
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
    ap_hook_post_config(find_modules, NULL, NULL, APR_HOOK_MIDDLE);
    proxy_hook_pre_request(pre_request, NULL, before, APR_HOOK_REALLY_FIRST);
    proxy_hook_post_request(show_balancer, NULL, before, APR_HOOK_REALLY_FIRST);
    APR_OPTIONAL_HOOK(proxy, request_status, answer_status, NULL, NULL, APR_HOOK_REALLY_LAST);
    usp_s3_register_headers();
    usp_s3_register_framing();
    usp_s3_register_operator();
    usp_s3_register_guard();
    usp_s3_register_configtest();
    /* Before every filter that others add. */
    answer_filter_handle = ap_register_output_filter("USP_S3_ANSWER", answer_filter, NULL, AP_FTYPE_RESOURCE - 1);
}

module AP_MODULE_DECLARE_DATA usp_s3_module = {STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks, 0};
