"""What usp_s3_module and Python both need: written in Python, and handed over when the callbacks are registered."""

from __future__ import annotations

from typing import NamedTuple

from usp_s3_wsgi.config import limits
from usp_s3_wsgi.s3 import error_response, forwarded_headers, object_request
from usp_s3_wsgi.signing.percent_encoding import UNRESERVED


class SharedTables(NamedTuple):
    """The tables, as ``parse_shared_tables`` in ``mod_usp_s3/python_callbacks.c`` reads them.

    ``request_headers``: the client's headers that are forwarded to S3, by method; requests with these methods are
    signed. ``response_headers``: S3's headers that are forwarded to the client, by status; a response with any other
    status is an error. ``dated_conditions``: the request headers whose value is a date; ``etag_conditions``: those that
    take precedence over them, in the same order. ``gzip_codings``: the codings in Accept-Encoding that allow gzip, in
    the order of their precedence. ``upload_coding``: removed from Content-Encoding. ``default_content_type``: for a
    response without Content-Type. ``request_id_headers``: where servers send the id of a request. ``unreserved``: the
    characters that are never percent-encoded. The sizes are in bytes.
    """

    request_headers: dict[str, tuple[str, ...]]
    response_headers: dict[int, tuple[str, ...]]
    dated_conditions: tuple[str, ...]
    etag_conditions: tuple[str, ...]
    gzip_codings: tuple[str, ...]
    upload_coding: str
    default_content_type: str
    request_id_headers: tuple[str, ...]
    unreserved: str
    max_header_size: int
    max_error_document_size: int


SHARED_TABLES = SharedTables(
    request_headers={method: tuple(names.values()) for method, names in forwarded_headers.REQUEST_HEADERS.items()},
    response_headers={
        status: (*names, "Content-Length") if status in {200, 206} else names
        for status, names in forwarded_headers.RESPONSE_HEADERS.items()
    },
    dated_conditions=tuple(forwarded_headers.DATED_CONDITIONS),
    etag_conditions=tuple(forwarded_headers.DATED_CONDITIONS.values()),
    gzip_codings=object_request.GZIP_CODINGS,
    upload_coding=forwarded_headers.UPLOAD_CODING,
    default_content_type=forwarded_headers.DEFAULT_CONTENT_TYPE,
    request_id_headers=error_response.REQUEST_ID_HEADERS,
    unreserved=UNRESERVED,
    max_header_size=limits.MAX_HEADER_SIZE,
    max_error_document_size=limits.MAX_ERROR_DOCUMENT_SIZE,
)
