"""The soak's clients: each sends one request after the other and checks status, headers and every byte."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected

from tests.soak.objects import FILMS, PIECE, Film, byte_range

#: Seconds without a byte: far longer than all retries of the gateway.
READ_TIMEOUT = 20.0
MOUNTS = ("gateway", "proxy")
_UNAVAILABLE = {502, 503, 504}


class WrongResponse(Exception):
    """A response that no fault of S3 explains."""


class Aborted(Exception):
    """The connection was closed or the chunked encoding is broken: the client knows that the response is incomplete."""


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A request, and after how many bytes of the body the client disconnects (None: it reads all)."""

    film: Film
    target: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    disconnects_after: int | None = None
    is_missing: bool = False

    def __str__(self) -> str:
        extra = "".join(f", {name}: {value}" for name, value in self.headers.items())
        return f"{self.method} {self.target} ({self.film.size} bytes{extra})"

    def expected(self, etag: str) -> tuple[int, int, int]:
        """The status if the object has this ETag, and the start and stop of the body."""
        if self.is_missing:
            return 404, 0, 0
        if self.headers.get("If-Match", etag) != etag:
            return 412, 0, 0
        if self.headers.get("If-None-Match") == etag:
            return 304, 0, 0
        if "Range" not in self.headers or self.headers.get("If-Range", etag) != etag:
            return 200, 0, self.film.size
        part = byte_range(self.headers["Range"], self.film.size)
        return (206, *part) if part else (416, 0, 0)


