/*
 * Signing inside mod_proxy. One shared object with two faces: httpd loads it as usp_s3_module (LoadModule), and the
 * Python of each child imports it as usp_s3_wsgi._httpd, to hand over the functions that know how to sign.
 *
 * Whatever is to be known of S3 is in Python (usp_s3_wsgi/access.py). Here is only what touches httpd:
 *
 *   pre_request     mod_proxy is about to send: settings and URL go to Python, the signed URL comes back
 *   fixups          the headers that go out: those that S3 may see of the client's, and the signature's
 *   answer filter   the headers of S3's answer that the client may see; the body of a refusal is kept away from it
 *   request_status  a refusal becomes the client's status, and a line in the error log
 *
 * Nothing of the request itself is changed: r->filename, r->args and r->headers_in stay the client's, so that access
 * rules, logs, error documents, caches and filters never see a signature. All hooks are mod_proxy's own:
 * https://httpd.apache.org/docs/2.4/developer/modguide.html, mod_proxy.h.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_log.h"
#include "http_protocol.h"
#include "http_request.h"
#include "util_filter.h"
#include "apr_lib.h"
#include "apr_strings.h"
#include "mod_proxy.h"

extern module AP_MODULE_DECLARE_DATA usp_s3_module;
APLOG_USE_MODULE(usp_s3);

/* As much of S3's error document as is read: as in s3_error.py. */
#define REFUSAL_SIZE 65536

/* A request on its way through mod_proxy: set by pre_request, read by the other hooks. */
typedef struct {
    ap_conf_vector_t *config;   /* of the section whose settings count */
    const char *url;            /* as mod_proxy would have sent it: without signature */
    const char *host;           /* the Host header that is signed */
    const char *server_name;    /* the same without port, for TLS */
    int lent;                   /* the next two are not in the request, but what mod_proxy needs in their place */
    const char *client_host;
    const struct ap_logconf *client_log;
    ap_filter_t *filter;        /* answer_filter, while it is in r->output_filters */
    apr_table_t *headers;       /* the signature's */
    apr_array_header_t *passed; /* const char *: prefixes of further answer headers for the client, lowercase */
    int answered;               /* the answer's header has come */
    int refused;                /* it is none for the client, */
    int status;                 /* who gets this one instead */
    int ask_for_all;            /* it is a part of another object than the client has the beginning of */
    char *body;                 /* of a refusal */
    apr_size_t length;
} signed_request;

/* Names of headers by a request's method or an answer's status; ended by NULL. */
typedef struct {
    const char *method;
    int status;
    const char **names;
} header_list;

/* What Python registered at the start of this child. Written once, before any request, and never again. */
static PyObject *sign_function, *refusal_function, *ask_for_all_function;
static header_list *forwarded, *passed_on;

static module *env_module, *proxy_http_module;
static ap_filter_rec_t *answer_filter_handle;

/* Begin to use Python in this thread; PyGILState_Release ends it. */
static PyGILState_STATE enter_python(void)
{
    static __thread int known;
    PyGILState_STATE gil = PyGILState_Ensure();

    if (!known) {
        known = 1;
        /* Not released: else Python would make the thread's state, and map its stack, for each request anew. */
        PyGILState_Ensure();
    }
    return gil;
}

/* ---------------------------------------------------------------- settings: mod_env's, of one section */

/*
 * What SetEnv says in these sections; not r->subprocess_env, which also holds what a page around a subrequest had.
 * The table is the first member of mod_env's configuration, which no header declares.
 */
static const apr_array_header_t *variables(ap_conf_vector_t *config)
{
    apr_table_t **first = env_module ? ap_get_module_config(config, env_module) : NULL;
    return first && *first ? apr_table_elts(*first) : NULL;
}

static int is_setting(const apr_table_entry_t *entry)
{
    return (entry->key[0] == 'S' || entry->key[0] == 's') && entry->key[1] == '3';
}

static int has_settings(ap_conf_vector_t *config)
{
    const apr_array_header_t *all = variables(config);
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        if (is_setting(&APR_ARRAY_IDX(all, i, apr_table_entry_t)))
            return 1;
    }
    return 0;
}

