"""The soak's clients: each asks for one thing after the other and takes nothing for right that it has not checked."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected

from tests.soak.objects import FILMS, PIECE, Film, asked_part

#: Seconds without a byte: far more than all tries of the gateway take.
PATIENCE = 20.0
MOUNTS = ("gateway", "proxy")
_BUSY = {502, 503, 504}


class Wrong(Exception):
    """An answer that no fault of S3 excuses."""


class Ended(Exception):
    """The connection ended, or a body's framing broke, so that the client knows that it has not all."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and how many bytes of its body the client reads before it leaves (None: all)."""

    film: Film
    target: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    leaves_after: int | None = None
    is_missing: bool = False

    def __str__(self) -> str:
        extra = "".join(f", {name}: {value}" for name, value in self.headers.items())
        return f"{self.method} {self.target} ({self.film.size} bytes{extra})"

    def expected(self, etag: str) -> tuple[int, int, int]:
        """The status when the object is at that version, and where its body begins and ends."""
        if self.is_missing:
            return 404, 0, 0
        if self.headers.get("If-Match", etag) != etag:
            return 412, 0, 0
        if self.headers.get("If-None-Match") == etag:
            return 304, 0, 0
        if "Range" not in self.headers or self.headers.get("If-Range", etag) != etag:
            return 200, 0, self.film.size
        part = asked_part(self.headers["Range"], self.film.size)
        return (206, *part) if part else (416, 0, 0)


