"""Serve private S3 buckets from Apache httpd: the open counterpart of mod_unified_s3_auth, in Python.

How the gateway, a WSGI application, handles a request (``gateway/handler.py`` has the steps in this order)::

    environ
      -> gateway.operator_settings   the operator's settings                  config.settings
      -> gateway.client_request      method, key, headers for S3              s3.object_request
      -> gateway.fetcher             one or more attempts:                    s3.byte_range
           credentials.resolver        the key pair                           credentials.refresher
           signing.signer              the signature                          signing.sigv4, signing.sigv2
           transport.pool              the exchange with S3                   transport.http_response
           s3.error_codes              what an error response means           s3.error_response
           s3.retry_policy             retry, correct, or raise               s3.endpoint_state (clocks, regions)
      -> gateway.client_response     status and headers                       s3.forwarded_headers
      -> gateway.response_body       bytes, resumed where S3 breaks off       gateway.client_connection
      -> the client

In ``<Proxy>`` sections mod_proxy carries the bytes. usp_s3_module (``proxy/mod_usp_s3``, in C) calls Python::

    mod_proxy is about to send       -> proxy.callbacks.sign_request      settings, credentials, signature
    S3 has sent a partial response   -> proxy.callbacks.validate_response is it the requested range?
    S3 has sent an error response    -> proxy.callbacks.explain_error     status, log line, corrections

``configtest`` checks the settings at ``httpd -t``, ``cli`` is the command usp-s3. docs/architecture.md has more.
"""

__version__ = "1.14.0"