static PyObject *text(const char *bytes)
{
    return PyUnicode_DecodeLatin1(bytes, (Py_ssize_t)strlen(bytes), NULL);
}

/* Name and value pairs, as WSGI has them in its environ. */
static PyObject *settings(ap_conf_vector_t *config)
{
    const apr_array_header_t *all = variables(config);
    PyObject *pairs = PyList_New(0), *tuple = NULL;
    int i;

    for (i = 0; pairs && all && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);
        PyObject *pair;

        if (!is_setting(entry))
            continue;
        pair = Py_BuildValue("(NN)", text(entry->key), text(entry->val));
        if (!pair || PyList_Append(pairs, pair) < 0)
            Py_CLEAR(pairs);
        Py_XDECREF(pair);
    }
    if (pairs)
        tuple = PyList_AsTuple(pairs);
    Py_XDECREF(pairs);
    return tuple;
}

/* The URL that the section itself names, NULL where it is a pattern: <Proxy URL>, else the ProxyPass of a <Location>. */
static const char *section_url(ap_conf_vector_t *config)
{
    proxy_dir_conf *proxy = ap_get_module_config(config, &proxy_module);

    if (proxy->p && *proxy->p && !proxy->r && !proxy->p_is_fnmatch)
        return proxy->p;
    return proxy->p || !proxy->alias || proxy->alias->regex ? NULL : proxy->alias->real;
}

/*
 * The configuration with the <Proxy> sections of a URL. mod_proxy walked through them too early for a balancer's member
 * and for a RewriteRule in a <Location>, and with a bucket's URL without the slash at its end.
 */
static ap_conf_vector_t *walk(request_rec *r, proxy_server_conf *conf, const char *url)
{
    const char *folder = ap_strchr_c(url, '?') || url[strlen(url) - 1] == '/' ? url : apr_pstrcat(r->pool, url, "/", NULL);
    ap_conf_vector_t *merged = r->per_dir_config;
    int i;

    for (i = 0; i < conf->sec_proxy->nelts; i++) {
        ap_conf_vector_t *section = APR_ARRAY_IDX(conf->sec_proxy, i, ap_conf_vector_t *);
        proxy_dir_conf *proxy = ap_get_module_config(section, &proxy_module);
        int other = proxy->r            ? ap_regexec(proxy->r, url, 0, NULL, 0)
                    : proxy->p_is_fnmatch ? apr_fnmatch(proxy->p, url, 0)
                                          : strncmp(folder, proxy->p, strlen(proxy->p));

        if (!other)
            merged = ap_merge_per_dir_configs(r->pool, merged, section);
    }
    return merged;
}

/* ---------------------------------------------------------------- from Python */

/* Copy text out of Python; NULL, with an exception set, where it is none. */
static const char *copied(apr_pool_t *pool, PyObject *object)
{
    const char *bytes = object && PyUnicode_Check(object) ? PyUnicode_AsUTF8(object) : NULL;

    if (!bytes && !PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "text expected");
    return bytes ? apr_pstrdup(pool, bytes) : NULL;
}

static int copy_headers(apr_table_t *to, PyObject *pairs)
{
    Py_ssize_t i;

    for (i = 0; i < PyTuple_Size(pairs); i++) {
        PyObject *name, *value;

        if (!PyArg_ParseTuple(PyTuple_GetItem(pairs, i), "UU", &name, &value))
            return 0;
        apr_table_add(to, PyUnicode_AsUTF8(name), PyUnicode_AsUTF8(value));
    }
    return !PyErr_Occurred();
}

/* Take (status, message or None, headers) of Python: log, and return the status. */
static int take_refusal(request_rec *r, PyObject *result)
{
    PyObject *message, *headers;
    int status;

    if (!PyArg_ParseTuple(result, "iOO!", &status, &message, &PyTuple_Type, &headers)
        || !copy_headers(r->err_headers_out, headers))
        return 0;
    if (message != Py_None)
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "usp_s3_wsgi: %s", PyUnicode_AsUTF8(message));
    if (status == HTTP_METHOD_NOT_ALLOWED)
        ap_allow_standard_methods(r, REPLACE_ALLOW, M_GET, -1);
    return status;
}

