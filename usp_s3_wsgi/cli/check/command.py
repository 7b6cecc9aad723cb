"""The subcommand ``usp-s3 check``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
from usp_s3_wsgi.cli.server.httpd_text import from_argument, to_shown
from usp_s3_wsgi.cli.server.proxy_tls import read_authorities
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
      0  requests are served; "look" marks what should be changed
      1  something is wrong
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
    paths = tuple(objects.as_in_url(path) for path in paths)
    if wrong := next((path for path in paths if not path.startswith("/")), None):
        raise click.UsageError(f"--path {wrong}: a path of this server begins with a slash")
    names = tuple(from_argument(name) for name in names)
    configuration = httpd_config.read(httpd)
    try:
        text = (share_directory() / "errors.md").read_text("utf-8")
        explanations = Explanations(_ADVICE_TO_CHECK.sub("", text))
    except OSError:
        explanations = Explanations("")
    options = Options(configuration, explanations, key, paths)
    read_authorities(configuration)
    _import_what_is_imported_late()
    found = _Found()
    try:
        for value in separate_user.run(configuration, lambda: check_all(names, options)):
            found.add(value)
            if not as_json:
                _print(value)
    except separate_user.SeparateProcessError as error:
        raise CheckError(str(error)) from None
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        from usp_s3_wsgi.cli.check import output

        output.print_summary(found.results, found.reports)
    return found.status


@dataclass
class _Found:
    """What was found: about the configuration itself, and about each bucket."""

    results: list[Result] = field(default_factory=list)
    reports: list[BucketReport] = field(default_factory=list)

    def add(self, value: dict[str, Any]) -> None:
        """Add a value of :func:`check_all`. Raises: CheckError."""
        match value:
            case {"error": str(message)}:
                raise CheckError(message)
            case {"configuration": list(found)}:
                self.results = [Result.from_dict(one) for one in found]
            case _:
                self.reports.append(BucketReport.from_dict(value))

    @property
    def verdict(self) -> Verdict:
        """The verdict that counts most."""
        return worst([*(one.verdict for one in self.results), *(one.verdict for one in self.reports)])

    @property
    def status(self) -> ExitStatus:
        """FAILED if something is wrong; USAGE if nothing was tested, or not all that should have been."""
        if self.verdict is Verdict.WRONG:
            return ExitStatus.FAILED
        is_checked = all(one.check != report.INTERNAL_ERROR for bucket in self.reports for one in bucket.results)
        return ExitStatus.OK if is_checked and self.verdict is not Verdict.NOT_TESTED else ExitStatus.USAGE

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "verdict": self.verdict,
            "configuration": [one.to_dict() for one in self.results],
            "buckets": [one.to_dict() for one in self.reports],
        }


def check_all(names: Sequence[str], options: Options) -> Iterator[dict[str, Any]]:
    """Yield the findings about the configuration, then a report for each bucket, or an error."""
    findings = configtest.check(options.configuration)
    by_identity: dict[tuple[object, ...], BucketUse] = {}
    for use in sorted(findings.buckets, key=lambda use: use.settings is None):
        by_identity.setdefault(_identity(use), use)
    uses = [use for use in findings.buckets if by_identity[_identity(use)] is use]
    about_configuration = report.of_configuration(uses, findings, options.explanations)
    if names:
        about_configuration = [one for one in about_configuration if any(_is_about(one, name) for name in names)]
    unknown = [name for name in names if not any(_is_named(use, name) for use in uses)]
    unknown = [name for name in unknown if not any(_is_about(one, name) for one in about_configuration)]
    nowhere = [path for path in options.paths if not any(report.serves(use, path) for use in uses)]
    if not uses and not about_configuration:
        yield {"error": "no bucket is configured"}
    elif unknown or nowhere:
        places = dict.fromkeys(to_shown(without_secrets(use.place.path or use.place.name)) for use in uses)
        known = "\n  ".join(places)
        yield {"error": f"no bucket is configured at {to_shown((unknown or nowhere)[0])}; there are:\n  {known}"}
    else:
        yield {"configuration": [result.to_dict() for result in about_configuration]}
        chosen = [use for use in uses if not names or any(_is_named(use, name) for name in names)]
        options = options._replace(is_key_of_each=len(chosen) == 1 or bool(names))
        for one in report.check(chosen, findings, options):
            yield one.to_dict()


def _is_about(result: Result, name: str) -> bool:
    """Whether a finding about the configuration names a bucket."""
    shown = to_shown(name.rstrip("/"))
    return bool(shown) and shown in result.text


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


def _print(value: dict[str, Any]) -> None:
    """Print a value of :func:`check_all`."""
    from usp_s3_wsgi.cli import console
    from usp_s3_wsgi.cli.check import output

    if "configuration" not in value:
        output.print_report(BucketReport.from_dict(value))
    elif value["configuration"]:
        console.output().print(console.text("configuration", "bold"))
        output.print_results([Result.from_dict(one) for one in value["configuration"]])


def _import_what_is_imported_late() -> None:
    """The user of httpd's children may not be able to read this installation's files."""
    import email.utils
    import encodings.idna
    import html.entities
    import ssl

    _ = (email.utils, encodings.idna, html.entities, ssl)
