"""Read S3's error document from its connection; :mod:`usp_s3_wsgi.s3.error_response` parses it."""

from __future__ import annotations

import time
from http.client import HTTPException

from usp_s3_wsgi.config.limits import MAX_ERROR_DOCUMENT_SIZE
from usp_s3_wsgi.errors import S3ErrorResponse, UpstreamConnectionError
from usp_s3_wsgi.s3 import error_response
from usp_s3_wsgi.transport.http_response import S3Response

#: Statuses whose meaning depends on S3's code.
_CODE_DECIDES = frozenset({400, 403, 404})


def read(response: S3Response, timeout: float) -> S3ErrorResponse:
    """Read S3's error document, or its start, within ``timeout`` seconds, and release the connection.

    Raises:
        UpstreamConnectionError: the document ended before the code that its status needs.
    """
    document, is_complete = _read_document(response, time.monotonic() + timeout)
    response.drain_or_close()
    error = error_response.parse(response.status, response.headers, document.decode("utf-8", "replace"))
    if not is_complete and not error.code and error.status in _CODE_DECIDES:
        raise UpstreamConnectionError(f"S3 answered {error.status}, and the connection broke before the error code")
    return error


def _read_document(response: S3Response, deadline: float) -> tuple[bytes, bool]:
    """Return the document, or its start, and whether it is complete."""
    document = bytearray()  # S3 may send it byte by byte
    try:
        while len(document) < MAX_ERROR_DOCUMENT_SIZE and time.monotonic() < deadline:
            data = response.read1(MAX_ERROR_DOCUMENT_SIZE - len(document))
            if not data:
                return bytes(document), True
            document += data
    except (OSError, HTTPException):
        pass
    return bytes(document), len(document) == MAX_ERROR_DOCUMENT_SIZE
