/* Functions of the extension module usp_s3_wsgi._httpd for metrics: the gateway records its exchanges, and metrics are read. */

#include "python_metrics.h"

#include "metrics.h"

#include <stdlib.h>

/* The arguments of record_exchange before the counters, as in _httpd.pyi. */
enum { TOKEN, HOST, BUCKET, S3_STATUS, S3_CODE, REQUEST_ID, ERROR, FIRST_BYTE, DURATION, COUNTERS };

PyObject *usp_s3_py_is_recording(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyBool_FromLong(usp_s3_is_recording());
}

PyObject *usp_s3_py_record_exchange(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    usp_s3_exchange exchange = {.way = USP_S3_GATEWAY};
    const char **texts[] = {[HOST] = &exchange.host,
                            [BUCKET] = &exchange.bucket,
                            [S3_CODE] = &exchange.s3_code,
                            [REQUEST_ID] = &exchange.request_id,
                            [ERROR] = &exchange.error};
    const char *token;
    Py_ssize_t length;
    long long first_byte;
    int i;

    (void)self;
    if (count != COUNTERS + USP_S3_COUNTERS) {
        PyErr_Format(PyExc_TypeError, "%d arguments expected", COUNTERS + USP_S3_COUNTERS);
        return NULL;
    }
    if (!(token = PyUnicode_AsUTF8AndSize(arguments[TOKEN], &length)))
        return NULL;
    for (i = 0; i <= ERROR; i++) {
        if (texts[i] && !(*texts[i] = PyUnicode_AsUTF8(arguments[i])))
            return NULL;
    }
    exchange.s3_status = (int)PyLong_AsLong(arguments[S3_STATUS]);
    first_byte = PyLong_AsLongLong(arguments[FIRST_BYTE]);
    exchange.has_first_byte = first_byte >= 0;
    exchange.first_byte = exchange.has_first_byte ? (apr_uint64_t)first_byte : 0;
    exchange.duration = PyLong_AsUnsignedLongLong(arguments[DURATION]);
    for (i = 0; i < USP_S3_COUNTERS; i++)
        exchange.counters[i] = PyLong_AsUnsignedLongLong(arguments[COUNTERS + i]);
    if (PyErr_Occurred())
        return NULL;
    usp_s3_record_exchange(&exchange);
    if (length == USP_S3_TOKEN_SIZE)
        usp_s3_add_to_slot(token, &exchange);
    Py_RETURN_NONE;
}

PyObject *usp_s3_py_record_refresh(PyObject *self, PyObject *arguments)
{
    unsigned long long expires;
    const char *identity;
    int is_success;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "sKp", &identity, &expires, &is_success))
        return NULL;
    usp_s3_record_refresh(identity, expires, is_success);
    Py_RETURN_NONE;
}

/* record_failure(host, bucket, way, kind, data) */
PyObject *usp_s3_py_record_failure(PyObject *self, PyObject *arguments)
{
    const char *host, *bucket, *data;
    Py_ssize_t length;
    unsigned kind;
    int way;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "ssiIy#", &host, &bucket, &way, &kind, &data, &length))
        return NULL;
    if (way < 0 || way >= USP_S3_WAYS || length > USP_S3_FAILURE_SIZE) {
        PyErr_SetString(PyExc_ValueError, "no such way in, or too many bytes");
        return NULL;
    }
    usp_s3_record_failure(host, bucket, way, kind, data, (apr_size_t)length);
    Py_RETURN_NONE;
}

/* A process that is not one of httpd's children, which are registered already, is a daemon of mod_wsgi. */
PyObject *usp_s3_py_register_daemon(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    usp_s3_register_process(USP_S3_DAEMON);
    Py_RETURN_NONE;
}

/* ---------------------------------------------------------------- read */

static PyObject *to_numbers(const apr_uint64_t *numbers, int count)
{
    PyObject *tuple = PyTuple_New(count);
    int i;

    for (i = 0; tuple && i < count; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(__atomic_load_n(&numbers[i], __ATOMIC_RELAXED));

        if (!number)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, number);
    }
    return tuple;
}

/* A text that another process has stored in memory: bytes of a valid character each. */
static PyObject *to_text(const char *stored)
{
    return PyUnicode_DecodeUTF8(stored, (Py_ssize_t)strlen(stored), "replace");
}

