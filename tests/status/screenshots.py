"""The pictures of docs/status.md: ``python -m tests.status.screenshots``, or ``make test-status``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from tests.browser import NoBrowser, start
from tests.status import examples
from tests.status.server import Server

FOLDER = Path(__file__).parents[2] / "docs" / "_static"
#: Pages of the documentation are slow to load with larger ones.
MAX_BYTES = 200_000


class Picture(NamedTuple):
    """``top``, ``height``: the CSS pixels of the page that are in the picture. ``path``: below the mount."""

    name: str
    width: int
    height: int
    scheme: str
    path: str = ""
    top: int = 0


def pictures() -> list[Picture]:
    """Return all pictures."""
    bucket = examples.night().buckets[0]
    return [
        Picture("status-light", 1040, 880, "light"),
        Picture("status-dark", 1040, 880, "dark"),
        Picture("status-phone", 390, 1240, "light"),
        Picture("status-failure", 1040, 760, "light", f"/failures/{bucket.id}/{bucket.failures[0].id}", top=880),
    ]


def main() -> int:
    """Write the pictures; returns the exit status."""
    try:
        with start() as browser, Server(examples.night()) as server:
            print(f"{browser.version()}:")
            for picture in pictures():
                browser.open("about:blank")
                browser.call(
                    "Emulation.setDeviceMetricsOverride",
                    width=picture.width, height=picture.height, deviceScaleFactor=1, mobile=picture.width < 500,
                )  # fmt: skip
                scheme = {"name": "prefers-color-scheme", "value": picture.scheme}
                browser.call("Emulation.setEmulatedMedia", features=[scheme])
                browser.call("Page.navigate", url=server.url + picture.path)
                browser.wait_until("document.readyState === 'complete' && !!document.querySelector('main')")
                file = FOLDER / f"{picture.name}.png"
                clip = {"x": 0, "y": picture.top, "width": picture.width, "height": picture.height, "scale": 1}
                browser.screenshot(file, clip=clip, optimizeForSpeed=False)
                size = file.stat().st_size
                print(f"  {file.relative_to(FOLDER.parents[1])}, {size:,} bytes")
                if size > MAX_BYTES:
                    print(f"screenshots: {file} is too large", file=sys.stderr)
                    return 1
    except NoBrowser as error:
        print(f"screenshots: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
