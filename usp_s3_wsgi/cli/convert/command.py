"""``usp-s3 convert``: print a configuration of mod_unified_s3_auth as one of usp_s3_wsgi."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from usp_s3_wsgi.cli.convert.conversion import convert
from usp_s3_wsgi.cli.exit_status import ExitStatus


def add_parser(commands: Any) -> None:
    """Add the subcommand to the command line; ``commands``: what ``ArgumentParser.add_subparsers`` returned."""
    parser = commands.add_parser(
        "convert",
        help="print a configuration of mod_unified_s3_auth as one of usp_s3_wsgi",
        description="Print a configuration of mod_unified_s3_auth as one of usp_s3_wsgi.",
        epilog="Warnings and errors go to stderr, each with its line in FILE. Exit status: 0: httpd accepts the "
        "printed text and serves the buckets (there may be warnings); 3: the printed text must be changed first, see "
        "the errors; 1: nothing is printed, because FILE cannot be read or a section in it is not closed; 2: wrong "
        "command line.",
    )
    parser.add_argument(
        "--to",
        choices=("proxy", "gateway"),
        default="proxy",
        help="what sends the requests to S3: mod_proxy, in the sections as they are (the default), or the gateway, in "
        "mounts that replace the sections",
    )
    parser.add_argument("file", metavar="FILE", help="a configuration file of Apache, which is not changed")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> tuple[str, int]:
    """Return the converted text and the exit status, and print warnings and errors to stderr.

    The exit status is ``NEEDS_CHANGES`` if httpd rejects the text, or every request to one of its buckets.

    Raises:
        OSError: the file cannot be read.
        ApacheConfigError: a section of it is not closed, or closed twice.
    """
    with open(options.file, encoding="utf-8", errors="surrogateescape", newline="") as file:
        result = convert(file.read(), options.to, Path(options.file))
    for message in result.messages:
        level = "error" if message.is_error else "warning"
        print(f"usp-s3: {options.file}: line {message.line}: {level}: {message.text}", file=sys.stderr)
    return result.text, ExitStatus.NEEDS_CHANGES if result.errors else ExitStatus.OK
