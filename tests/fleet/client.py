"""Single requests to HAProxy."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.fleet.network import HUB

Response = tuple[int, http.client.HTTPMessage, bytes]


def send(method: str, target: str = "/film.mp4") -> Response:
    """Send a request with a connection of its own; returns status, headers and body."""
    connection = http.client.HTTPConnection(HUB, timeout=60)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def send_many(targets: Sequence[str], clients: int) -> list[Response]:
    """Send a GET for each target, so many at the same time."""
    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda target: send("GET", target), targets))
