/*
 * Calls to Python, and the extension module usp_s3_wsgi._httpd.
 *
 * Each child of httpd imports usp_s3_wsgi when it starts, and registers its callbacks here. They raise nothing, but their
 * results are checked all the same. Strings go to Python as Latin-1, as in WSGI's environ.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "log_codes.h"
#include "mod_usp_s3.h"
#include "python_metrics.h"

#define NOT_VALIDATED "S3's response could not be validated"
#define NO_SIGNER \
    "this process has no signer: proxy.conf is not included, or its WSGIImportScript failed at the start of this process " \
    "(see above)"

/* The header names for a request method or a response status, terminated by NULL. */
typedef struct {
    const char *method;
    int status;
    const char **names;
} header_list;

/* Registered at the start of this child, before any request, and never changed. */
static PyObject *sign_request_callback, *explain_error_callback, *describe_failure_callback, *describe_response_callback,
    *validate_response_callback;
static header_list *request_headers, *response_headers;
static usp_s3_shared_tables shared_tables;

/*
 * Attach this thread to the main interpreter. PyGILState_Ensure would use the interpreter that mod_wsgi used first in this
 * thread, which may be that of another application group. The thread state is kept for the next request of the thread.
 */
static void enter_python(void)
{
    static __thread PyThreadState *own;

    if (!own)
        own = PyThreadState_New(PyInterpreterState_Main());
    PyEval_RestoreThread(own);
}

static void leave_python(void)
{
    PyEval_SaveThread();
}

/* ---------------------------------------------------------------- from C to Python */

static PyObject *to_str(const char *bytes)
{
    return PyUnicode_DecodeLatin1(bytes, (Py_ssize_t)strlen(bytes), NULL);
}

static PyObject *to_str_or_none(const char *bytes)
{
    return bytes ? to_str(bytes) : Py_NewRef(Py_None);
}

/* A tuple of name and value pairs. */
static PyObject *to_pairs(const apr_array_header_t *all)
{
    PyObject *pairs = PyList_New(0), *tuple = NULL;
    int i;

    for (i = 0; pairs && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);
        PyObject *pair = Py_BuildValue("(NN)", to_str(entry->key), to_str(entry->val));
        if (!pair || PyList_Append(pairs, pair) < 0)
            Py_CLEAR(pairs);
        Py_XDECREF(pair);
    }
    if (pairs)
        tuple = PyList_AsTuple(pairs);
    Py_XDECREF(pairs);
    return tuple;
}

static int add_to_dict(void *dict, const char *name, const char *value)
{
    PyObject *key = to_str(name), *lowercase = key ? PyObject_CallMethod(key, "lower", NULL) : NULL;
    PyObject *known = lowercase ? PyDict_GetItemWithError(dict, lowercase) : NULL, *object = to_str(value);

    if (known && object)
        Py_SETREF(object, PyUnicode_FromFormat("%U, %U", known, object));
    if (lowercase && object)
        PyDict_SetItem(dict, lowercase, object);
    Py_XDECREF(key);
    Py_XDECREF(lowercase);
    Py_XDECREF(object);
    return !PyErr_Occurred();
}

/* The headers of S3's response in a dict, whose keys are in lowercase. */
static PyObject *to_header_dict(request_rec *r)
{
    PyObject *headers = PyDict_New();

    if (headers)
        apr_table_do(add_to_dict, headers, r->headers_out, NULL);
    if (headers && r->content_type)
        add_to_dict(headers, "Content-Type", r->content_type);
    if (PyErr_Occurred())
        Py_CLEAR(headers);
    return headers;
}

/* ---------------------------------------------------------------- from Python to C */

/* Copy a str. Returns NULL, with an exception set, if the object is not a str. */
static const char *copy_str(apr_pool_t *pool, PyObject *object)
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
        const char *name_bytes, *value_bytes;

        if (!PyArg_ParseTuple(PyTuple_GetItem(pairs, i), "UU", &name, &value) || !(name_bytes = PyUnicode_AsUTF8(name))
            || !(value_bytes = PyUnicode_AsUTF8(value)))
            return 0;
        apr_table_add(to, name_bytes, value_bytes);
    }
    return !PyErr_Occurred();
}

