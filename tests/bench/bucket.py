"""The benchmark's bucket: its objects, its URLs, and the routes to it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

SCHEMES = ("http", "https")
KB, MB = 1024, 1024**2
#: The objects, by key.
SIZES = {"1k": KB, "64k": 64 * KB, "1m": MB, "6m": 6 * MB, "256m": 256 * MB}


@dataclass(frozen=True, slots=True)
class Route:
    """How the bucket is reached. ``is_cold``: with a new connection for each request."""

    scheme: str
    is_cold: bool

    def __str__(self) -> str:
        return f"{self.scheme}-cold" if self.is_cold else self.scheme


ROUTES = tuple(Route(scheme, is_cold) for scheme in SCHEMES for is_cold in (False, True))


@dataclass(frozen=True, slots=True)
class Bucket:
    """``origins``: its URLs by scheme. ``ca``: the root of its certificate. ``digests``: SHA-256 by key."""

    origins: dict[str, str]
    ca: Path
    digests: dict[str, str]

    def signed(self, route: Route, number: int | None = None) -> str:
        """The URL below which requests must be signed, without a trailing slash; ``number``: a numbered bucket.

        Each route has its own URL, because mod_proxy has one set of connection parameters per URL.
        """
        return self._url("signed", route, number)

    def open(self, route: Route, number: int | None = None) -> str:
        """The URL of the same objects without signing."""
        return self._url("open", route, number)

    def _url(self, kind: str, route: Route, number: int | None) -> str:
        parts = [*(["cold"] if route.is_cold else []), kind, *([] if number is None else [str(number)])]
        return "/".join([self.origins[route.scheme], *parts])


def fill(folder: Path) -> dict[str, str]:
    """Write the objects; returns the SHA-256 of each."""
    digests = {}
    for key, size in SIZES.items():
        data = os.urandom(size)
        (folder / key).write_bytes(data)
        digests[key] = hashlib.sha256(data).hexdigest()
    return digests
