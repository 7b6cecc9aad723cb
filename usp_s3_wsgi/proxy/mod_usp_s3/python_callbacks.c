/*
 * What Python is asked: functions of usp_s3_wsgi/access.py, which each child registers when it starts. They raise nothing;
 * what they return is checked all the same. Strings go to Python as Latin-1, as WSGI has them in its environ.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "mod_usp_s3.h"

/* Names of headers by a request's method or an answer's status; ended by NULL. */
typedef struct {
    const char *method;
    int status;
    const char **names;
} header_list;

/* What Python registered at the start of this child. Written once, before any request, and never again. */
static PyObject *sign_function, *refusal_function, *failure_function, *answer_function, *part_function;
static header_list *forwarded, *passed_on;

/*
 * Begin to use Python in this thread, always in its main interpreter: PyGILState_Ensure would take whichever one mod_wsgi
 * used first in this thread, of another application's group. The state is kept for the next request, as the thread is.
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

/* ---------------------------------------------------------------- to Python */

static PyObject *text(const char *bytes)
{
    return PyUnicode_DecodeLatin1(bytes, (Py_ssize_t)strlen(bytes), NULL);
}

static PyObject *text_or_none(const char *bytes)
{
    return bytes ? text(bytes) : Py_NewRef(Py_None);
}

/* Name and value pairs, as WSGI has them in its environ. */
static PyObject *settings(const apr_array_header_t *all)
{
    PyObject *pairs = PyList_New(0), *tuple = NULL;
    int i;

    for (i = 0; pairs && i < all->nelts; i++) {
        const apr_table_entry_t *entry = &APR_ARRAY_IDX(all, i, apr_table_entry_t);
        PyObject *pair = Py_BuildValue("(NN)", text(entry->key), text(entry->val));
        if (!pair || PyList_Append(pairs, pair) < 0)
            Py_CLEAR(pairs);
        Py_XDECREF(pair);
    }
    if (pairs)
        tuple = PyList_AsTuple(pairs);
    Py_XDECREF(pairs);
    return tuple;
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
        const char *name_bytes, *value_bytes;

        if (!PyArg_ParseTuple(PyTuple_GetItem(pairs, i), "UU", &name, &value) || !(name_bytes = PyUnicode_AsUTF8(name))
            || !(value_bytes = PyUnicode_AsUTF8(value)))
            return 0;
        apr_table_add(to, name_bytes, value_bytes);
    }
    return !PyErr_Occurred();
}

/* Take (status, message or None, headers, version) of Python: log, which sets *logged, and return the status. */
static int take_refusal(request_rec *r, PyObject *result, int *logged)
{
    PyObject *message, *headers;
    const char *line = NULL;
    long long version;
    int status;

    if (!PyArg_ParseTuple(result, "iOO!L", &status, &message, &PyTuple_Type, &headers, &version)
        || !copy_headers(r->err_headers_out, headers))
        return 0;
    if (message != Py_None && !(line = copied(r->pool, message)))
        return 0;
    usp_s3_set_version(version);
    *logged = line != NULL;
    if (line) {
        Py_BEGIN_ALLOW_THREADS; /* a piped log may block */
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "usp_s3_wsgi: %s", line);
        Py_END_ALLOW_THREADS;
    }
    if (status == HTTP_METHOD_NOT_ALLOWED)
        ap_allow_standard_methods(r, REPLACE_ALLOW, M_GET, -1);
    return status;
}