/* Log an exception, or an invalid result. Only the type is logged: the message of an exception may contain a secret. */
static int log_internal_error(request_rec *r, signed_request *request)
{
    PyObject *type = PyErr_Occurred();

    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, USP_S3_LOGNO(USP_S3_CODE_CALLBACK_FAILED) "internal error: %s",
                  type ? ((PyTypeObject *)type)->tp_name : "unexpected result of a Python callback");
    request->error_code = USP_S3_CODE_CALLBACK_FAILED;
    PyErr_Clear();
    return HTTP_INTERNAL_SERVER_ERROR;
}

/*
 * Parse a ClientResponse: (status, log_line or None, headers, state_version, error_code, bucket, s3_code, request_id). Logs the
 * line. Returns the status, 0 if the result is invalid.
 */
static int parse_client_response(request_rec *r, signed_request *request, PyObject *result)
{
    PyObject *message, *headers, *error_code, *bucket, *s3_code, *request_id;
    const char *line = NULL;
    long long version;
    int status;

    if (!PyArg_ParseTuple(result, "iOO!LUUUU", &status, &message, &PyTuple_Type, &headers, &version, &error_code, &bucket,
                          &s3_code, &request_id)
        || !copy_headers(r->err_headers_out, headers) || !(request->error_code = copy_str(r->pool, error_code))
        || !(request->bucket = copy_str(r->pool, bucket)) || !(request->s3_code = copy_str(r->pool, s3_code))
        || !(request->request_id = copy_str(r->pool, request_id)))
        return 0;
    if (message != Py_None && !(line = copy_str(r->pool, message)))
        return 0;
    usp_s3_set_state_version(version);
    request->is_logged = line != NULL;
    if (line) {
        Py_BEGIN_ALLOW_THREADS; /* a piped log may block */
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "%s", line);
        Py_END_ALLOW_THREADS;
    }
    if (status == HTTP_METHOD_NOT_ALLOWED)
        ap_allow_standard_methods(r, REPLACE_ALLOW, M_GET, -1);
    return status;
}

/*
 * Parse a NativeSigningTemplate and store it: (second, requires_empty_query, origin, path prefix, canonical request, string to
 * sign, signing key, authorization or None, query or None). Returns whether it is valid.
 */
static int parse_signing_template(request_rec *r, const signed_request *request, PyObject *tuple, const char *url)
{
    PyObject *origin, *path_prefix, *canonical_request, *string_to_sign, *authorization, *query;
    usp_s3_signing_template template = {.host = request->host,
                                        .server_name = request->server_name,
                                        .bucket = request->bucket,
                                        .pass_headers = request->pass_headers,
                                        .pass_accept_encoding = request->pass_accept_encoding,
                                        .signed_at = request->signed_at,
                                        .state_version = request->state_version};
    long long second;
    const char *key;
    Py_ssize_t size;

    if (!PyArg_ParseTuple(tuple, "LpUUUUy#OO", &second, &template.requires_empty_query, &origin, &path_prefix,
                          &canonical_request, &string_to_sign, &key, &size, &authorization, &query)
        || size != sizeof(template.parts.signing_key) || !(template.origin = copy_str(r->pool, origin))
        || !(template.path_prefix = copy_str(r->pool, path_prefix))
        || !(template.parts.canonical_request = copy_str(r->pool, canonical_request))
        || !(template.parts.string_to_sign = copy_str(r->pool, string_to_sign))
        || (authorization != Py_None && !(template.authorization = copy_str(r->pool, authorization)))
        || (query != Py_None && !(template.query = copy_str(r->pool, query))))
        return 0;
    template.second = second;
    memcpy(template.parts.signing_key, key, sizeof(template.parts.signing_key));
    template.signature_headers = apr_table_clone(r->pool, request->signature_headers);
    apr_table_unset(template.signature_headers, "Authorization");
    usp_s3_remember_template(r, request, url, &template);
    return 1;
}