/* Take (URL, host, server name, headers, prefixes) of Python. */
static int take_signature(request_rec *r, signed_request *request, PyObject *result, char **url)
{
    PyObject *signed_url, *host, *server_name, *headers, *prefixes;
    Py_ssize_t i;

    if (!PyArg_ParseTuple(result, "UUUO!O!", &signed_url, &host, &server_name, &PyTuple_Type, &headers, &PyTuple_Type,
                          &prefixes)
        || !(*url = (char *)copied(r->pool, signed_url)) || !(request->host = copied(r->pool, host))
        || !(request->server_name = copied(r->pool, server_name)))
        return 0;
    request->headers = apr_table_make(r->pool, 6);
    request->passed = apr_array_make(r->pool, 1, sizeof(const char *));
    for (i = 0; i < PyTuple_Size(prefixes); i++)
        APR_ARRAY_PUSH(request->passed, const char *) = copied(r->pool, PyTuple_GetItem(prefixes, i));
    return copy_headers(request->headers, headers);
}

/* An exception that Python did not handle: its type alone is logged, for its words may hold a key. */
static int internal_error(request_rec *r)
{
    PyObject *type = PyErr_Occurred();

    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "usp_s3_wsgi: internal error: %s",
                  type ? ((PyTypeObject *)type)->tp_name : "not what was expected of Python");
    PyErr_Clear();
    return HTTP_INTERNAL_SERVER_ERROR;
}

/* ---------------------------------------------------------------- hook: sign what mod_proxy is about to send */

/* mod_proxy writes the URLs that it asks at level debug; there they would have a signature in the query. */
static void quieten(request_rec *r, module *talkative)
{
    struct ap_logconf *log;

    if (!talkative || ap_get_request_module_loglevel(r, talkative->module_index) <= APLOG_INFO)
        return;
    log = ap_new_log_config(r->pool, r->log ? r->log : r->connection->log ? r->connection->log : &r->server->log);
    ap_set_module_loglevel(r->pool, log, talkative->module_index, APLOG_INFO);
    r->log = log;
}

/* Put into the request what mod_proxy takes from there: the name for TLS, with ProxyPreserveHost, and levels of logs. */
static void lend(request_rec *r, signed_request *request)
{
    request->client_host = r->hostname;
    request->client_log = r->log;
    request->lent = 1;
    r->hostname = request->server_name;
    quieten(r, &proxy_module);
    quieten(r, proxy_http_module);
}

static void give_back(request_rec *r, signed_request *request)
{
    if (!request->lent)
        return;
    request->lent = 0;
    r->hostname = request->client_host;
    r->log = request->client_log;
}

/* With NoDecode: whether access rules of httpd have seen a path that is not the key's. */
static int has_undecoded_slash(request_rec *r)
{
    core_dir_config *core = ap_get_core_module_config(r->per_dir_config);

    return core->allow_encoded_slashes && !core->decode_encoded_slashes && ap_strcasestr(r->uri, "%2f");
}

static int sign(request_rec *r, signed_request *request, char **url)
{
    PyGILState_STATE gil;
    PyObject *result;
    int status = OK;

    if (!sign_function || !Py_IsInitialized()) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "usp_s3_wsgi: this process has no signer: proxy.conf is not included, "
                      "or its WSGIImportScript failed at the start of this process (see above)");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    gil = enter_python();
    result = PyObject_CallFunction(sign_function, "zNsNzi", section_url(request->config), settings(request->config),
                                   r->method, text(*url), r->main ? NULL : r->unparsed_uri, has_undecoded_slash(r));
    if (result && PyTuple_Check(result) && PyTuple_Size(result) && PyLong_Check(PyTuple_GetItem(result, 0))) {
        if (!(status = take_refusal(r, result)))
            status = internal_error(r);
    }
    else if (!result || !take_signature(r, request, result, url))
        status = internal_error(r);
    Py_XDECREF(result);
    PyGILState_Release(gil);
    return status;
}

/* Undo what sign_request did to the request. */
static void let_go(request_rec *r)
{
    signed_request *request = ap_get_module_config(r->request_config, &usp_s3_module);

    if (!request)
        return;
    give_back(r, request);
    if (request->filter)
        ap_remove_output_filter(request->filter);
    ap_set_module_config(r->request_config, &usp_s3_module, NULL);
}

