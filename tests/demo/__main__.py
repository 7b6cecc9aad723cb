"""The demo: ``make demo``, or ``python -m tests.demo`` in the root of the repository."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

from tests.demo import checks
from tests.demo.stage import FILM, PLAYLIST, UNUSUAL_KEYS, Stage, running
from tests.demo.terminal import Signals, port, require_free, say
from tests.httpd.machine import HttpdError
from tests.s3 import S3Error
from usp_s3_wsgi import __version__

#: Seconds between two checks that Apache and S3 are running.
INTERVAL = 0.2


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    chosen = options(arguments)
    signals = Signals()
    try:
        if chosen.port:
            require_free(chosen.port)
        say("Starting a private S3, and Apache with the gateway in front of it ...")
        status = check(chosen, signals) if chosen.check else serve(chosen.port, signals)
    except (HttpdError, S3Error, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    say("Stopped: Apache, S3 and their data are gone.")
    return status


def options(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.demo", description="Serve a film from a private S3 bucket through Apache."
    )
    parser.add_argument(
        "--port",
        type=port,
        default=os.environ.get("PORT") or "0",
        help="Apache's port (default: $PORT, otherwise a free port)",
    )
    parser.add_argument("--check", action="store_true", help="run the checks, then stop")
    parser.add_argument(
        "--screenshot", type=Path, metavar="FILE", help="with --check: save a screenshot of the start page"
    )
    return parser.parse_args(arguments)


def serve(port: int, signals: Signals) -> int:
    """Run until a signal arrives; returns 1 if Apache or S3 ended before."""
    with running(port) as stage:
        if not signals.stopped():
            welcome(stage)
        while not signals.stopped():
            if ended := stage.ended_part():
                say("\n".join([f"{ended} has ended by itself; the demo stops.", *stage.httpd.errors()[-10:]]))
                return 1
            time.sleep(INTERVAL)
        say(f"\n{signals.name}: stopping ...")
    return 0


def check(chosen: argparse.Namespace, signals: Signals) -> int:
    """Run the checks; returns 1 if one failed."""
    failed = 0
    with running(chosen.port) as stage:
        for mark, line in checks.run(stage, chosen.screenshot, signals.stopped):
            say(f"  {mark} {line}")
            failed += mark == checks.CROSS
    if stage.httpd.unexpected and not failed:  # lines of the stop: earlier ones are found by a check
        say("\n".join([f"  {checks.CROSS} error log, while stopping:", *stage.httpd.unexpected]))
        failed += 1
    if signals.stopped():
        say(f"{signals.name}: not all checks were run.")
        return 1
    say(f"{failed} failed." if failed else "All checks passed.")
    return 1 if failed else 0


def welcome(stage: Stage) -> None:
    """Print the URLs, and commands to try."""
    film, unusual_key = shlex.quote(stage.url(FILM)), shlex.quote(stage.url(UNUSUAL_KEYS[2]))
    say(f"""
usp_s3_wsgi {__version__}: a film in a private S3 bucket, served by Apache

  Open this in a browser   {stage.httpd.url}/
  The film                 {stage.url(FILM)}
  HLS                      {stage.url(PLAYLIST)}
  The status page          {stage.httpd.url}/usp-s3/status
  S3 itself, private       {stage.direct_url}

Try it in another terminal:

  curl -I {film}
  curl -s -r 0-99 -D - -o /dev/null {film}   # the first 100 bytes: 206
  curl {unusual_key}   # an unusual key: {UNUSUAL_KEYS[2]}
  curl -i {shlex.quote(stage.direct_url)}   # S3 without a signature: 403

Apache's error log: {stage.httpd.root}/error.log
Ctrl-C stops it all.""")


if __name__ == "__main__":
    sys.exit(main())