class Client:
    """One client with one kept-alive connection, over which it asks through both mounts."""

    def __init__(self, port: int, seed: str, may_ask_again: Callable[[], bool]) -> None:
        """``may_ask_again``: whether httpd may close a connection between two answers now, as a reload does."""
        self._chance, self._may_ask_again = random.Random(seed), may_ask_again
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._etags: dict[Film, str] = {}

    def ask(self) -> tuple[str, str]:
        """Ask for something; returns the mount and "right", "ended" or "5xx". Raises: Wrong."""
        mount = self._chance.choice(MOUNTS)
        asked = self._next(mount)
        try:
            return mount, self._outcome(asked)
        except Ended:
            self.close()
            return mount, "ended"
        except Wrong as wrong:
            self.close()
            raise Wrong(f"{asked}: {wrong}") from wrong.__cause__

    def close(self) -> None:
        """End the connection, with whatever is still under way on it; the next request opens another one."""
        self._connection.close()

    # --- what is asked

    def _next(self, mount: str) -> Ask:
        film = self._chance.choice(FILMS)
        target = f"/{mount}/{film.key}"
        kind = self._chance.choices(["whole", "part", "condition", "head", "missing", "leave"], [6, 8, 2, 2, 1, 2])[0]
        if kind == "missing":
            method = self._chance.choice(["GET", "HEAD"])
            return Ask(film, target + "/no", method, is_missing=True)
        if kind == "head":
            return Ask(film, target, "HEAD")
        if kind == "leave":
            return Ask(film, target, leaves_after=self._chance.randrange(film.size))
        if kind == "part":
            return Ask(film, target, headers=self._range(film))
        return Ask(film, target, headers=self._condition(film) if kind == "condition" else {})

    def _range(self, film: Film) -> dict[str, str]:
        first, last = sorted(self._chance.randrange(film.size) for _ in range(2))
        beyond = film.size + self._chance.randrange(100)
        chosen = self._chance.choice([f"{first}-{last}"] * 4 + [f"{first}-", f"-{last + 1}", f"{first}-{beyond}"])
        if self._chance.randrange(20) == 0:
            chosen = f"{beyond}-"
        headers = {"Range": f"bytes={chosen}"}
        if self._chance.randrange(5) == 0:
            headers["If-Range"] = self._known_etag(film)
        return headers

    def _condition(self, film: Film) -> dict[str, str]:
        return {self._chance.choice(["If-Match", "If-None-Match"]): self._known_etag(film)}

    def _known_etag(self, film: Film) -> str:
        return self._chance.choice([self._etags.get(film, film.etag(0))] * 3 + [film.etag(10**6)])

    # --- what is answered

    def _outcome(self, asked: Ask) -> str:
        response = self._response(asked)
        if response.status in _BUSY:
            self._read(response, lambda data: None)
            return "5xx"
        expected, start, stop = self._checked(asked, response)
        if expected not in {200, 206}:
            self._read(response, lambda data: None)
        elif asked.method == "GET":
            self._check_body(asked, response, start, stop)
        else:
            response.read()
        return "right"

    def _response(self, asked: Ask) -> HTTPResponse:
        """Send the request, and return the answer's header."""
        is_reused = self._connection.sock is not None
        try:
            self._connection.request(asked.method, asked.target, headers=asked.headers)
            return self._connection.getresponse()
        except TimeoutError:
            raise Wrong(f"no response within {PATIENCE:g} s") from None
        except (ConnectionError, RemoteDisconnected) as error:
            self.close()
            if is_reused and self._may_ask_again():
                return self._response(asked)
            raise Ended from error
        except HTTPException as error:
            raise Wrong(f"the answer is not HTTP: {error!r}") from error

    def _checked(self, asked: Ask, response: HTTPResponse) -> tuple[int, int, int]:
        """Check status and headers; returns what they should be, and where the body begins and ends."""
        film, etag = asked.film, response.headers.get("ETag", "")
        if film.version(etag) is None and response.status in {200, 206, 304}:
            raise Wrong(f"{response.status} with ETag {etag}:\n{response.headers}")
        if response.status == 412 and asked.headers.get("If-Match"):
            return 412, 0, 0  # S3 does not say which version it has
        expected, start, stop = asked.expected(etag or film.etag(0))
        if expected == 416 and "If-Range" in asked.headers and response.status == 200:
            expected, start, stop = 200, 0, film.size
        place = {206: f"bytes {start}-{stop - 1}/{film.size}", 416: f"bytes */{film.size}"}.get(expected)
        if (response.status, response.headers.get("Content-Range")) != (expected, place):
            raise Wrong(f"{expected} {place} is right, but got:\n{response.status}\n{response.headers}")
        length = response.headers.get("Content-Length")
        if expected in {200, 206}:
            self._etags[film] = etag
            if length not in {None, str(stop - start)}:
                raise Wrong(f"Content-Length is {length} for {stop - start} bytes")
        return expected, start, stop

    def _check_body(self, asked: Ask, response: HTTPResponse, start: int, stop: int) -> None:
        version = asked.film.version(response.headers["ETag"])
        assert version is not None
        place = start
        leaves_at = stop + 1 if asked.leaves_after is None else asked.leaves_after

        def compare(data: bytes) -> None:
            nonlocal place
            if data != asked.film.piece(version, place, place + len(data))[: max(0, stop - place)]:
                raise Wrong(f"wrong bytes between {place} and {place + len(data)}, ETag {response.headers['ETag']}")
            place += len(data)

        has_length = response.headers.get("Content-Length") is not None
        self._read(response, compare, until=lambda: place >= leaves_at)
        if leaves_at <= place < stop:
            self.close()
        elif place < stop:
            if not has_length:
                raise Wrong(f"looks whole without the bytes from {place} to {stop}")
            raise Ended

    def _read(
        self, response: HTTPResponse, take: Callable[[bytes], None], until: Callable[[], bool] = lambda: False
    ) -> None:
        """Hand over the body's bytes to its end. Raises: Ended, Wrong."""
        try:
            while not until() and (data := response.read(PIECE)):
                take(data)
        except TimeoutError:
            raise Wrong(f"the body stands still for {PATIENCE:g} s") from None
        except IncompleteRead as error:
            take(error.partial)
            raise Ended from error
        except (OSError, HTTPException) as error:
            raise Ended from error