class Client:
    """A client with one persistent connection, which sends requests to both mounts."""

    def __init__(self, port: int, seed: str, may_retry: Callable[[], bool]) -> None:
        """``may_retry``: whether httpd may now close an idle connection, as a reload does."""
        self._random, self._may_retry = random.Random(seed), may_retry
        self._connection = HTTPConnection("127.0.0.1", port, timeout=READ_TIMEOUT)
        self._etags: dict[Film, str] = {}

    def fetch(self) -> tuple[str, str]:
        """Send a random request; returns the mount and "ok", "aborted" or "5xx". Raises: WrongResponse."""
        mount = self._random.choice(MOUNTS)
        request = self._next(mount)
        try:
            return mount, self._outcome(request)
        except Aborted:
            self.close()
            return mount, "aborted"
        except WrongResponse as wrong:
            self.close()
            raise WrongResponse(f"{request}: {wrong}") from wrong.__cause__

    def close(self) -> None:
        """Close the connection, even within a response; the next request opens another one."""
        self._connection.close()

    # --- the next request

    def _next(self, mount: str) -> ClientRequest:
        film = self._random.choice(FILMS)
        target = f"/{mount}/{film.key}"
        kind = self._random.choices(
            ["whole", "range", "condition", "head", "missing", "disconnect"], [6, 8, 2, 2, 1, 2]
        )[0]
        if kind == "missing":
            method = self._random.choice(["GET", "HEAD"])
            return ClientRequest(film, target + "/no", method, is_missing=True)
        if kind == "head":
            return ClientRequest(film, target, "HEAD")
        if kind == "disconnect":
            return ClientRequest(film, target, disconnects_after=self._random.randrange(film.size))
        if kind == "range":
            return ClientRequest(film, target, headers=self._range(film))
        return ClientRequest(film, target, headers=self._condition(film) if kind == "condition" else {})

    def _range(self, film: Film) -> dict[str, str]:
        first, last = sorted(self._random.randrange(film.size) for _ in range(2))
        beyond = film.size + self._random.randrange(100)
        chosen = self._random.choice([f"{first}-{last}"] * 4 + [f"{first}-", f"-{last + 1}", f"{first}-{beyond}"])
        if self._random.randrange(20) == 0:
            chosen = f"{beyond}-"
        headers = {"Range": f"bytes={chosen}"}
        if self._random.randrange(5) == 0:
            headers["If-Range"] = self._known_etag(film)
        return headers

    def _condition(self, film: Film) -> dict[str, str]:
        return {self._random.choice(["If-Match", "If-None-Match"]): self._known_etag(film)}

    def _known_etag(self, film: Film) -> str:
        return self._random.choice([self._etags.get(film, film.etag(0))] * 3 + [film.etag(10**6)])

    # --- the response

    def _outcome(self, request: ClientRequest) -> str:
        response = self._response(request)
        if response.status in _UNAVAILABLE:
            self._read(response, lambda data: None)
            return "5xx"
        expected, start, stop = self._check_header(request, response)
        if expected not in {200, 206}:
            self._read(response, lambda data: None)
        elif request.method == "GET":
            self._check_body(request, response, start, stop)
        else:
            response.read()
        return "ok"

    def _response(self, request: ClientRequest) -> HTTPResponse:
        """Send the request, and return the response's header."""
        is_reused = self._connection.sock is not None
        try:
            self._connection.request(request.method, request.target, headers=request.headers)
            return self._connection.getresponse()
        except TimeoutError:
            raise WrongResponse(f"no response within {READ_TIMEOUT:g} s") from None
        except (ConnectionError, RemoteDisconnected) as error:
            self.close()
            if is_reused and self._may_retry():
                return self._response(request)
            raise Aborted from error
        except HTTPException as error:
            raise WrongResponse(f"the response is not HTTP: {error!r}") from error

    def _check_header(self, request: ClientRequest, response: HTTPResponse) -> tuple[int, int, int]:
        """Check status and headers; returns the expected status, and the start and stop of the body."""
        film, etag = request.film, response.headers.get("ETag", "")
        if film.version(etag) is None and response.status in {200, 206, 304}:
            raise WrongResponse(f"{response.status} with ETag {etag}:\n{response.headers}")
        if response.status == 412 and request.headers.get("If-Match"):
            return 412, 0, 0  # the response does not say which version S3 has
        expected, start, stop = request.expected(etag or film.etag(0))
        if expected == 416 and "If-Range" in request.headers and response.status == 200:
            expected, start, stop = 200, 0, film.size
        content_range = {206: f"bytes {start}-{stop - 1}/{film.size}", 416: f"bytes */{film.size}"}.get(expected)
        if (response.status, response.headers.get("Content-Range")) != (expected, content_range):
            raise WrongResponse(f"expected {expected} {content_range}, but got:\n{response.status}\n{response.headers}")
        length = response.headers.get("Content-Length")
        if expected in {200, 206}:
            self._etags[film] = etag
            if length not in {None, str(stop - start)}:
                raise WrongResponse(f"Content-Length is {length} for {stop - start} bytes")
        return expected, start, stop

    def _check_body(self, request: ClientRequest, response: HTTPResponse, start: int, stop: int) -> None:
        version = request.film.version(response.headers["ETag"])
        assert version is not None
        position = start
        disconnects_at = stop + 1 if request.disconnects_after is None else request.disconnects_after

        def compare(data: bytes) -> None:
            nonlocal position
            if data != request.film.piece(version, position, position + len(data))[: max(0, stop - position)]:
                raise WrongResponse(
                    f"wrong bytes between {position} and {position + len(data)}, ETag {response.headers['ETag']}"
                )
            position += len(data)

        has_length = response.headers.get("Content-Length") is not None
        self._read(response, compare, until=lambda: position >= disconnects_at)
        if disconnects_at <= position < stop:
            self.close()
        elif position < stop:
            if not has_length:
                raise WrongResponse(f"the body looks complete without the bytes from {position} to {stop}")
            raise Aborted

    def _read(
        self, response: HTTPResponse, take: Callable[[bytes], None], until: Callable[[], bool] = lambda: False
    ) -> None:
        """Pass the body's bytes to ``take``. Raises: Aborted, WrongResponse."""
        try:
            while not until() and (data := response.read(PIECE)):
                take(data)
        except TimeoutError:
            raise WrongResponse(f"the body stalls for {READ_TIMEOUT:g} s") from None
        except IncompleteRead as error:
            take(error.partial)
            raise Aborted from error
        except (OSError, HTTPException) as error:
            raise Aborted from error
