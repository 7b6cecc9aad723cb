"""Serve private S3 buckets from Apache httpd: the open counterpart of mod_unified_s3_auth, in Python.

The pipeline of a request, a module a step::

    environ -> settings -> request -> upstream (credentials, signing, remedies, pool) -> response, body -> client

:mod:`gateway.handler` puts the steps in order; Apache loads it as :mod:`usp_s3_wsgi.application`. In ``<Proxy>``
sections mod_proxy is the upstream: :mod:`proxy.callbacks` takes the steps before it.
"""

__version__ = "1.7.0"
