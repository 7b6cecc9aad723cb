"""The entry point of the command ``usp-s3``: it parses the command line and runs a subcommand."""

from __future__ import annotations

import argparse
import sys

import usp_s3_wsgi
from usp_s3_wsgi.cli import apache_config
from usp_s3_wsgi.cli.convert import command as convert
from usp_s3_wsgi.cli.exit_status import ExitStatus
from usp_s3_wsgi.configtest.apache_syntax import ApacheConfigError

#: Each has ``add_parser(commands)``, whose parser sets ``run``: options in, text for stdout and exit status out.
SUBCOMMANDS = (apache_config, convert)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = parse(arguments)
    try:
        text, status = options.run(options)
    except (OSError, ApacheConfigError) as error:
        print(f"usp-s3: {error}", file=sys.stderr)
        return ExitStatus.FAILED
    # As bytes, because a configuration may contain any bytes.
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.flush()
    return int(status)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line; ``run`` of the result is the subcommand's function."""
    parser = argparse.ArgumentParser(prog="usp-s3", description="Serve private S3 buckets from Apache httpd.")
    parser.add_argument("--version", action="version", version=usp_s3_wsgi.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for subcommand in SUBCOMMANDS:
        subcommand.add_parser(commands)
    return parser.parse_args(arguments)
