"""Asks the status page of this machine for its JSON."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

from usp_s3_wsgi.cli.explain.status_url import StatusURL
from usp_s3_wsgi.cli.server.unverified_tls import unverified_context

#: Seconds for a connection and for each read, and for all of it.
_TIMEOUT, _TOTAL_TIMEOUT = 5.0, 20.0
#: Bytes: of 300 buckets with all that is kept of each.
_MAX_SIZE = 64_000_000
_PIECE = 65_536
#: What a status of the page means.
_MEANINGS = {
    401: "the page needs a password, which this command does not have: open it in a browser",
    403: "the page is for other addresses (Require), or another virtual host answers at this address",
    404: "there is no status page; another virtual host may answer at this address",
    500: "the page has failed, see the error log: jinja2 may be missing (pip install 'usp_s3_wsgi[status]')",
    503: 'nothing is recorded: usp_s3_module is not loaded, or "UspS3Metrics On" is missing',
}


class StatusUnavailable(Exception):
    """The status page could not be read. The message says why."""


def fetch(url: StatusURL) -> dict[str, Any]:
    """Return what the page knows, as docs/status.md describes it. Raises: StatusUnavailable."""
    connection = _connection(url)
    try:
        connection.request("GET", f"{url.path}/json", headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = _read(response)
    except TimeoutError:
        raise StatusUnavailable(f"{url}: no answer in time") from None
    except (OSError, http.client.HTTPException) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
        raise StatusUnavailable(f"{url}: {reason}") from None
    finally:
        connection.close()
    if response.status != http.client.OK:
        meaning = _MEANINGS.get(response.status, "this is not the status page")
        raise StatusUnavailable(f"{url} answered {response.status}: {meaning}")
    try:
        document = json.loads(body)
        assert isinstance(document["buckets"], list)
    except (ValueError, TypeError, KeyError, AssertionError):
        raise StatusUnavailable(f"{url}: this is not the status page of usp_s3_wsgi") from None
    found: dict[str, Any] = document
    return found


def _connection(url: StatusURL) -> http.client.HTTPConnection:
    """Return a connection that is not open yet. http.client uses no proxy of the environment."""
    if url.scheme == "http":
        return http.client.HTTPConnection(url.host, url.port, timeout=_TIMEOUT)
    # The certificate is for the server's public name, and nothing secret is sent. What answers at an address of
    # loopback is on this machine.
    return http.client.HTTPSConnection(url.host, url.port, timeout=_TIMEOUT, context=unverified_context())


def _read(response: http.client.HTTPResponse) -> bytes:
    deadline, body = time.monotonic() + _TOTAL_TIMEOUT, bytearray()
    while piece := response.read1(_PIECE):
        body += piece
        if len(body) > _MAX_SIZE or time.monotonic() > deadline:
            raise TimeoutError
    return bytes(body)