/* [(status_class, s3_code, error, count)] */
static PyObject *to_outcomes(const usp_s3_way_metrics *metrics)
{
    PyObject *list = PyList_New(0);
    int i;

    for (i = 0; list && i <= USP_S3_MAX_OUTCOMES; i++) {
        const usp_s3_outcome *outcome = &metrics->outcomes[i];
        apr_uint64_t count = __atomic_load_n(&outcome->count, __ATOMIC_RELAXED);
        PyObject *tuple;

        if (!count || (i < USP_S3_MAX_OUTCOMES && !usp_s3_is_outcome_used(outcome)))
            continue;
        if (i < USP_S3_MAX_OUTCOMES)
            tuple = Py_BuildValue("(iNNK)", outcome->status_class, to_text(outcome->s3_code), to_text(outcome->error), count);
        else
            tuple = Py_BuildValue("(iOOK)", 0, Py_None, Py_None, count);
        if (!tuple || PyList_Append(list, tuple) < 0)
            Py_CLEAR(list);
        Py_XDECREF(tuple);
    }
    return list;
}

/* (counts, sum) */
static PyObject *to_histogram(const usp_s3_histogram *histogram)
{
    return Py_BuildValue("(NK)", to_numbers(histogram->counts, USP_S3_TIME_BOUNDS + 1),
                         (unsigned long long)__atomic_load_n(&histogram->sum, __ATOMIC_RELAXED));
}

/* [(name, expires, successes, failures, refreshed_at, failed_at, is_failing, is_current)] */
static PyObject *to_identities(void)
{
    PyObject *list = PyList_New(0);
    const usp_s3_identity_metrics *entry;
    int i;

    for (i = 0; list && (entry = usp_s3_get_identity_metrics(i)); i++) {
        PyObject *tuple = Py_BuildValue(
            "(NKKKKKNN)", to_text(entry->name), __atomic_load_n(&entry->expires, __ATOMIC_RELAXED),
            __atomic_load_n(&entry->successes, __ATOMIC_RELAXED), __atomic_load_n(&entry->failures, __ATOMIC_RELAXED),
            __atomic_load_n(&entry->refreshed_at, __ATOMIC_RELAXED), __atomic_load_n(&entry->failed_at, __ATOMIC_RELAXED),
            PyBool_FromLong(__atomic_load_n(&entry->is_failing, __ATOMIC_RELAXED)),
            PyBool_FromLong(usp_s3_is_current_generation(entry->generation)));

        if (!tuple || PyList_Append(list, tuple) < 0)
            Py_CLEAR(list);
        Py_XDECREF(tuple);
    }
    return list;
}

/*
 * {"started_at": unix time, "requests": the gateway's now, "counters": names, "time_bounds": bounds, "credentials": identities,
 *  "buckets": [(host, bucket, way, outcomes, counters, first_byte, duration, number, faults)]}, only of ways in with an exchange.
 * The bucket is None for all without an entry of their own; its number is that of its entry. faults: exchanges without one, with
 * one of this server or of S3, denied ones, those of clients.
 */
PyObject *usp_s3_py_read_metrics(PyObject *self, PyObject *unused)
{
    static const char *const ways[USP_S3_WAYS] = {[USP_S3_GATEWAY] = "gateway", [USP_S3_PROXY] = "proxy"};
#define COUNTER_NAME(index, name) name,
    static const char *const names[] = {USP_S3_COUNTER_LIST(COUNTER_NAME) NULL};
    PyObject *list = PyList_New(0), *counters = PyTuple_New(USP_S3_COUNTERS);
    const usp_s3_bucket_metrics *bucket;
    int i, way, is_overflow;

    (void)self;
    (void)unused;
    for (i = 0; counters && names[i]; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);

        if (!name)
            Py_CLEAR(counters);
        else
            PyTuple_SET_ITEM(counters, i, name);
    }
    for (i = 0; list && (bucket = usp_s3_get_bucket_metrics(i, &is_overflow)); i++) {
        for (way = 0; list && way < USP_S3_WAYS; way++) {
            const usp_s3_way_metrics *metrics = &bucket->ways[way];
            PyObject *outcomes = to_outcomes(metrics), *tuple;

            if (outcomes && !PyList_GET_SIZE(outcomes)) {
                Py_DECREF(outcomes);
                continue;
            }
            tuple = Py_BuildValue("(NNsNNNNiN)", to_text(bucket->host),
                                  is_overflow ? Py_NewRef(Py_None) : to_text(bucket->bucket), ways[way], outcomes,
                                  to_numbers(metrics->counters, USP_S3_COUNTERS), to_histogram(&metrics->first_byte),
                                  to_histogram(&metrics->duration), usp_s3_get_bucket_number(bucket),
                                  to_numbers(metrics->failures, USP_S3_FAULTS));
            if (!tuple || PyList_Append(list, tuple) < 0)
                Py_CLEAR(list);
            Py_XDECREF(tuple);
        }
    }
    return Py_BuildValue("{sKsisNsNsNsN}", "started_at", usp_s3_started_at(), "requests", usp_s3_count_open_slots(),
                         "credentials", to_identities(), "counters", counters, "time_bounds",
                         to_numbers(usp_s3_time_bounds, USP_S3_TIME_BOUNDS), "buckets", list);
}