/* Take of Python how it has signed, so that the next requests of this second need not ask it. */
static int take_alike(request_rec *r, const signed_request *request, PyObject *tuple, const char *asked)
{
    PyObject *origin, *prefix, *canonical, *to_sign, *authorization, *query;
    usp_s3_alike alike = {.host = request->host, .server_name = request->server_name, .passed = request->passed,
                          .passes_coding = request->passes_coding, .signed_at = request->signed_at,
                          .version = request->version};
    long long second;
    const char *key;
    Py_ssize_t size;

    if (!PyArg_ParseTuple(tuple, "LpUUUUy#OO", &second, &alike.passes_query, &origin, &prefix, &canonical, &to_sign, &key,
                          &size, &authorization, &query)
        || size != sizeof(alike.key) || !(alike.origin = copied(r->pool, origin))
        || !(alike.prefix = copied(r->pool, prefix)) || !(alike.canonical = copied(r->pool, canonical))
        || !(alike.to_sign = copied(r->pool, to_sign))
        || (authorization != Py_None && !(alike.authorization = copied(r->pool, authorization)))
        || (query != Py_None && !(alike.query = copied(r->pool, query))))
        return 0;
    alike.second = second;
    memcpy(alike.key, key, sizeof(alike.key));
    alike.headers = apr_table_clone(r->pool, request->headers);
    apr_table_unset(alike.headers, "Authorization");
    usp_s3_remember(r, request, asked, &alike);
    return 1;
}

/*
 * Take of Python: URL, host, server name, headers, prefixes, whether the client's Accept-Encoding passes, whether a part is asked
 * for by its number, time, version, how the next ones are signed or None.
 */
static int take_signature(request_rec *r, signed_request *request, PyObject *result, char **url)
{
    PyObject *signed_url, *host, *server_name, *headers, *prefixes, *alike;
    const char *asked = *url;
    long long signed_at, version;
    Py_ssize_t i;

    if (!PyArg_ParseTuple(result, "UUUO!O!ppLLO", &signed_url, &host, &server_name, &PyTuple_Type, &headers, &PyTuple_Type,
                          &prefixes, &request->passes_coding, &request->by_number, &signed_at, &version, &alike)
        || !(*url = (char *)copied(r->pool, signed_url)) || !(request->host = copied(r->pool, host))
        || !(request->server_name = copied(r->pool, server_name)))
        return 0;
    request->signed_at = signed_at;
    request->version = version;
    usp_s3_set_version(version);
    request->headers = apr_table_make(r->pool, 6);
    request->passed = apr_array_make(r->pool, 1, sizeof(const char *));
    for (i = 0; i < PyTuple_Size(prefixes); i++)
        APR_ARRAY_PUSH(request->passed, const char *) = copied(r->pool, PyTuple_GetItem(prefixes, i));
    return copy_headers(request->headers, headers) && (alike == Py_None || take_alike(r, request, alike, asked));
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

/* ---------------------------------------------------------------- the questions */

int usp_s3_has_undecoded_slash(request_rec *r)
{
    core_dir_config *core = ap_get_core_module_config(r->per_dir_config);
    int is_undecoded = core->allow_encoded_slashes && !core->decode_encoded_slashes;

    /* ProxyPass with mapping=encoded: the whole path is left as it is. */
    return (is_undecoded || apr_table_get(r->notes, "proxy-noencode")) && ap_strcasestr(r->uri, "%2f");
}

/*
 * With MergeSlashes, httpd's default: the path of the ProxyPass that led here, after which the client's slashes are those
 * of the key; empty where another rule made the URL. NULL where slashes are not merged.
 */
static const char *mount_with_merged_slashes(request_rec *r)
{
    core_server_config *core = ap_get_core_module_config(r->server->module_config);
    const char *mount;

    if (r->main || r->proxyreq == PROXYREQ_PROXY || core->merge_slashes == AP_CORE_CONFIG_OFF)
        return NULL;
    mount = usp_s3_mount(r);
    return mount ? mount : "";
}

int usp_s3_sign(request_rec *r, signed_request *request, char **url)
{
    PyObject *result;
    int status = OK, logged;

    if (!sign_function || !Py_IsInitialized()) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "usp_s3_wsgi: this process has no signer: proxy.conf is not included, "
                      "or its WSGIImportScript failed at the start of this process (see above)");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    if (!request->place.refusal && usp_s3_sign_alike(r, request, url))
        return OK;
    enter_python();
    result = PyObject_CallFunction(sign_function, "NNNNNiNN", text_or_none(request->place.url),
                                   settings(request->place.settings), text(r->method), text(*url),
                                   text_or_none(r->main ? NULL : r->unparsed_uri), usp_s3_has_undecoded_slash(r),
                                   text_or_none(mount_with_merged_slashes(r)), text_or_none(request->place.refusal));
    if (result && PyTuple_Check(result) && PyTuple_Size(result) && PyLong_Check(PyTuple_GetItem(result, 0))) {
        if (!(status = take_refusal(r, result, &logged)))
            status = internal_error(r);
    }
    else if (!result || !take_signature(r, request, result, url))
        status = internal_error(r);
    Py_XDECREF(result);
    leave_python();
    return status;
}