static int choose_member(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf,
                         char **url);

/* Whether the client sent a body, with the request that this one is a part of. */
static int has_body(request_rec *r)
{
    while (r->main)
        r = r->main;
    return ap_request_has_body(r);
}

/* Called once for each try: a balancer's next member is asked with its own signature. */
static int sign_request(proxy_worker **worker, proxy_balancer **balancer, request_rec *r, proxy_server_conf *conf,
                        char **url)
{
    ap_conf_vector_t *config = r->per_dir_config;
    signed_request *request;
    int chosen = DECLINED, status;

    let_go(r);
    if (ap_cstr_casecmpn(*url, BALANCER_PREFIX, sizeof(BALANCER_PREFIX) - 1) == 0) {
        if ((chosen = choose_member(worker, balancer, r, conf, url)) != OK)
            return chosen;
    }
    if (chosen == OK || !has_settings(config))
        config = walk(r, conf, *url);
    if (!has_settings(config))
        return chosen;
    request = apr_pcalloc(r->pool, sizeof(*request));
    request->config = config;
    request->url = *url;
    if ((status = sign(r, request, url)) != OK || (status = ap_discard_request_body(r)) != OK)
        return status;
    if (!r->main) {
        /* The body is read, and what announced it must not make mod_proxy wait for it. */
        apr_table_unset(r->headers_in, "Content-Length");
        apr_table_unset(r->headers_in, "Transfer-Encoding");
    }
    else if (!r->kept_body && !has_body(r)) {
        /* mod_proxy ends the connection to S3 after each subrequest, unless there is a body that is kept already. */
        r->kept_body = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    }
    lend(r, request);
    ap_set_module_config(r->request_config, &usp_s3_module, request);
    request->filter = ap_add_output_filter_handle(answer_filter_handle, request, r, r->connection);
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

        if (hook->pFunc != sign_request)
            status = hook->pFunc(worker, balancer, r, conf, url);
    }
    return status;
}

/* ---------------------------------------------------------------- hook: the headers that go out */

static const char **names_for(header_list *lists, const char *method, int status)
{
    for (; lists && lists->names; lists++) {
        if (method ? strcmp(lists->method, method) == 0 : lists->status == status)
            return lists->names;
    }
    return NULL;
}

/* Whether a subrequest has a header only because its page has it: a Range of the page is none of its parts. */
static int is_inherited(request_rec *r, const char *name, const char *value)
{
    request_rec *page;

    for (page = r->main; page; page = page->main) {
        if (apr_table_get(page->headers_in, name) == value)
            return 1; /* the very same string; who asks for a range of a part sets one of its own */
    }
    return 0;
}

/* mod_proxy has made r->headers_in a copy for S3, and takes the client's back after this hook. */
static int set_headers(request_rec *r)
{
    signed_request *request = ap_get_module_config(r->request_config, &usp_s3_module);
    const char *credentials = apr_table_get(r->notes, "proxy-basic-creds");
    const char **name;
    apr_table_t *kept;

    if (!request)
        return DECLINED;
    kept = apr_table_make(r->pool, 12);
    for (name = names_for(forwarded, r->method, 0); name && *name; name++) {
        const char *value = apr_table_get(r->headers_in, *name);

        if (value && !is_inherited(r, *name, value))
            apr_table_setn(kept, *name, value);
    }
    if (credentials)
        apr_table_setn(kept, "Proxy-Authorization", credentials);
    apr_table_clear(r->headers_in);
    apr_table_setn(r->headers_in, "Host", request->host);
    apr_table_overlap(r->headers_in, kept, APR_OVERLAP_TABLES_SET);
    apr_table_overlap(r->headers_in, request->headers, APR_OVERLAP_TABLES_SET);
    return OK;
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

static apr_table_t *passed_headers(request_rec *r, signed_request *request, const char **names)
{
    const apr_array_header_t *all = apr_table_elts(r->headers_out);
    apr_table_t *passed = apr_table_make(r->pool, 12);
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (is_passed(entry->key, names, request))
            apr_table_addn(passed, entry->key, entry->val);
    }
    return passed;
}

