"""Build the container image, and test it: ``make image``, ``make test-image``.

    .venv/bin/python -m tests.image build                  # usp_s3_wsgi:VERSION, from apache/container/Dockerfile
    .venv/bin/python -m tests.image test                   # both parts
    .venv/bin/python -m tests.image test --part image      # build the image, and run tests/image
    .venv/bin/python -m tests.image test --part httpd      # the tests of httpd with the httpd of the official image
    .venv/bin/python -m tests.image engine                 # print the engine that works here

The variable ENGINE chooses docker or podman. ENGINE=none: the tests of httpd run in a chroot (as root).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from tests.fresh.machine import say
from tests.image.build import ROOT, build_image
from tests.image.engine import Engine, EngineError, find, why_none
from tests.image.httpd_tests import TESTS, run_httpd_tests

PARTS = ("image", "httpd")
#: The tests of the image run only with this variable, which names the image: another one may be old.
IMAGE_VARIABLE = "TEST_IMAGE"


def main() -> int:
    """Run a command; returns the exit status."""
    arguments = parse_arguments()
    try:
        engine = find()
        if arguments.command == "engine":
            print(engine.name if engine else why_none() or "none, as ENGINE says")
            return 0 if engine else 1
        if arguments.command == "build":
            build_image(needed(engine))
            return 0
        return test(engine, arguments.part, arguments.tests)
    except (EngineError, ValueError) as error:
        print(f"\n*** {error}", file=sys.stderr)
        if isinstance(error, EngineError) and arguments.command == "test" and arguments.if_possible:
            say("the tests of the image could not run on this machine")
            return 0
        return 1


def test(engine: Engine | None, part: str, tests: list[str]) -> int:
    """Run the tests of one part, or of both; returns the exit status."""
    ok = True
    if part != "httpd":
        if engine or part:
            ok &= test_image(needed(engine), tests if part else [])
        else:
            say("the image is not tested, which needs a container engine: docker or podman")
            ok &= os.environ.get("ENGINE") == "none"
    if part != "image":
        ok &= run_httpd_tests(engine, tests)
    return 0 if ok else 1


def test_image(engine: Engine, tests: list[str]) -> bool:
    """Build the image and run its tests; whether they succeeded."""
    environment = {**os.environ, IMAGE_VARIABLE: build_image(engine)}
    command = [sys.executable, "-m", "pytest", "-q", *(tests or ["tests/image"])]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def needed(engine: Engine | None) -> Engine:
    """The engine. Raises: EngineError if there is none."""
    if engine is None:
        raise EngineError(f"This needs a container engine, docker or podman, and none works here.\n{why_none()}")
    return engine


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.image", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("engine", help="print the container engine that works here")
    commands.add_parser("build", help="build the image")
    command = commands.add_parser("test", help="run the tests of the image, and those of httpd with its httpd")
    command.add_argument("--part", choices=PARTS, default="", help="only one of them")
    tests = f"files of tests, and options of pytest (default for httpd: {' '.join(TESTS)})"
    command.add_argument("--if-possible", action="store_true", help="succeed where no image can be made")
    command.add_argument("tests", nargs=argparse.REMAINDER, help=tests)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