/*
 * Parse a SignedRequest: (url, host, server_name, bucket, headers, pass_headers, pass_accept_encoding, is_for_part_number,
 * signed_at, state_version, template or None). Returns whether it is valid.
 */
static int parse_signed_request(request_rec *r, signed_request *request, PyObject *result, char **url)
{
    PyObject *signed_url, *host, *server_name, *bucket, *headers, *prefixes, *template;
    const char *new_url;
    long long signed_at, version;
    Py_ssize_t i;

    if (!PyArg_ParseTuple(result, "UUUUO!O!ppLLO", &signed_url, &host, &server_name, &bucket, &PyTuple_Type, &headers,
                          &PyTuple_Type, &prefixes, &request->pass_accept_encoding, &request->is_for_part_number, &signed_at,
                          &version, &template)
        || !(new_url = copy_str(r->pool, signed_url)) || !(request->host = copy_str(r->pool, host))
        || !(request->server_name = copy_str(r->pool, server_name)) || !(request->bucket = copy_str(r->pool, bucket)))
        return 0;
    request->signed_at = signed_at;
    request->state_version = version;
    usp_s3_set_state_version(version);
    request->signature_headers = apr_table_make(r->pool, 6);
    request->pass_headers = apr_array_make(r->pool, 1, sizeof(const char *));
    for (i = 0; i < PyTuple_Size(prefixes); i++)
        APR_ARRAY_PUSH(request->pass_headers, const char *) = copy_str(r->pool, PyTuple_GetItem(prefixes, i));
    if (!copy_headers(request->signature_headers, headers)
        || (template != Py_None && !parse_signing_template(r, request, template, *url)))
        return 0;
    *url = (char *)new_url;
    return 1;
}

/* Parse a Validation: (status, must_refetch_whole, error or None, length or -1, headers). Returns an error message or NULL. */
static const char *parse_validation(request_rec *r, signed_request *request, PyObject *result)
{
    PyObject *message, *headers;
    const char *error = NULL;
    long long length;
    int status;

    if (!PyArg_ParseTuple(result, "ipOLO!", &status, &request->must_refetch_whole, &message, &length, &PyTuple_Type, &headers)
        || !copy_headers(r->err_headers_out, headers) || (message != Py_None && !(error = copy_str(r->pool, message)))) {
        log_internal_error(r, request);
        return NOT_VALIDATED;
    }
    if (r->main && request->must_refetch_whole) {
        const char *content_length = apr_table_get(r->headers_out, "Content-Length");

        /* A subrequest cannot be sent again. An empty response for an empty object is right all the same. */
        request->must_refetch_whole = 0;
        if (status == HTTP_PARTIAL_CONTENT && (!content_length || strcmp(content_length, "0") != 0))
            error = "Content-Range is not the requested range";
    }
    request->is_length_enforced = length >= 0 && !request->response_header.has_content_length && !r->header_only;
    request->bytes_left = length;
    if (ap_is_HTTP_ERROR(status) && status != r->status) {
        request->is_body_withheld = request->is_rejected = 1;
        request->client_status = status;
    }
    r->status = status;
    return error;
}

/* ---------------------------------------------------------------- the callbacks */

int usp_s3_has_encoded_slash(request_rec *r)
{
    core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    int is_undecoded = core->allow_encoded_slashes && !core->decode_encoded_slashes;

    /* ProxyPass with mapping=encoded does not decode the path at all. */
    return (is_undecoded || apr_table_get(r->notes, "proxy-noencode")) && ap_strcasestr(r->uri, "%2f");
}

/*
 * With MergeSlashes (httpd's default): the path of the ProxyPass that made the URL, after which the slashes of the client's
 * path belong to the key; "" if another rule made it. NULL if slashes are not merged.
 */