/* The value of a header, or None. */
static PyObject *header(apr_table_t *headers, const char *name)
{
    const char *value = apr_table_get(headers, name);

    return value ? text(value) : Py_NewRef(Py_None);
}

/* What Python may want to know of S3's answer: the headers that are there, in a dict. */
static PyObject *answer_headers(request_rec *r)
{
    static const char *const names[] = {"ETag", "Last-Modified", "Content-Range", "Retry-After", "x-amz-request-id",
                                        "x-amz-bucket-region", NULL};
    PyObject *headers = PyDict_New();
    const char *const *name;

    for (name = names; headers && *name; name++) {
        const char *value = apr_table_get(r->headers_out, *name);
        PyObject *object = value ? text(value) : NULL;

        if (object)
            PyDict_SetItemString(headers, *name, object);
        Py_XDECREF(object);
    }
    return headers;
}

/* An answer to a range, of a server that may not know If-Range or how to answer a range of nothing. */
static int must_ask_for_all(request_rec *r)
{
    const char *length = apr_table_get(r->headers_out, "Content-Length");
    PyGILState_STATE gil;
    PyObject *result;
    int yes;

    if (r->main || (r->status != HTTP_PARTIAL_CONTENT && r->status != HTTP_RANGE_NOT_SATISFIABLE)
        || (!apr_table_get(r->headers_in, "If-Range") && length && strcmp(length, "0") != 0))
        return 0;
    gil = enter_python();
    result = PyObject_CallFunction(ask_for_all_function, "iNNN", r->status, answer_headers(r),
                                   header(r->headers_in, "Range"), header(r->headers_in, "If-Range"));
    yes = result ? PyObject_IsTrue(result) : -1;
    if (yes < 0)
        internal_error(r);
    Py_XDECREF(result);
    PyGILState_Release(gil);
    return yes != 0;
}

/* What S3's refusal means, and what the operator must know of it. */
static int explain(request_rec *r, signed_request *request, int refused)
{
    PyGILState_STATE gil = enter_python();
    PyObject *result;
    int status;

    result = PyObject_CallFunction(refusal_function, "zNsNiy#N", section_url(request->config),
                                   settings(request->config), r->method, text(request->url), refused,
                                   request->body ? request->body : "", (Py_ssize_t)request->length, answer_headers(r));
    status = result ? take_refusal(r, result) : 0;
    if (!status)
        status = internal_error(r);
    Py_XDECREF(result);
    PyGILState_Release(gil);
    return status;
}

/*
 * Decide what becomes of a refusal. r->status is set at once: that is what "failonstatus" of a balancer sees, so that a
 * bucket which refuses this server's key is left alone, and one which denies a client's object is not.
 */
static void decide(request_rec *r, signed_request *request, int refused)
{
    const char **names = names_for(passed_on, NULL, refused);

    if (request->status || request->ask_for_all)
        return;
    if (names) {
        /* 412, 416: the answer to what the client asked for. */
        apr_table_overlap(r->err_headers_out, passed_headers(r, request, names), APR_OVERLAP_TABLES_SET);
        request->status = refused;
    }
    else
        request->status = explain(r, request, refused);
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
    return request->ask_for_all || request->length == REFUSAL_SIZE ? APR_EGENERAL : APR_SUCCESS;
}

static apr_status_t answer_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    signed_request *request = filter->ctx;
    request_rec *r = filter->r;
    const char **names;

    if (!request->answered) {
        request->answered = 1;
        give_back(r, request);
        names = names_for(passed_on, NULL, r->status);
        request->ask_for_all = must_ask_for_all(r);
        if (!names || ap_is_HTTP_ERROR(r->status) || request->ask_for_all)
            request->refused = 1;
        else {
            r->headers_out = passed_headers(r, request, names);
            if (r->status != HTTP_NOT_MODIFIED && !r->content_type)
                ap_set_content_type(r, "binary/octet-stream"); /* S3's own default */
        }
    }
    if (request->refused)
        return keep_refusal(r, request, brigade);
    ap_remove_output_filter(filter);
    request->filter = NULL;
    return ap_pass_brigade(filter->next, brigade);
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

