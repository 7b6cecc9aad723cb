"""The subcommand ``usp-s3 explain``: a code, or a request id of S3."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from usp_s3_wsgi.cli import console
from usp_s3_wsgi.cli.explain import status_url
from usp_s3_wsgi.cli.explain.status_url import StatusURL
from usp_s3_wsgi.cli.server import httpd_config
from usp_s3_wsgi.cli.server.httpd_config import HttpdCommand
from usp_s3_wsgi.cli.server.httpd_text import to_shown
from usp_s3_wsgi.configtest.parsed_config import Configuration

if TYPE_CHECKING:
    from usp_s3_wsgi.cli.explain.codes import Codes

_NOT_CONFIGURED = (
    "no status page is configured, which knows the last failures. Add to httpd's main configuration, and reload it:\n"
    "  UspS3Metrics On\n"
    "  WSGIScriptAlias /usp-s3/status ${USP_S3_STATUS}\n"
    "docs/status.md describes it. It records from then on: search for this request in the error log:\n"
)


def _parse_status(_: click.Context, __: click.Parameter, value: str) -> StatusURL | None:
    return status_url.parse(value) if value else None


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from usp_s3_wsgi.cli.explain.codes import Codes

    try:
        return console.completes(Codes().explanations.by_code)(context, parameter, incomplete)
    except (OSError, click.ClickException):  # the explanations are not installed
        return []


@click.command("explain")
@click.argument("word", metavar="[CODE|REQUEST-ID]", default="", shell_complete=_complete)
@click.option(
    "--status",
    metavar="URL",
    default="",
    callback=_parse_status,
    help="The status page, on this machine (default: found in httpd's configuration).",
)
@httpd_config.options
def command(httpd: HttpdCommand, word: str, status: StatusURL | None) -> None:
    """Explain an error code, or a failed request.

    CODE is one of the error log, such as USPS30305, or one of S3's, such as SignatureDoesNotMatch. Without it all codes
    are listed.

    REQUEST-ID is S3's id of a failed request, as the error log has it. It is searched on the status page of this
    machine's httpd, which keeps the last 8 failures of each bucket. Only loopback is asked, with https without a check
    of the certificate, which is for the server's public name.

    \b
    Exit status:
      0  explained
      1  there is no such code, or no such failure is kept
      2  wrong command line, or httpd's configuration cannot be read

    \b
    Examples:
      usp-s3 explain
      usp-s3 explain USPS30305
      usp-s3 explain 4442587FB7D0A2F9
      usp-s3 explain --status http://127.0.0.1:8081/status 4442587FB7D0A2F9
    """
    # Not at the top: these imports take a tenth of a second, and "usp-s3 --help" needs none of them.
    from usp_s3_wsgi.cli.explain.codes import Codes

    codes = Codes()
    # As it is copied from a log line: "USPS30305:".
    word = word.strip(" \t\n,;:.\"'")
    word = word if " " in word else word.strip("()[]")
    if not word:
        codes.print_all()
    elif code := codes.find(word):
        codes.print(code)
    elif reason := codes.why_none(word):
        raise click.ClickException(reason)
    else:
        _explain_request(word, status, httpd, codes)


def _explain_request(request_id: str, status: StatusURL | None, httpd: HttpdCommand, codes: Codes) -> None:
    from usp_s3_wsgi.cli.explain import failure, layout

    configuration = None if status else httpd_config.read(httpd)
    urls = [status] if status else status_url.find(configuration) if configuration else []
    if configuration and not status_url.is_configured(configuration):
        raise click.ClickException(f"{_NOT_CONFIGURED}{_search(request_id, configuration, httpd)}")
    if not urls:
        raise click.ClickException(
            "httpd has a status page, but listens on no address of loopback where it is served; --status names another "
            "one"
        )
    url, document = _fetch(urls)
    found = failure.search(document, request_id)
    if not found:
        raise click.ClickException(
            f"{url} keeps no failure with the request id {request_id}. It keeps the last 8 failures of each bucket; of "
            "equal failures within one second it keeps only the first. Requests that succeed are not kept. "
            "Search in the error log, whose lines docs/logging.md describes:\n"
            f"{_search(request_id, configuration, httpd)}"
        )
    for number, each in enumerate(found):
        if number:
            layout.paragraph("")
        failure.show(each, url, codes)


def _fetch(urls: list[StatusURL]) -> tuple[StatusURL, dict[str, Any]]:
    """Return the first page that answers, and what it knows. Raises: click.ClickException."""
    from usp_s3_wsgi.cli.explain import status_client

    by_reason: dict[str, list[str]] = {}
    for url in urls:
        try:
            return url, status_client.fetch(url)
        except status_client.StatusUnavailable as error:
            by_reason.setdefault(str(error).removeprefix(str(url)), []).append(str(url))
    reasons = [f"  {', '.join(failed)}{reason}" for reason, failed in by_reason.items()]
    raise click.ClickException("\n".join(["the status page cannot be read:", *reasons]))


def _search(request_id: str, configuration: Configuration | None, httpd: HttpdCommand) -> str:
    """Return the command that searches the error log."""
    dump = ""
    with suppress(httpd_config.HttpdConfigError):  # without it, a path may stay relative
        dump = httpd_config.run_configuration(httpd) if configuration else ""
    files = status_url.error_logs(configuration, dump) if configuration else []
    files = [to_shown(file) for file in files] or ["/var/log/apache2/error.log"]
    note = "" if all(file.startswith("/") for file in files) else "  # in httpd's ServerRoot"
    return f"  grep -F -e {shlex.quote(request_id)} {' '.join(map(shlex.quote, files))}{note}"