static const char *proxy_pass_path_if_merged(request_rec *r)
{
    core_server_config *core = ap_get_core_module_config(r->server->module_config);
    const char *path;

    if (r->main || r->proxyreq == PROXYREQ_PROXY || core->merge_slashes == AP_CORE_CONFIG_OFF)
        return NULL;
    path = usp_s3_proxy_pass_path(r);
    return path ? path : "";
}

int usp_s3_sign_request(request_rec *r, signed_request *request, char **url)
{
    PyObject *result;
    int status = OK;

    if (!sign_request_callback || !Py_IsInitialized()) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, USP_S3_LOGNO(USP_S3_CODE_NO_SIGNER) NO_SIGNER);
        request->error_code = USP_S3_CODE_NO_SIGNER;
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    if (!request->settings.rejection && usp_s3_sign_with_template(r, request, url))
        return OK;
    enter_python();
    result = PyObject_CallFunction(sign_request_callback, "((NNNNNiNN))", to_str_or_none(request->settings.section_url),
                                   to_pairs(request->settings.variables), to_str(r->method), to_str(*url),
                                   to_str_or_none(r->main ? NULL : r->unparsed_uri), usp_s3_has_encoded_slash(r),
                                   to_str_or_none(proxy_pass_path_if_merged(r)), to_str_or_none(request->settings.rejection));
    /* A ClientResponse begins with a status, a SignedRequest with a URL. */
    if (result && PyTuple_Check(result) && PyTuple_Size(result) && PyLong_Check(PyTuple_GetItem(result, 0))) {
        if (!(status = parse_client_response(r, request, result)))
            status = log_internal_error(r, request);
    }
    else if (!result || !parse_signed_request(r, request, result, url))
        status = log_internal_error(r, request);
    Py_XDECREF(result);
    leave_python();
    return status;
}

const char *usp_s3_validate_response(request_rec *r, signed_request *request)
{
    const char *error = NOT_VALIDATED;
    PyObject *result;

    if (!Py_IsInitialized())
        return error;
    enter_python();
    result = PyObject_CallFunction(validate_response_callback, "iNNNi", r->status, to_header_dict(r),
                                   to_str_or_none(request->range), to_str_or_none(request->if_range),
                                   request->is_for_part_number);
    if (result)
        error = parse_validation(r, request, result);
    else
        log_internal_error(r, request);
    Py_XDECREF(result);
    leave_python();
    return error;
}

static double seconds_since(request_rec *r)
{
    return (double)(apr_time_now() - r->request_time) / APR_USEC_PER_SEC;
}

int usp_s3_explain_error(request_rec *r, signed_request *request, int s3_status)
{
    const char *authorization = request->signature_headers ? apr_table_get(request->signature_headers, "Authorization") : NULL;
    PyObject *result;
    int status;

    if (!Py_IsInitialized())
        return HTTP_BAD_GATEWAY;
    enter_python();
    result = PyObject_CallFunction(
        explain_error_callback, "(NNNN)(iy#N)(id)(LLL)(NNN)", to_str_or_none(request->settings.section_url),
        to_pairs(request->settings.variables), to_str(r->method), to_str(request->url), s3_status,
        request->error_body ? request->error_body : "", (Py_ssize_t)request->error_body_length, to_header_dict(r),
        request->attempt, seconds_since(r), (long long)request->signed_at, (long long)request->state_version,
        (long long)usp_s3_get_accepted_version(request), to_str_or_none(request->signed_url), to_str_or_none(authorization),
        to_str_or_none(apr_table_get(r->headers_in, "Range")));
    status = result ? parse_client_response(r, request, result) : 0;
    if (!status)
        status = log_internal_error(r, request);
    Py_XDECREF(result);
    leave_python();
    return status;
}

