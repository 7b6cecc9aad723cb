"""``usp-s3 get``: download an object from S3, through Apache, or both ways to compare."""

from __future__ import annotations

import re

import click

from usp_s3_wsgi.cli.get.options import Options
from usp_s3_wsgi.cli.server import httpd_config
from usp_s3_wsgi.cli.server.httpd_config import HttpdCommand

_RANGE = re.compile(r"(?:bytes=)?(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")


def _range_header(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    match = _RANGE.fullmatch(value.strip())
    if match is None or (match[2] and int(match[2]) < int(match[1])):
        raise click.BadParameter("write 0-999, 1000- (to the end), or -500 (the last 500 bytes)")
    return f"bytes={value.strip().removeprefix('bytes=')}"


@click.command("get", short_help="Download an object, from S3, through httpd, or both ways.")
@click.argument("key")
@click.option(
    "--from", "place", metavar="PATH", default="", help="The mount of the bucket, such as /media, or a <Proxy> URL."
)
@click.option("-o", "--output", metavar="FILE", default="", help="Write to this file or folder; - is standard output.")
@click.option("--through-apache", is_flag=True, help="Request this server's own URL instead of S3's.")
@click.option("--compare", is_flag=True, help="Request both, and compare bytes, headers and times.")
@click.option("--url", metavar="URL", default="", help="Through the server at this URL, if it cannot be found out.")
@click.option("--range", "range_header", metavar="BYTES", callback=_range_header, help="Only 0-999, 1000- or -500.")
@click.option("--continue", "must_continue", is_flag=True, help="Get the rest of a download that was interrupted.")
@click.option("--force", is_flag=True, help="Overwrite the file, and what is left of an interrupted download.")
@click.option(
    "--repeat", metavar="N", type=click.IntRange(1, 10_000), default=1, help="Download N times, for the times."
)
@click.option(
    "--timeout", metavar="SECONDS", type=click.FloatRange(0.1, 86_400), default=60.0, show_default=True,
    help="Wait this long for bytes from Apache. For S3, S3ProxySet applies.",
)  # fmt: skip
@click.option("--ca-file", metavar="FILE", help="Trust this authority (PEM) for Apache's certificate.")
@click.option("--insecure", is_flag=True, help="Do not verify Apache's certificate. S3's is always verified.")
@click.option("--no-checksums", is_flag=True, help="Do not ask S3 for its checksums.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no summary.")
@httpd_config.options
def command(
    httpd: HttpdCommand,
    key: str,
    place: str,
    output: str,
    through_apache: bool,
    compare: bool,
    url: str,
    range_header: str | None,
    must_continue: bool,
    force: bool,
    repeat: int,
    timeout: float,
    ca_file: str | None,
    insecure: bool,
    no_checksums: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Download an object with the settings of a bucket in httpd's configuration.

    Straight from S3 as the gateway does it: signed, retried, resumed, checked. Or through Apache, or both ways to
    compare: is the object there, are the bytes right, which of the two is slow, where does it break off?

    KEY is what follows the mount in the clients' URLs. A KEY that begins with a slash is the whole path, and needs no
    --from. Spaces and other characters may be written as they are, or percent-encoded: only a percent sign (%25), a
    question mark (%3F) and # (%23) in a key must be encoded.

    The bytes are in FILE.part until they are complete, so FILE is never a truncated one. FILE is the last part of KEY
    if there is no -o; --compare without -o keeps no file.

    \b
    Exit status:
      0  the object is complete (and the same both ways)
      1  it is not, or differs
      2  wrong command line, or httpd's configuration cannot be read

    \b
    Examples:
      usp-s3 get film/1.mp4 --from /media
      usp-s3 get /media/film/1.mp4 --continue
      usp-s3 get --compare --repeat 5 /media/film/1.mp4
      usp-s3 get --through-apache --range 0-99 -o - /media/film/1.mp4 | xxd
      usp-s3 get --url https://cache.example.com/ -o /dev/null /media/film/1.mp4
    """
    from usp_s3_wsgi.cli.get.operation import get  # not before it is used: "usp-s3 --help" does not wait for it

    options = Options(
        output, through_apache, compare, url, range_header, must_continue, force, repeat, timeout, ca_file, insecure,
        no_checksums, as_json, quiet,
    )  # fmt: skip
    return get(httpd, key, place, options)
