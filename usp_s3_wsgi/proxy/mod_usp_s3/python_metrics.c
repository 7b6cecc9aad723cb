/* Functions of the extension module usp_s3_wsgi._httpd for metrics: the gateway records its exchanges, and metrics are read. */

#include "python_metrics.h"

#include "metrics.h"

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

/* [(name, expires, successes, failures)] */
static PyObject *to_identities(void)
{
    PyObject *list = PyList_New(0);
    const usp_s3_identity_metrics *entry;
    int i;

    for (i = 0; list && (entry = usp_s3_get_identity_metrics(i)); i++) {
        PyObject *tuple = Py_BuildValue("(NKKK)", to_text(entry->name), __atomic_load_n(&entry->expires, __ATOMIC_RELAXED),
                                        __atomic_load_n(&entry->successes, __ATOMIC_RELAXED),
                                        __atomic_load_n(&entry->failures, __ATOMIC_RELAXED));

        if (!tuple || PyList_Append(list, tuple) < 0)
            Py_CLEAR(list);
        Py_XDECREF(tuple);
    }
    return list;
}

/*
 * {"requests": the gateway's now, "counters": names, "time_bounds": bounds, "credentials": identities,
 *  "buckets": [(host, bucket, way, outcomes, counters, first_byte, duration)]}, only of ways in with an exchange. The bucket is
 * None for all without an entry of their own.
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
            tuple = Py_BuildValue("(NNsNNNN)", to_text(bucket->host),
                                  is_overflow ? Py_NewRef(Py_None) : to_text(bucket->bucket), ways[way], outcomes,
                                  to_numbers(metrics->counters, USP_S3_COUNTERS), to_histogram(&metrics->first_byte),
                                  to_histogram(&metrics->duration));
            if (!tuple || PyList_Append(list, tuple) < 0)
                Py_CLEAR(list);
            Py_XDECREF(tuple);
        }
    }
    return Py_BuildValue("{sisNsNsNsN}", "requests", usp_s3_count_open_slots(), "credentials", to_identities(), "counters",
                         counters, "time_bounds", to_numbers(usp_s3_time_bounds, USP_S3_TIME_BOUNDS), "buckets", list);
}
