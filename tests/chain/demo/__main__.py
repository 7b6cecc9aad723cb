"""The demo of the chain: ``make demo-chain``, or ``python -m tests.chain.demo`` in the root of the repository."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tests.browser import BrowserError, NoBrowser
from tests.chain import stage
from tests.chain.demo.browser import take_screenshot
from tests.chain.demo.run import running
from tests.demo.terminal import Signals, port, require_free, say
from tests.httpd.machine import HttpdError
from tests.s3 import S3Error
from usp_s3_wsgi import __version__

#: Seconds between two looks at the programs.
INTERVAL = 0.5


def main(arguments: list[str] | None = None) -> int:
    """Run the demo until a signal arrives; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chain.demo", description="Show the whole chain in a browser."
    )
    parser.add_argument(
        "--port",
        type=port,
        default=os.environ.get("PORT") or "0",
        help="the page's port (default: $PORT, otherwise a free port)",
    )
    parser.add_argument("--screenshot", type=Path, metavar="FILE", help="save a picture of the page in use, then stop")
    chosen = parser.parse_args(arguments)
    signals = Signals()
    if reason := stage.missing():
        print(f"demo: {reason}", file=sys.stderr)
        return 1
    try:
        if chosen.port:
            require_free(chosen.port, "make demo-chain")
        say("Starting S3, Apache, two caches and a packager; making the film the first time (half a minute) ...")
        status = save_screenshot(chosen.screenshot) if chosen.screenshot else serve(chosen.port, signals)
    except (HttpdError, S3Error, NoBrowser, BrowserError, OSError, RuntimeError, AssertionError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    say("Stopped: all programs and their data are gone.")
    return status


def save_screenshot(file: Path) -> int:
    """Save a picture of the page in use."""
    with running() as demo:
        take_screenshot(demo, file)
    return 0


def serve(number: int, signals: Signals) -> int:
    """Run until a signal arrives; returns 1 if a program ended before."""
    with running(number) as demo:
        if not signals.stopped():
            say(f"""
usp_s3_wsgi {__version__}: the whole chain, from the player to a private S3 bucket

  Open this in a browser   {demo.url}/
  The film (HLS)           {demo.functions.playlist}

{demo.listing()}

The files of the caches and of Apache are in apache/chain.
Ctrl-C stops it all.""")
        while not signals.stopped():
            if problem := demo.functions.problem():
                say(f"{problem} The demo stops.")
                return 1
            time.sleep(INTERVAL)
        say(f"\n{signals.name}: stopping ...")
    return 0


if __name__ == "__main__":
    sys.exit(main())
