"""Readers of the chain: one request, or many at the same moment."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
#: Seconds in which a response must begin and each of its parts must arrive.
TIMEOUT = 90.0


@dataclass(frozen=True, slots=True)
class Response:
    """What a reader got. ``is_complete``: the response ended as its header announced."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    is_complete: bool = True


def fetch(
    port: int,
    target: str,
    method: str = "GET",
    *,
    host: str = "media.example.com",
    source: str = "127.0.0.1",
    **headers: str,
) -> Response:
    """Send one request to a program on this machine, on a connection of its own; ``x_name`` is the header x-name.

    ``source``: the client's address. Raises: OSError and http.client.HTTPException: the response has not begun.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT, source_address=(source, 0))
    try:
        named = {"Host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, target, headers=named)
        response = connection.getresponse()
        pieces: list[bytes] = []
        try:
            while piece := response.read(1 << 20):
                pieces.append(piece)
        except http.client.IncompleteRead as error:
            return Response(response.status, response.headers, b"".join([*pieces, error.partial]), is_complete=False)
        except OSError:  # a reset
            return Response(response.status, response.headers, b"".join(pieces), is_complete=False)
        # With an amount, read() does not tell that the connection was closed too early.
        return Response(response.status, response.headers, b"".join(pieces), is_complete=not response.length)
    finally:
        connection.close()


def shown(response: Response) -> tuple[int, bytes]:
    """The status and the body of a response that is complete."""
    assert response.is_complete
    return response.status, response.body


def is_answered(port: int, target: str, status: int, body: bytes, **headers: str) -> bool:
    """Send a request, and tell whether the response has this status and exactly this body, which is not kept."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        named = {"Host": "media.example.com", **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request("GET", target, headers=named)
        response = connection.getresponse()
        at, is_same = 0, True
        while piece := response.read(1 << 18):
            is_same = is_same and body[at : at + len(piece)] == piece
            at += len(piece)
        return response.status == status and is_same and at == len(body)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def at_once(number: int, work: Callable[[int], T]) -> list[T]:
    """Call a function with 0 and the following numbers, all at the same moment, each in a thread of its own."""
    gate = threading.Barrier(number)

    def one(index: int) -> T:
        gate.wait(TIMEOUT)
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


def fetch_at_once(number: int, port: int, targets: Sequence[str], **headers: str) -> list[Response]:
    """Send this number of requests for these targets in turn, all at the same moment."""
    return at_once(number, lambda index: fetch(port, targets[index % len(targets)], **headers))
