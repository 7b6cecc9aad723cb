"""What a view of the film costs in requests to S3, with and without caches.

``python -m tests.chain.views`` prints it. A view reads what a player reads of the largest rendition: the playlists, and
each segment of picture and sound, one after the other. Players' own caches are not counted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin

from tests.chain import stage
from tests.chain.client import fetch
from tests.chain.ladder import PACKAGED, PLAIN, RENDITIONS, SECONDS, SEGMENT_SECONDS
from tests.chain.stage import MEDIA, PACKAGER, Cache, Counters, Origin, Stage

#: USD for 1,000 GET requests: S3 Standard, us-east-1, https://aws.amazon.com/s3/pricing/ (read 2026-11).
PRICE = 0.0004
#: Longer than playlists and the packager's index are used without a question to S3.
PAUSE = 6.0
#: Who makes the segments, and the caches of each row.
CHAINS: tuple[tuple[Origin, Cache, Cache], ...] = (
    ("packager", "none", "none"),
    ("packager", "none", "nginx"),
    ("packager", "nginx", "none"),
    ("packager", "nginx", "nginx"),
    ("none", "none", "none"),
    ("none", "none", "nginx"),
    ("none", "nginx", "none"),
    ("none", "nginx", "nginx"),
)


@dataclass(frozen=True, slots=True)
class Views:
    """The requests of one view, and what of two views in turn reached S3."""

    origin: Origin
    shield: Cache
    storage: Cache
    requests: int
    first: Counters
    second: Counters


def measure(chains: Sequence[tuple[Origin, Cache, Cache]] = CHAINS) -> Iterator[Views]:
    """Two views through each chain. Raises: AssertionError: a response is not 200."""
    for origin, shield, storage in chains:
        with stage.running(origin=origin, shield=shield, storage=storage) as running:
            requests, first = _view(running, origin)
            _, second = _view(running, origin)
        yield Views(origin, shield, storage, requests, first, second)


def _view(running: Stage, origin: Origin) -> tuple[int, Counters]:
    """The number of requests of a view, and what reached S3. Begins with playlists that are too old."""
    time.sleep(PAUSE)
    running.clear()
    where = f"{PACKAGER}/{PACKAGED}" if origin == "packager" else f"{MEDIA}/{PLAIN}"
    main, playlists = _read(running, f"{where}/main.m3u8")
    # The last of the renditions is the largest; the sound is in a playlist of its own.
    video = playlists[len(RENDITIONS) - 1] if origin == "none" else _largest(main, playlists)
    (sound,) = {urljoin(f"{where}/main.m3u8", found) for found in re.findall(r'URI="([^"]+)"', main)}
    requests = 1
    for playlist in (video, sound):
        text, segments = _read(running, playlist)
        init = [urljoin(playlist, found) for found in re.findall(r'#EXT-X-MAP:URI="([^"]+)"', text)]
        for target in (*init, *segments):
            _read(running, target, is_text=False)
        requests += 1 + len(init) + len(segments)
    return requests, running.counters()["s3"]


def _largest(main: str, playlists: Sequence[str]) -> str:
    heights = [int(height) for height in re.findall(r"RESOLUTION=\d+x(\d+)", main)]
    return playlists[heights.index(max(heights))]


def _read(running: Stage, target: str, *, is_text: bool = True) -> tuple[str, list[str]]:
    """Read a file; returns its text, and the paths that its lines name."""
    response = fetch(running.port, target)
    assert response.status == 200 and response.is_complete, (target, response.status)
    text = response.body.decode() if is_text else ""
    return text, [urljoin(target, line) for line in text.splitlines() if line and not line.startswith("#")]


def table(rows: Sequence[Views]) -> str:
    """The rows as a table in Markdown."""
    columns = ["segments are", "shield", "storage cache", "requests"]
    columns += ["S3: first view", "S3: each later view", "USD per million views"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        cost = row.second.requests * 1_000_000 * PRICE / 1000
        cells = [
            "made just in time" if row.origin == "packager" else "objects",
            *("–" if cache == "none" else cache for cache in (row.shield, row.storage)),
            str(row.requests),
            _cell(row.first),
            _cell(row.second),
            f"{cost:,.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(counters: Counters) -> str:
    revalidated = f", {counters.revalidated} of them 304" if counters.revalidated else ""
    return f"{counters.requests} ({counters.bytes / 1e6:.1f} MB{revalidated})"


def main() -> None:
    """Print the table."""
    print(f"A view: {SECONDS} s of film, in segments of {SEGMENT_SECONDS} s, picture and sound.")
    print(table(list(measure())))


if __name__ == "__main__":
    main()
