/* Functions of the extension module usp_s3_wsgi._httpd for metrics. */

#ifndef USP_S3_PYTHON_METRICS_H
#define USP_S3_PYTHON_METRICS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

PyObject *usp_s3_py_is_recording(PyObject *self, PyObject *unused);
PyObject *usp_s3_py_record_exchange(PyObject *self, PyObject *const *arguments, Py_ssize_t count);
PyObject *usp_s3_py_record_refresh(PyObject *self, PyObject *arguments);
PyObject *usp_s3_py_record_failure(PyObject *self, PyObject *arguments);
PyObject *usp_s3_py_register_daemon(PyObject *self, PyObject *unused);
PyObject *usp_s3_py_read_metrics(PyObject *self, PyObject *unused);
PyObject *usp_s3_py_read_last_hour(PyObject *self, PyObject *arguments);
PyObject *usp_s3_py_read_failures(PyObject *self, PyObject *unused);
PyObject *usp_s3_py_read_processes(PyObject *self, PyObject *unused);
PyObject *usp_s3_py_read_configured_buckets(PyObject *self, PyObject *unused);

#endif