static int add_header(void *dict, const char *name, const char *value)
{
    PyObject *key = text(name), *lowercase = key ? PyObject_CallMethod(key, "lower", NULL) : NULL, *object = text(value);
    PyObject *known = lowercase ? PyDict_GetItemWithError(dict, lowercase) : NULL;

    if (known && object)
        Py_SETREF(object, PyUnicode_FromFormat("%U, %U", known, object));
    if (lowercase && object)
        PyDict_SetItem(dict, lowercase, object);
    Py_XDECREF(key);
    Py_XDECREF(lowercase);
    Py_XDECREF(object);
    return !PyErr_Occurred();
}

/* The headers of S3's answer, in a dict by names in lowercase. */
static PyObject *answer_headers(request_rec *r)
{
    PyObject *headers = PyDict_New();

    if (headers)
        apr_table_do(add_header, headers, r->headers_out, NULL);
    if (headers && r->content_type)
        add_header(headers, "Content-Type", r->content_type);
    if (PyErr_Occurred())
        Py_CLEAR(headers);
    return headers;
}

/* Take (status, whether all must be asked for, why it is refused or None, length or -1, headers) of Python. */
static const char *take_judgement(request_rec *r, signed_request *request, PyObject *result)
{
    PyObject *doubt, *headers;
    const char *why = NULL;
    long long length;
    int status;

    if (!PyArg_ParseTuple(result, "ipOLO!", &status, &request->ask_for_all, &doubt, &length, &PyTuple_Type, &headers)
        || !copy_headers(r->err_headers_out, headers) || (doubt != Py_None && !(why = copied(r->pool, doubt)))) {
        internal_error(r);
        return "S3's answer could not be judged";
    }
    if (r->main && request->ask_for_all) {
        const char *stated = apr_table_get(r->headers_out, "Content-Length");

        request->ask_for_all = 0; /* a part of a page cannot be asked for once more: but nothing of an empty object is right */
        if (status == HTTP_PARTIAL_CONTENT && (!stated || strcmp(stated, "0") != 0))
            why = "S3 sent another part than was asked for";
    }
    request->is_counted = length >= 0 && !request->header.has_length && !r->header_only;
    request->left = length;
    if (ap_is_HTTP_ERROR(status) && status != r->status) {
        request->refused = request->is_decided = 1;
        request->status = status;
    }
    r->status = status;
    return why;
}

const char *usp_s3_judge_part(request_rec *r, signed_request *request)
{
    const char *why = "S3's answer could not be judged";
    PyObject *result;

    if (!Py_IsInitialized())
        return why;
    enter_python();
    result = PyObject_CallFunction(part_function, "iNNNi", r->status, answer_headers(r), text_or_none(request->range),
                                   text_or_none(request->if_range), request->by_number);
    if (result)
        why = take_judgement(r, request, result);
    else
        internal_error(r);
    Py_XDECREF(result);
    leave_python();
    return why;
}

static double seconds_since(request_rec *r)
{
    return (double)(apr_time_now() - r->request_time) / APR_USEC_PER_SEC;
}

/* What S3's refusal means, and what the operator must know of it. */
int usp_s3_explain(request_rec *r, signed_request *request, int refused)
{
    PyObject *result;
    int status;

    if (!Py_IsInitialized())
        return HTTP_BAD_GATEWAY;
    enter_python();
    result = PyObject_CallFunction(refusal_function, "NNNNiy#NidLLL", text_or_none(request->place.url),
                                   settings(request->place.settings), text(r->method), text(request->url), refused,
                                   request->body ? request->body : "", (Py_ssize_t)request->length, answer_headers(r),
                                   request->attempt, seconds_since(r), (long long)request->signed_at,
                                   (long long)request->version, (long long)usp_s3_granted(request));
    status = result ? take_refusal(r, result, &request->logged) : 0;
    if (!status)
        status = internal_error(r);
    Py_XDECREF(result);
    leave_python();
    return status;
}

