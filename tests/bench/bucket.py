"""The bucket that everything reads from: its objects, its URLs, and the ways that lead to it."""

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
    """A way to the bucket. ``is_cold``: over a new connection for each request."""

    scheme: str
    is_cold: bool

    def __str__(self) -> str:
        return f"{self.scheme}-cold" if self.is_cold else self.scheme


ROUTES = tuple(Route(scheme, is_cold) for scheme in SCHEMES for is_cold in (False, True))


@dataclass(frozen=True, slots=True)
class Bucket:
    """``origins``: where it listens, by scheme. ``ca``: what its certificate is verified with. ``digests``: by key."""

    origins: dict[str, str]
    ca: Path
    digests: dict[str, str]

    def signed(self, route: Route, number: int | None = None) -> str:
        """The URL below which every request must be signed, without a slash at its end; one of many if numbered.

        Each route has its own, for mod_proxy keeps one set of connection parameters for each URL.
        """
        return self._url("signed", route, number)

    def open(self, route: Route, number: int | None = None) -> str:
        """The URL below which no request need be signed; the objects are the same."""
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
