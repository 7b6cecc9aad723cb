"""Build the image ``usp_s3_wsgi`` from apache/container/Dockerfile."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.fresh.machine import say
from tests.image.base import describe, ensure_base
from tests.image.engine import LIMIT, Engine, EngineError
from usp_s3_wsgi import __version__

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "apache" / "container" / "Dockerfile"
NAME = "usp_s3_wsgi"
TAG = f"{NAME}:{__version__}"


def git(*arguments: str) -> str:
    """The output of a git command in this clone; empty if it is none."""
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def revision() -> str:
    """The commit of this clone. ``-dirty``: files differ from it."""
    commit = git("rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and git("status", "--porcelain") else commit


def build_image(engine: Engine) -> str:
    """Build the image from this tree, and print its name, size and base; returns its name. Raises: EngineError."""
    if not DOCKERFILE.exists():
        raise EngineError(f"{DOCKERFILE.relative_to(ROOT)} does not exist")
    ensure_base(engine)
    started = time.monotonic()
    arguments = {
        "VERSION": __version__,
        "REVISION": revision(),
        "CREATED": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    engine.build(ROOT, DOCKERFILE, TAG, arguments=arguments)
    engine.call("tag", TAG, f"{NAME}:latest")
    megabytes = int(engine.image(TAG, "{{.Size}}")) / 1_000_000
    say(
        f"image {TAG} and {NAME}:latest: {megabytes:.0f} MB, built with {engine.name} in "
        f"{time.monotonic() - started:.0f} s on {describe(engine)}"
    )
    return TAG
