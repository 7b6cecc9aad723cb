"""Readers of the chain: one request, or many at the same moment."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

#: Seconds in which a response must begin and each of its parts must arrive.
TIMEOUT = 90.0


@dataclass(frozen=True, slots=True)
class Response:
    """What a reader got. ``is_complete``: the response ended as its header announced."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    is_complete: bool = True


def fetch(port: int, target: str, method: str = "GET", *, host: str = "media.example.com", **headers: str) -> Response:
    """Send one request to a program on this machine, on a connection of its own; ``x_name`` is the header x-name.

    Raises: OSError and http.client.HTTPException: the response has not begun.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        named = {"Host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, target, headers=named)
        response = connection.getresponse()
        try:
            return Response(response.status, response.headers, response.read())
        except http.client.IncompleteRead as error:
            return Response(response.status, response.headers, error.partial, is_complete=False)
        except OSError:  # a reset; http.client does not return what had arrived
            return Response(response.status, response.headers, b"", is_complete=False)
    finally:
        connection.close()


def fetch_at_once(number: int, port: int, targets: Sequence[str], **headers: str) -> list[Response]:
    """Send this number of requests for these targets in turn, all at the same moment."""
    gate = threading.Barrier(number)

    def one(index: int) -> Response:
        gate.wait(TIMEOUT)
        return fetch(port, targets[index % len(targets)], **headers)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))
