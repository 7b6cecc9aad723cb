"""S3's error document, read from its connection. What it says is for :mod:`usp_s3_wsgi.s3.error_response`."""

from __future__ import annotations

import time
from http.client import HTTPException
from typing import TYPE_CHECKING

from usp_s3_wsgi.errors import UpstreamUnreachable
from usp_s3_wsgi.s3 import error_response
from usp_s3_wsgi.s3.error_response import S3Error
from usp_s3_wsgi.transport import pool

if TYPE_CHECKING:
    from usp_s3_wsgi.transport.connection import S3Response

#: S3's error documents are far shorter.
_SIZE = 65_536
#: Statuses whose meaning depends on S3's code.
_CODE_DECIDES = frozenset({400, 403, 404})


def read(response: S3Response, patience: float) -> S3Error:
    """Read S3's error document, at most 64 KiB of it and for ``patience`` seconds, and give the connection back.

    Raises:
        UpstreamUnreachable: the document broke off before it told the code that its status needs.
    """
    document, is_whole = _document(response, time.monotonic() + patience)
    pool.discard(response)
    error = error_response.parse(response.status, response.headers, document.decode("utf-8", "replace"))
    if not is_whole and not error.code and error.status in _CODE_DECIDES:
        raise UpstreamUnreachable(f"S3 answered {error.status} and broke off before it said why")
    return error


def _document(response: S3Response, deadline: float) -> tuple[bytes, bool]:
    """Return the document, or its beginning, and whether it is all."""
    document = bytearray()  # S3 may send it byte by byte
    try:
        while len(document) < _SIZE and time.monotonic() < deadline:
            data = response.read1(_SIZE - len(document))
            if not data:
                return bytes(document), True
            document += data
    except (OSError, HTTPException):
        pass
    return bytes(document), len(document) == _SIZE
