"""The subcommand ``usp-s3 check``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import click

from usp_s3_wsgi import configtest
from usp_s3_wsgi.cli.apache_config import share_directory
from usp_s3_wsgi.cli.check import report, separate_user
from usp_s3_wsgi.cli.check.bucket_checks import Options
from usp_s3_wsgi.cli.check.result import BucketReport, Result, Verdict, worst
from usp_s3_wsgi.cli.exit_status import ExitStatus
from usp_s3_wsgi.cli.server import httpd_config, objects
from usp_s3_wsgi.cli.server.httpd_config import HttpdCommand
from usp_s3_wsgi.cli.server.httpd_text import to_shown
from usp_s3_wsgi.configtest.bucket_use import BucketUse
from usp_s3_wsgi.configtest.urls import without_secrets
from usp_s3_wsgi.status.explanations import Explanations

#: What the explanations say of this command itself.
_ADVICE_TO_CHECK = re.compile(r"\s*`usp-s3 check[^.]*\.")


class CheckError(click.ClickException):
    """Nothing could be checked."""

    exit_code = ExitStatus.USAGE


@click.command("check", short_help="Say what is wrong with each bucket, and what to change.")
@httpd_config.options
@click.option(
    "--bucket", "names", metavar="NAME", multiple=True, help="Only this bucket: its mount, URL, host or name."
)
@click.option(
    "--key", metavar="KEY", default="", help="An existing object, such as film/1.mp4, to read one byte of it."
)
@click.option(
    "--path", "paths", metavar="PATH", multiple=True, help="A path of this server whose bucket a rule or a map names."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for scripts.")
def command(httpd: HttpdCommand, names: tuple[str, ...], key: str, paths: tuple[str, ...], as_json: bool) -> int:
    """Check each configured bucket, and say what to change.

    Takes the configuration as httpd sees it, and sends a few signed requests to each bucket: a HEAD and GETs of one
    byte, a listing of one name, and the header of an upload without a body, which changes nothing. Run it as root: it
    becomes the user of httpd's children, and reads key files as they do.

    \b
    Exit status:
      0  everything is fine, or should only be looked at
      1  something is wrong: requests fail
      2  could not check: wrong command line, httpd's configuration cannot be read, no bucket

    \b
    Examples:
      usp-s3 check
      usp-s3 check --bucket /media --key film/1.mp4
      usp-s3 check --path /media/films/film/1.mp4    where a map names the bucket
      usp-s3 check -f /usr/local/apache2/conf/httpd.conf --json | jq .verdict
    """
    if key:
        objects.encode_path(key)  # an impossible one is an error before anything is sent
    configuration = httpd_config.read(httpd)
    try:
        text = (share_directory() / "errors.md").read_text("utf-8")
        explanations = Explanations(_ADVICE_TO_CHECK.sub("", text))
    except OSError:
        explanations = Explanations("")
    options = Options(configuration, explanations, key, paths)
    _import_what_is_imported_late()
    results: list[Result] = []
    reports: list[BucketReport] = []
    for value in separate_user.run(configuration, lambda: check_all(names, options)):
        match value:
            case {"error": str(message)}:
                raise CheckError(message)
            case {"configuration": list(found)}:
                results = [Result.from_dict(one) for one in found]
                if not as_json:
                    _print_configuration(results)
            case _:
                reports.append(BucketReport.from_dict(value))
                if not as_json:
                    _print(reports[-1])
    verdict = worst([*(one.verdict for one in results), *(one.verdict for one in reports)])
    if as_json:
        document = {
            "verdict": verdict,
            "configuration": [one.to_dict() for one in results],
            "buckets": [one.to_dict() for one in reports],
        }
        click.echo(json.dumps(document, indent=2))
    else:
        from usp_s3_wsgi.cli.check import output

        output.print_summary(reports)
    if verdict is Verdict.WRONG:
        return ExitStatus.FAILED
    is_checked = all(one.check != report.INTERNAL_ERROR for bucket in reports for one in bucket.results)
    return ExitStatus.OK if is_checked else ExitStatus.USAGE


def check_all(names: Sequence[str], options: Options) -> Iterator[dict[str, Any]]:
    """Yield the findings about the configuration, then a report for each bucket, or an error."""
    findings = configtest.check(options.configuration)
    by_identity: dict[tuple[object, ...], BucketUse] = {}
    for use in sorted(findings.buckets, key=lambda use: use.settings is None):
        by_identity.setdefault(_identity(use), use)
    uses = [use for use in findings.buckets if by_identity[_identity(use)] is use]
    chosen = [use for use in uses if not names or any(_is_named(use, name) for name in names)]
    if not chosen:
        known = "\n  ".join(dict.fromkeys(to_shown(without_secrets(use.place.name)) for use in uses))
        missing = "no bucket is configured" if not uses else f"no such bucket is configured; there are:\n  {known}"
        yield {"error": missing}
        return
    about_configuration = [] if names else report.of_configuration(uses, findings, options.explanations)
    yield {"configuration": [result.to_dict() for result in about_configuration]}
    for one in report.check(chosen, findings, options):
        yield one.to_dict()


def _identity(use: BucketUse) -> tuple[object, ...]:
    """Several virtual hosts may include the same section, or inherit it."""
    pairs = tuple((value.name, value.value) for value in use.given)
    return use.place.way, use.place.name, use.directive.file, use.directive.line, pairs


def _is_named(use: BucketUse, name: str) -> bool:
    names = {use.place.name, use.place.path, use.place.url}
    if not isinstance(use.settings, str | None):
        url = use.settings.bucket_url
        names |= {url.bucket, url.host, url.authority, f"{url.scheme}://{url.authority}{url.prefix}"}
    return name.rstrip("/") in {one.rstrip("/") for one in names if one}


def _print_configuration(results: Sequence[Result]) -> None:
    from usp_s3_wsgi.cli import console
    from usp_s3_wsgi.cli.check import output

    if results:
        console.output().print(console.text("configuration", "bold"))
        output.print_results(results)


def _print(one: BucketReport) -> None:
    from usp_s3_wsgi.cli.check import output

    output.print_report(one)


def _import_what_is_imported_late() -> None:
    """The user of httpd's children may not be able to read this installation's files."""
    import email.utils
    import encodings.idna
    import html.entities
    import ssl

    _ = (email.utils, encodings.idna, html.entities, ssl)
