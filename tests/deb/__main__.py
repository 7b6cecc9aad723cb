"""Build, install, upgrade, remove and purge the Debian packages on minimal machines: ``make test-deb``.

    .venv/bin/python -m tests.deb                # bookworm and trixie
    .venv/bin/python -m tests.deb --jobs 2 trixie

One machine of each suite builds HEAD of this clone with ``make deb``, and once more with a higher version. On another
one Debian's Apache serves the object of an embedded S3 with them, both ways in (operation.py). The machines are those
of tests/fresh, with its folder for base machines and logs (--cache, or FRESH_CACHE), and with the caller's network. The
exit status is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.deb.operation import Failure, operate
from tests.fresh.machine import CACHE, SetupError, base_image, machine, say, write_bundle

SUITES = ("bookworm", "trixie")
CLONE = "/root/usp_s3_wsgi"
#: The second build differs in its version.
RAISE_VERSION = "sed -i '1s/-1)/-2)/' debian/changelog && grep -q -e '-2)' debian/changelog"


def build(suite: str, base: Path, bundle: Path) -> list[Path]:
    """Build the packages with two versions; returns the folders with the files. Raises: SetupError."""
    folders = []
    with machine(base, suite, base.parent / f"{suite}-deb-build.log") as builder:
        shutil.copy(bundle, builder.folder / "clone.bundle")
        builder.run_checked(f"git clone -q /clone.bundle {CLONE}")
        for name, preparation in (("lower", "true"), ("higher", RAISE_VERSION)):
            out = base.parent / f"{suite}-deb-{name}"
            shutil.rmtree(out, ignore_errors=True)
            builder.run_checked(f"cd {CLONE} && {preparation} && make deb && rm build/deb/*-dbgsym_*.deb")
            shutil.copytree(builder.folder / CLONE[1:] / "build" / "deb", out)
            shutil.copytree(out, builder.folder / name)
            shutil.rmtree(builder.folder / CLONE[1:] / "build")
            folders.append(out)
        builder.run_checked(f"cd {CLONE} && apt-get install -y -q lintian && lintian --fail-on error /lower/*.deb")
    return folders


def run_suite(suite: str, base: Path, bundle: Path) -> str:
    """Test the packages of a suite; returns why it failed, or an empty string."""
    started = time.monotonic()
    try:
        say(f"{suite}: building; the log is {base.parent / f'{suite}-deb-build.log'}")
        lower, higher = build(suite, base, bundle)
        say(f"{suite}: built in {time.monotonic() - started:.0f} s")
        with machine(base, suite, base.parent / f"{suite}-deb.log") as fresh:
            say(f"{suite}: the log is {fresh.log}")
            with fresh.kept_running():
                for step in operate(fresh, lower, higher):
                    say(f"{suite}: {step}")
    except (SetupError, Failure) as error:
        return str(error)
    finally:
        say(f"{suite}: {time.monotonic() - started:.0f} s")
    return ""


def main() -> int:
    """Test all suites; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.deb", description=__doc__.partition("\n")[0])
    parser.add_argument("suites", nargs="*", default=SUITES, help=f"suites of Debian (default: {' '.join(SUITES)})")
    parser.add_argument("--jobs", type=int, default=1, help="number of suites that are tested at the same time (1)")
    parser.add_argument(
        "--cache",
        type=Path,
        default=CACHE,
        help="the folder for base machines, packages and logs (default: $FRESH_CACHE or /var/tmp/usp_s3_wsgi-fresh)",
    )
    arguments = parser.parse_args()
    if os.geteuid():
        parser.error("only root can make the machines")
    arguments.cache.mkdir(parents=True, exist_ok=True)
    bundle = arguments.cache / "clone-deb.bundle"
    write_bundle(bundle)
    try:
        bases = {suite: base_image(suite, arguments.cache) for suite in arguments.suites}
    except SetupError as error:
        print(f"*** {error}")
        return 1
    with ThreadPoolExecutor(arguments.jobs) as pool:
        futures = {suite: pool.submit(run_suite, suite, base, bundle) for suite, base in bases.items()}
    failures = {suite: failure for suite, future in futures.items() if (failure := future.result())}
    for suite in bases:
        print(f"{suite}: {failures.get(suite) or 'ok'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