void usp_s3_log_answer(request_rec *r, signed_request *request)
{
    const char *line = NULL;
    PyObject *result;

    if (request->logged || !request->s3_status || request->s3_status == HTTP_OK
        || request->s3_status == HTTP_PARTIAL_CONTENT || !APLOGrdebug(r) || !Py_IsInitialized())
        return;
    request->logged = 1;
    enter_python();
    result = PyObject_CallFunction(answer_function, "NNiy#Nid", text(r->method), text(request->url), request->s3_status,
                                   request->body ? request->body : "", (Py_ssize_t)request->length, answer_headers(r),
                                   request->attempt, seconds_since(r));
    if (!(line = copied(r->pool, result)))
        internal_error(r);
    Py_XDECREF(result);
    leave_python();
    if (line)
        ap_log_rerror(APLOG_MARK, APLOG_DEBUG, 0, r, "usp_s3_wsgi: %s", line);
}

void usp_s3_report(request_rec *r, signed_request *request, const char *what)
{
    const char *line = NULL;
    PyObject *result;

    if (!Py_IsInitialized())
        return;
    enter_python();
    result = PyObject_CallFunction(failure_function, "NNNid", text(r->method), text(request->url), text(what),
                                   request->attempt, seconds_since(r));
    if (!result || (result != Py_None && !(line = copied(r->pool, result))))
        internal_error(r);
    Py_XDECREF(result);
    leave_python();
    if (line)
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "usp_s3_wsgi: %s", line);
}

/* ---------------------------------------------------------------- the lists of headers */

static const char **names_for(header_list *lists, const char *method, int status)
{
    for (; lists && lists->names; lists++) {
        if (method ? strcmp(lists->method, method) == 0 : lists->status == status)
            return lists->names;
    }
    return NULL;
}

const char **usp_s3_forwarded(const char *method)
{
    return names_for(forwarded, method, 0);
}

const char **usp_s3_passed_on(int status)
{
    return names_for(passed_on, NULL, status);
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
    PyObject *sign_with, *refuse_with, *fail_with, *answer_with, *judge_with, *to_s3, *to_client;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "OOOOOO!O!", &sign_with, &refuse_with, &fail_with, &answer_with, &judge_with,
                          &PyDict_Type, &to_s3, &PyDict_Type, &to_client))
        return NULL;
    if (!usp_s3_is_loaded()) {
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
    part_function = Py_NewRef(judge_with);
    refusal_function = Py_NewRef(refuse_with);
    failure_function = Py_NewRef(fail_with);
    answer_function = Py_NewRef(answer_with);
    sign_function = Py_NewRef(sign_with);
    Py_RETURN_NONE;
}

static PyObject *py_proof(PyObject *self, PyObject *arguments)
{
    (void)self;
    (void)arguments;
    return text_or_none(usp_s3_proof());
}

#define BODY "usp_s3_wsgi._httpd.body"

static PyObject *py_guarded_body(PyObject *self, PyObject *arguments)
{
    void *body = usp_s3_guarded_body();

    (void)self;
    (void)arguments;
    return body ? PyCapsule_New(body, BODY, NULL) : Py_NewRef(Py_None);
}

static PyObject *py_cut_body(PyObject *self, PyObject *capsule)
{
    void *body = PyCapsule_GetPointer(capsule, BODY);

    (void)self;
    if (!body)
        return NULL;
    usp_s3_cut_body(body);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"register", py_register, METH_VARARGS, "Hand over what signs and what explains refusals, once per process."},
    {"proof", py_proof, METH_NOARGS, "What httpd's usp_s3_module puts before what it hands over; None where it is not loaded."},
    {"guarded_body", py_guarded_body, METH_NOARGS,
     "The body of the request that has just come to the gateway in this thread; None in mod_wsgi's daemons."},
    {"cut_body", py_cut_body, METH_O, "Say, before the request ends, that its body is not whole: httpd will end it abnormally."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_httpd", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__httpd(void)
{
    return PyModule_Create(&definition);
}
