"""``usp-s3 convert``: print a configuration of mod_unified_s3_auth as one of usp_s3_wsgi."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from usp_s3_wsgi.cli.convert.conversion import convert
from usp_s3_wsgi.cli.exit_status import ExitStatus


@click.command("convert", short_help="Convert a configuration of mod_unified_s3_auth.")
@click.option(
    "--to",
    type=click.Choice(["proxy", "gateway"]),
    default="proxy",
    show_default=True,
    help="What sends the requests to S3: mod_proxy, in the sections as they are, or the gateway, in mounts that "
    "replace the sections.",
)
@click.argument("file", type=click.Path(path_type=Path))
def command(to: Literal["proxy", "gateway"], file: Path) -> int:
    """Print a configuration of mod_unified_s3_auth as one of usp_s3_wsgi.

    FILE is a configuration file of Apache, which is not changed. Warnings and errors go to standard error, each with
    its line in FILE.

    \b
    Exit status:
      0  httpd accepts the printed text and serves the buckets (there may be warnings)
      1  nothing is printed: FILE cannot be read, or a section in it is not closed
      2  wrong command line
      3  the printed text must be changed first, see the errors

    \b
    Examples:
      usp-s3 convert /etc/apache2/sites-available/media.conf > media.conf
      usp-s3 convert --to gateway old.conf > new.conf
    """
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as opened:
        result = convert(opened.read(), to, file)
    for message in result.messages:
        level = "error" if message.is_error else "warning"
        click.echo(f"usp-s3: {file}: line {message.line}: {level}: {message.text}", err=True)
    # As bytes, because a configuration may contain any bytes.
    click.echo(result.text.encode("utf-8", "surrogateescape"), nl=False)
    return ExitStatus.NEEDS_CHANGES if result.errors else ExitStatus.OK