void usp_s3_log_response(request_rec *r, signed_request *request)
{
    const char *line = NULL;
    PyObject *result;

    if (request->is_logged || !request->s3_status || request->s3_status == HTTP_OK || request->s3_status == HTTP_PARTIAL_CONTENT
        || !APLOGrdebug(r) || !Py_IsInitialized())
        return;
    request->is_logged = 1;
    enter_python();
    result = PyObject_CallFunction(describe_response_callback, "(NN)(iy#N)(id)", to_str(r->method), to_str(request->url),
                                   request->s3_status, request->error_body ? request->error_body : "",
                                   (Py_ssize_t)request->error_body_length, to_header_dict(r), request->attempt,
                                   seconds_since(r));
    if (!(line = copy_str(r->pool, result)))
        log_internal_error(r, request);
    Py_XDECREF(result);
    leave_python();
    if (line)
        ap_log_rerror(APLOG_MARK, APLOG_DEBUG, 0, r, "%s", line);
}

void usp_s3_log_failure(request_rec *r, signed_request *request, const char *kind, const char *message)
{
    const char *line = NULL;
    PyObject *result, *code, *text;

    if (!Py_IsInitialized())
        return;
    enter_python();
    result = PyObject_CallFunction(describe_failure_callback, "(NN)NN(id)(NNNi)", to_str(r->method), to_str(request->url),
                                   to_str(kind), to_str(message), request->attempt, seconds_since(r),
                                   to_str(request->bucket ? request->bucket : ""),
                                   to_str_or_none(apr_table_get(r->headers_in, "Range")),
                                   to_str(request->proxy_error ? request->proxy_error : ""), request->proxy_status);
    /* (code, line or None) */
    if (!result || !PyArg_ParseTuple(result, "UO", &code, &text) || !(request->error_code = copy_str(r->pool, code))
        || (text != Py_None && !(line = copy_str(r->pool, text))))
        log_internal_error(r, request);
    Py_XDECREF(result);
    leave_python();
    if (line)
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "%s", line);
}

/* ---------------------------------------------------------------- shared tables */

static const char **find_names(header_list *lists, const char *method, int status)
{
    for (; lists && lists->names; lists++) {
        if (method ? strcmp(lists->method, method) == 0 : lists->status == status)
            return lists->names;
    }
    return NULL;
}

const char **usp_s3_forwarded_request_headers(const char *method)
{
    return find_names(request_headers, method, 0);
}

const char **usp_s3_forwarded_response_headers(int status)
{
    return find_names(response_headers, NULL, status);
}

const usp_s3_shared_tables *usp_s3_get_shared_tables(void)
{
    return &shared_tables;
}

/* Copy a tuple of str, terminated by NULL. Returns NULL, with an exception set, for another object. */
static const char **copy_names(apr_pool_t *pool, PyObject *names)
{
    const char **copied;
    Py_ssize_t i;

    if (!PyTuple_Check(names)) {
        PyErr_SetString(PyExc_TypeError, "a tuple of names expected");
        return NULL;
    }
    copied = apr_pcalloc(pool, ((apr_size_t)PyTuple_Size(names) + 1) * sizeof(*copied));
    for (i = 0; i < PyTuple_Size(names); i++) {
        if (!(copied[i] = copy_str(pool, PyTuple_GetItem(names, i))))
            return NULL;
    }
    return copied;
}

/* Copy a dict of header names by method (str) or by status (int). Returns NULL, with an exception set, for another dict. */
static header_list *copy_header_lists(apr_pool_t *pool, PyObject *dict, int is_by_method)
{
    header_list *lists = apr_pcalloc(pool, ((apr_size_t)PyDict_Size(dict) + 1) * sizeof(*lists)), *list = lists;
    PyObject *key, *names;
    Py_ssize_t position = 0;

    for (; PyDict_Next(dict, &position, &key, &names); list++) {
        if (is_by_method)
            list->method = copy_str(pool, key);
        else
            list->status = (int)PyLong_AsLong(key);
        if (PyErr_Occurred() || !(list->names = copy_names(pool, names)))
            return NULL;
    }
    return lists;
}

static int parse_unreserved(usp_s3_shared_tables *tables, PyObject *characters)
{
    const char *c = PyUnicode_AsUTF8(characters);

    for (; c && *c; c++) {
        if (*c <= ' ' || *c > '~' || strchr("/%?#", *c)) {
            PyErr_SetString(PyExc_ValueError, "unreserved characters of a path expected");
            return 0;
        }
        tables->is_unreserved[(unsigned char)*c] = 1;
    }
    return c != NULL;
}