/*
 * read_last_hour(number, way): 60 tuples, the last one of this minute: faults as above, bytes, attempts, corrections of the clock
 * and of the region, first bytes and their sum in microseconds.
 */
PyObject *usp_s3_py_read_last_hour(PyObject *self, PyObject *arguments)
{
    apr_uint64_t values[USP_S3_HOUR][USP_S3_MINUTE_VALUES];
    const usp_s3_bucket_metrics *bucket;
    PyObject *list;
    int number, way, i;

    (void)self;
    if (!PyArg_ParseTuple(arguments, "ii", &number, &way))
        return NULL;
    if (way < 0 || way >= USP_S3_WAYS || !(bucket = usp_s3_get_bucket_entry(number))) {
        PyErr_SetString(PyExc_ValueError, "no such bucket or way in");
        return NULL;
    }
    usp_s3_get_last_hour(&bucket->ways[way], values);
    list = PyList_New(USP_S3_HOUR);
    for (i = 0; list && i < USP_S3_HOUR; i++) {
        PyObject *minute = to_numbers(values[i], USP_S3_MINUTE_VALUES);

        if (!minute)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, minute);
    }
    return list;
}

static int append_failure(void *list, const char *host, const char *bucket, usp_s3_way way, int bucket_number, unsigned number,
                          const char *bytes, apr_size_t length)
{
    PyObject *tuple = Py_BuildValue("(NNiiIy#)", to_text(host), bucket ? to_text(bucket) : Py_NewRef(Py_None), way,
                                    bucket_number, number, bytes, (Py_ssize_t)length);
    int result = tuple ? PyList_Append(list, tuple) : -1;

    Py_XDECREF(tuple);
    return result == 0;
}

/* [(host, bucket, way, number of the bucket, number of the failure, data)]; the bucket is None as in read_metrics. */
PyObject *usp_s3_py_read_failures(PyObject *self, PyObject *unused)
{
    PyObject *list = PyList_New(0);

    (void)self;
    (void)unused;
    if (list)
        usp_s3_for_each_failure(append_failure, list);
    if (PyErr_Occurred())
        Py_CLEAR(list);
    return list;
}

/* [(pid, is_daemon, started_at, is_current)] */
PyObject *usp_s3_py_read_processes(PyObject *self, PyObject *unused)
{
    PyObject *list = PyList_New(0);
    usp_s3_process process;
    int index = 0, is_current;

    (void)self;
    (void)unused;
    while (list && usp_s3_next_process(&index, &process, &is_current)) {
        PyObject *tuple = Py_BuildValue("(iNKN)", (int)process.pid, PyBool_FromLong(process.kind == USP_S3_DAEMON),
                                        process.started_at, PyBool_FromLong(is_current));

        if (!tuple || PyList_Append(list, tuple) < 0)
            Py_CLEAR(list);
        Py_XDECREF(tuple);
    }
    return list;
}

/* The list of configtest/configured_buckets.py as a str, None if there is none. */
PyObject *usp_s3_py_read_configured_buckets(PyObject *self, PyObject *unused)
{
    char *text = usp_s3_copy_configured_buckets();
    PyObject *result = text ? to_text(text) : Py_NewRef(Py_None);

    (void)self;
    (void)unused;
    free(text);
    return result;
}
