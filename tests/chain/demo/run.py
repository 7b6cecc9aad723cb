"""The running demo: the chain of `tests.chain.stage` with a page that shows it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.chain import stage
from tests.chain.client import Response, fetch_at_once
from tests.chain.demo.server import Functions, Herd, Shown, page
from tests.chain.ladder import PACKAGED
from tests.chain.stage import BUCKET, MEDIA, Counters, Stage

CLIENTS = 200
KB, MB = 1000, 1000**2
SEGMENT, LARGE, RANGE = 2 * MB, 16 * MB, KB
HLS_JS = Path(__file__).parents[1] / "players" / "node_modules" / "hls.js" / "dist" / "hls.min.js"


@dataclass(frozen=True, slots=True)
class Link:
    """How a link is shown. ``counted``: its name in the stage's counters; ``counts``: what is shown of them."""

    id: str
    title: str
    program: str
    counted: str
    counts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Demo:
    """The URL of the page, and what the page can ask for."""

    url: str
    functions: Functions
    urls: Mapping[str, str]

    def listing(self) -> str:
        """The links with their addresses, one in a line."""
        return "\n".join(f"  {link.title:<16}{self.urls.get(link.counted, '-'):<26}{link.program}" for link in LINKS)


_PROXY, _CACHE = ("requests", "bytes"), ("requests", "hits", "misses", "bytes")
#: The player counts by itself, in the page.
LINKS = (
    Link("player", "Player", "hls.js, in this browser", "", ("segments",)),
    Link("cdn", "CDN", "nginx without a cache", "edge", ("requests",)),
    Link("shield", "Shield", "nginx", "shield", _CACHE),
    Link("origin", "Origin", "a packager (mp4box)", "packager", _PROXY),
    Link("storage", "Storage cache", "nginx, with slices", "storage", _CACHE),
    Link("signing", "Signing", "httpd, usp_s3_wsgi", "signing", _PROXY),
    Link("s3", "Private bucket", "OpenStack Swift (S3)", "s3", _PROXY),
)


@contextmanager
def running(port: int = 0) -> Iterator[Demo]:
    """Start the chain and the page. Raises: see `tests.chain.stage.running`; OSError: the port is not free."""
    with stage.running() as found:
        herds = _Herds(found)
        functions = Functions(
            links=lambda: shown(found.counters()),
            problem=lambda: problem(found.ended()),
            herds={"object": herds.whole, "range": herds.range, "unprotected": herds.unprotected},
            playlist=found.url(f"{PACKAGED}/main.m3u8", packaged=True),
            media=f"http://127.0.0.1:{found.port}",
            hls_js=HLS_JS,
        )
        with page(functions, port) as url:
            yield Demo(url, functions, found.urls)


def shown(counters: Mapping[str, Counters]) -> list[Shown]:
    """The links with their counters now."""
    found = []
    for link in LINKS:
        values = counters.get(link.counted, Counters())
        counts = {name: int(getattr(values, name, 0)) for name in link.counts}
        if "hits" in counts:  # a revalidated object is not read again
            counts["hits"] += values.revalidated
        found.append(Shown(link.id, link.title, link.program, counts))
    return found


def problem(ended: list[str]) -> str:
    """A sentence that names the links whose program has ended by itself; empty if there is none."""
    titles = [link.title for link in LINKS if link.counted in ended]
    return f"Ended by itself: {', '.join(titles or ended)}." if ended else ""


class _Herds:
    """Clients that request the same new object at the same moment."""

    def __init__(self, found: Stage) -> None:
        self._stage = found
        self._numbers = count(1)

    def whole(self) -> Herd:
        """A whole object, from where players are."""
        return self._herd(
            f"a new segment of {SEGMENT // MB} MB, by players",
            SEGMENT,
            lambda key: (self._stage.port, f"{MEDIA}/{key}"),
        )

    def range(self) -> Herd:
        """A small range, from where the origin is."""
        assert self._stage.storage
        port = self._stage.storage.port
        return self._herd(
            f"1 KB of a new object of {LARGE // MB} MB, by origins", LARGE, lambda key: (port, f"/bucket/{key}"), RANGE
        )

    def unprotected(self) -> Herd:
        """The same range, from the server that signs."""
        port = self._stage.httpd.signing_port
        return self._herd("the same 1 KB without a cache", LARGE, lambda key: (port, f"/bucket/{key}"), RANGE)

    def _herd(self, requested: str, size: int, where: Callable[[str], tuple[int, str]], length: int = 0) -> Herd:
        """Store a new object, and request it, or ``length`` bytes in its middle."""
        key, data = f"herd/{next(self._numbers)}.ts", os.urandom(size)
        s3 = self._stage.s3
        s3.put(BUCKET, key, data)
        first = size // 2 if length else 0
        wanted = data[first : first + length] if length else data
        headers = {"range": f"bytes={first}-{first + length - 1}"} if length else {}
        port, target = where(key)
        responses = fetch_at_once(CLIENTS, port, [target], **headers)
        reads = [entry for entry in s3.requests() if key in entry["target"] and entry["method"] != "PUT"]
        s3.delete(BUCKET, key)
        return Herd(
            requested=requested,
            clients=CLIENTS,
            right=sum(is_right(response, wanted, partial=bool(length)) for response in responses),
            s3_requests=len(reads),
            s3_bytes=sum(entry["length"] for entry in reads),
        )


def is_right(response: Response, wanted: bytes, *, partial: bool) -> bool:
    """Whether a response is complete, and has these bytes."""
    return response.is_complete and response.status == (206 if partial else 200) and response.body == wanted