/*
 * Parse the SharedTables: (request_headers, response_headers, dated_conditions, etag_conditions, gzip_codings, upload_coding,
 * default_content_type, request_id_headers, unreserved, max_header_size, max_error_document_size). Returns whether they are
 * valid, else an exception is set.
 */
static int parse_shared_tables(apr_pool_t *pool, PyObject *tuple, header_list **by_method, header_list **by_status,
                               usp_s3_shared_tables *tables)
{
    PyObject *requests, *responses, *dated_conditions, *etag_conditions, *gzip_codings, *upload_coding, *content_type;
    PyObject *id_headers, *unreserved;
    Py_ssize_t header_size, error_size;

    if (!PyArg_ParseTuple(tuple, "O!O!O!O!O!UUO!Unn", &PyDict_Type, &requests, &PyDict_Type, &responses, &PyTuple_Type,
                          &dated_conditions, &PyTuple_Type, &etag_conditions, &PyTuple_Type, &gzip_codings, &upload_coding,
                          &content_type, &PyTuple_Type, &id_headers, &unreserved, &header_size, &error_size)
        || !(*by_method = copy_header_lists(pool, requests, 1)) || !(*by_status = copy_header_lists(pool, responses, 0))
        || !(tables->dated_conditions = copy_names(pool, dated_conditions))
        || !(tables->etag_conditions = copy_names(pool, etag_conditions))
        || !(tables->gzip_codings = copy_names(pool, gzip_codings)) || !(tables->upload_coding = copy_str(pool, upload_coding))
        || !(tables->default_content_type = copy_str(pool, content_type))
        || !(tables->request_id_headers = copy_names(pool, id_headers)) || !parse_unreserved(tables, unreserved))
        return 0;
    if (PyTuple_GET_SIZE(dated_conditions) != PyTuple_GET_SIZE(etag_conditions)) {
        PyErr_SetString(PyExc_ValueError, "as many conditions with ETags as with dates expected");
        return 0;
    }
    if (header_size <= 0 || error_size <= 0) {
        PyErr_SetString(PyExc_ValueError, "sizes of more than 0 bytes expected");
        return 0;
    }
    tables->max_header_size = (apr_size_t)header_size;
    tables->max_error_document_size = (apr_size_t)error_size;
    return 1;
}

/* ---------------------------------------------------------------- the extension module usp_s3_wsgi._httpd */

static PyObject *py_register(PyObject *self, PyObject *arguments)
{
    PyObject *sign_request, *explain_error, *describe_failure, *describe_response, *validate_response, *tables;
    usp_s3_shared_tables parsed = {0};
    header_list *by_method, *by_status;
    apr_pool_t *pool;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "OOOOOO!", &sign_request, &explain_error, &describe_failure, &describe_response,
                          &validate_response, &PyTuple_Type, &tables))
        return NULL;
    if (!usp_s3_is_loaded()) {
        PyErr_SetString(PyExc_RuntimeError, "httpd has not loaded usp_s3_module: \"usp-s3 apache-config\" prints the line");
        return NULL;
    }
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_RuntimeError, "the signer needs application-group=%{GLOBAL}");
        return NULL;
    }
    if (apr_pool_create(&pool, NULL) != APR_SUCCESS)
        return PyErr_NoMemory();
    if (!parse_shared_tables(pool, tables, &by_method, &by_status, &parsed) || sign_request_callback) {
        apr_pool_destroy(pool);
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    request_headers = by_method; /* the pool is not destroyed: the tables are used until the child exits */
    response_headers = by_status;
    shared_tables = parsed;
    validate_response_callback = Py_NewRef(validate_response);
    explain_error_callback = Py_NewRef(explain_error);
    describe_failure_callback = Py_NewRef(describe_failure);
    describe_response_callback = Py_NewRef(describe_response);
    sign_request_callback = Py_NewRef(sign_request); /* last: it says that all are registered */
    Py_RETURN_NONE;
}