static int answer_status(int *status, request_rec *r)
{
    signed_request *request = ap_get_module_config(r->request_config, &usp_s3_module);
    int overridden;

    if (!request)
        return DECLINED;
    let_go(r);
    overridden = !request->answered && apr_table_get(r->notes, "proxy-error-override");
    if (!request->refused && !overridden)
        return DECLINED;
    decide(r, request, overridden ? *status : r->status);
    /* From here on it is an answer of httpd's own. */
    r->status = HTTP_OK;
    r->status_line = NULL;
    r->headers_out = apr_table_make(r->pool, 4);
    r->content_type = NULL;
    r->sent_bodyct = 0;
    *status = request->ask_for_all ? ask_for_all(r) : request->status;
    return OK;
}

/* ---------------------------------------------------------------- Python's face: usp_s3_wsgi._httpd */

/* Take a dict of names by method or status; kept for ever, for it lives as long as the child. */
static header_list *header_lists(PyObject *dict)
{
    header_list *lists = calloc((size_t)PyDict_Size(dict) + 1, sizeof(*lists)), *list = lists;
    PyObject *key, *names;
    Py_ssize_t position = 0, i;

    while (list && PyDict_Next(dict, &position, &key, &names)) {
        if (!PyTuple_Check(names)) {
            PyErr_SetString(PyExc_TypeError, "tuples of header names expected");
            return NULL;
        }
        if (PyLong_Check(key))
            list->status = (int)PyLong_AsLong(key);
        else
            list->method = strdup(PyUnicode_AsUTF8(key));
        list->names = calloc((size_t)PyTuple_Size(names) + 1, sizeof(char *));
        for (i = 0; i < PyTuple_Size(names); i++)
            list->names[i] = strdup(PyUnicode_AsUTF8(PyTuple_GetItem(names, i)));
        list++;
    }
    return lists;
}

static PyObject *py_register(PyObject *self, PyObject *arguments)
{
    PyObject *sign_with, *refuse_with, *ask_with, *to_s3, *to_client;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "OOOO!O!", &sign_with, &refuse_with, &ask_with, &PyDict_Type, &to_s3, &PyDict_Type,
                          &to_client))
        return NULL;
    if (!answer_filter_handle) {
        PyErr_SetString(PyExc_RuntimeError, "httpd has not loaded usp_s3_module: \"usp-s3 apache-config\" prints the line");
        return NULL;
    }
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_RuntimeError, "the signer needs application-group=%{GLOBAL}");
        return NULL;
    }
    if (sign_function)
        Py_RETURN_NONE;
    if (!(forwarded = header_lists(to_s3)) || !(passed_on = header_lists(to_client)))
        return NULL;
    ask_for_all_function = Py_NewRef(ask_with);
    refusal_function = Py_NewRef(refuse_with);
    sign_function = Py_NewRef(sign_with);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"register", py_register, METH_VARARGS, "Hand over what signs and what explains refusals, once per process."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_httpd", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__httpd(void)
{
    return PyModule_Create(&definition);
}

/* ---------------------------------------------------------------- httpd's face: usp_s3_module */

static int find_modules(apr_pool_t *config, apr_pool_t *log, apr_pool_t *temporary, server_rec *server)
{
    (void)config;
    (void)log;
    (void)temporary;
    (void)server;
    env_module = ap_find_linked_module("mod_env.c");
    proxy_http_module = ap_find_linked_module("mod_proxy_http.c");
    return OK;
}

static void register_hooks(apr_pool_t *pool)
{
    static const char *const before[] = {"mod_proxy_balancer.c", NULL};

    (void)pool;
    ap_hook_post_config(find_modules, NULL, NULL, APR_HOOK_MIDDLE);
    proxy_hook_pre_request(sign_request, NULL, before, APR_HOOK_REALLY_FIRST);
    APR_OPTIONAL_HOOK(proxy, fixups, set_headers, NULL, NULL, APR_HOOK_REALLY_LAST);
    APR_OPTIONAL_HOOK(proxy, request_status, answer_status, NULL, NULL, APR_HOOK_REALLY_LAST);
    /* Before every filter that others add. */
    answer_filter_handle = ap_register_output_filter("USP_S3_ANSWER", answer_filter, NULL, AP_FTYPE_RESOURCE - 1);
}

module AP_MODULE_DECLARE_DATA usp_s3_module = {STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks, 0};
