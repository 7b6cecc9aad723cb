"""Serve private S3 buckets from Apache httpd: the open counterpart of mod_unified_s3_auth, in Python.

The pipeline of a request, a module a step::

    environ -> settings -> request -> upstream (credentials, signing, remedies, pool) -> response, body -> client

:mod:`usp_s3_wsgi.application` puts the steps in order and is what Apache loads (``apache/usp_s3.wsgi``). In ``<Proxy>``
sections mod_proxy is the upstream: :mod:`usp_s3_wsgi.access` takes the steps before it (``apache/usp_s3_access.py``).
"""

__version__ = "1.7.0"