static PyObject *py_proof(PyObject *self, PyObject *arguments)
{
    (void)self;
    (void)arguments;
    return to_str_or_none(usp_s3_get_proof());
}

#define BODY_CAPSULE "usp_s3_wsgi._httpd.body"

static PyObject *py_guarded_body(PyObject *self, PyObject *arguments)
{
    void *body = usp_s3_guarded_body();

    (void)self;
    (void)arguments;
    return body ? PyCapsule_New(body, BODY_CAPSULE, NULL) : Py_NewRef(Py_None);
}

static PyObject *py_mark_body_truncated(PyObject *self, PyObject *capsule)
{
    void *body = PyCapsule_GetPointer(capsule, BODY_CAPSULE);

    (void)self;
    if (!body)
        return NULL;
    usp_s3_mark_body_truncated(body);
    Py_RETURN_NONE;
}

static PyObject *py_log(PyObject *self, PyObject *arguments)
{
    PyObject *capsule;
    const char *message;
    request_rec *r;
    void *body;
    int level;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "Ois", &capsule, &level, &message))
        return NULL;
    if (level < APLOG_EMERG || level > APLOG_TRACE8) {
        PyErr_Format(PyExc_ValueError, "a level from %d to %d expected", APLOG_EMERG, APLOG_TRACE8);
        return NULL;
    }
    if (!(body = PyCapsule_GetPointer(capsule, BODY_CAPSULE)))
        return NULL;
    r = usp_s3_guarded_request(body);
    if (APLOG_R_IS_LEVEL(r, level)) {
        Py_BEGIN_ALLOW_THREADS; /* a piped log may block */
        ap_log_rerror(APLOG_MARK, level, 0, r, "%s", message);
        Py_END_ALLOW_THREADS;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"register", py_register, METH_VARARGS, "Register the callbacks and the shared tables, once per process."},
    {"proof", py_proof, METH_NOARGS,
     "Return the proof at the beginning of USP_S3_SETTINGS; None if httpd has not loaded usp_s3_module."},
    {"guarded_body", py_guarded_body, METH_NOARGS,
     "Return the response body of the gateway request that this thread handles; None in mod_wsgi's daemons."},
    {"mark_body_truncated", py_mark_body_truncated, METH_O,
     "Mark a body as truncated: httpd aborts the response when it ends. Only valid while the request is handled."},
    {"log", py_log, METH_VARARGS,
     "Write a line to the error log for the request of a body, if its LogLevel allows the level (3 error, 4 warn, 6 info, "
     "7 debug). Only valid in the thread that handles the request, while it does."},
    {"is_recording", usp_s3_py_is_recording, METH_NOARGS, "Whether httpd records exchanges with S3: \"UspS3Metrics On\"."},
    {"record_exchange", (PyCFunction)(void (*)(void))usp_s3_py_record_exchange, METH_FASTCALL,
     "Record an exchange of the gateway with S3 that has ended."},
    {"record_refresh", usp_s3_py_record_refresh, METH_VARARGS, "Record that credentials were refreshed, or could not be."},
    {"record_failure", usp_s3_py_record_failure, METH_VARARGS, "Keep a failed exchange with S3."},
    {"register_daemon", usp_s3_py_register_daemon, METH_NOARGS, "Add this process to the list of processes."},
    {"read_metrics", usp_s3_py_read_metrics, METH_NOARGS, "Return what all processes have recorded."},
    {"read_last_hour", usp_s3_py_read_last_hour, METH_VARARGS, "Return the exchanges of each minute of the last hour."},
    {"read_failures", usp_s3_py_read_failures, METH_NOARGS, "Return the last failed exchanges of each bucket."},
    {"read_processes", usp_s3_py_read_processes, METH_NOARGS, "Return the processes that can serve requests."},
    {"read_configured_buckets", usp_s3_py_read_configured_buckets, METH_NOARGS, "Return the list of configured buckets."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_httpd", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__httpd(void)
{
    return PyModule_Create(&definition);
}
