"""What ``usp-s3 get`` does: it downloads one way or both ways, and shows the result."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import click

from usp_s3_wsgi.cli.exit_status import ExitStatus
from usp_s3_wsgi.cli.get import apache_source, progress, report
from usp_s3_wsgi.cli.get.apache_source import ApacheSource
from usp_s3_wsgi.cli.get.download import Download, DownloadError, Source, run
from usp_s3_wsgi.cli.get.files import Compared, Discarded, PartFile, Stream, Temporary, is_stream
from usp_s3_wsgi.cli.get.options import STDOUT, Options
from usp_s3_wsgi.cli.get.report import Result
from usp_s3_wsgi.cli.get.s3_source import S3Source
from usp_s3_wsgi.cli.server import httpd_config, objects
from usp_s3_wsgi.cli.server.httpd_config import HttpdCommand
from usp_s3_wsgi.cli.server.httpd_environment import environment_of
from usp_s3_wsgi.cli.server.objects import ServedObject
from usp_s3_wsgi.cli.server.own_url import own_url
from usp_s3_wsgi.cli.server.proxy_tls import ProxyTLS
from usp_s3_wsgi.configtest.parsed_config import Configuration


def get(httpd: HttpdCommand, key: str, place: str, options: Options) -> int:
    """Download the object and return the exit status. Raises: click.ClickException, OSError."""
    _check(options)
    configuration = httpd_config.read(httpd)
    served = _with_trust_of_mod_ssl(configuration, objects.find(configuration, key, place))
    sources: list[Source] = [S3Source(served, not options.no_checksums)] if options.from_s3 else []
    if options.from_apache:
        sources.append(_apache(configuration, served, options))
    with environment_of(configuration):
        result = _compare(key, sources, served, options) if options.compare else _get(key, sources[0], served, options)
    report.show_failures(result)
    first = result.runs[0][0]
    if result.stored is not None and first.failure is not None and first.length:
        _say_what_is_left(result.stored)
    if not options.quiet:
        report.show_table(result)
    if options.as_json:
        click.echo(json.dumps(report.to_json(result), indent=2))
    return ExitStatus.FAILED if result.failures or result.is_equal is False else ExitStatus.OK


def _with_trust_of_mod_ssl(configuration: Configuration, served: ServedObject) -> ServedObject:
    """Return the object with the authorities that a <Proxy> section trusts, where mod_ssl connects to S3."""
    used = served.used
    if used.place.way != "proxy":
        return served
    settings = ProxyTLS(configuration, used.place).settings_with_trust(used.settings)
    return served._replace(used=used._replace(settings=settings))


def _check(options: Options) -> None:
    if options.output == STDOUT and (options.as_json or options.must_continue or options.compare):
        raise click.UsageError("-o - writes the object to standard output: not with --json, --continue or --compare")
    if options.compare and options.must_continue:
        raise click.UsageError("--continue is for one download: not with --compare")
    if options.compare and options.through_apache:
        raise click.UsageError("--compare is both ways: not with --through-apache")
    if not options.from_apache and (options.insecure or options.ca_file):
        raise click.UsageError("--ca-file and --insecure are about Apache's certificate; S3CAFile is about S3's")


def _apache(configuration: Configuration, served: ServedObject, options: Options) -> ApacheSource:
    own, request_target = apache_source.parse_url(options.url) if options.url else (None, "")
    request_target = request_target or served.own_target or ""
    if not request_target:
        raise click.UsageError("the path of this object on this server is not known here: name its URL with --url")
    return ApacheSource(
        own or own_url(configuration, served.used.place),
        request_target,
        timeout=options.timeout,
        ca_file=options.ca_file,
        is_insecure=options.insecure,
    )


def _file(served: ServedObject, options: Options) -> PartFile:
    path = Path(options.output or ".")
    if path.is_dir():
        if not served.file_name:
            raise click.UsageError("the key ends with a slash: name the file with -o")
        path /= served.file_name
    url = S3Source(served, False).url
    return PartFile(path, url, options.range_header, force=options.force, must_continue=options.must_continue)


def _get(key: str, source: Source, served: ServedObject, options: Options) -> Result:
    """Download one way."""
    is_device = bool(options.output) and is_stream(Path(options.output))
    destination: PartFile | Stream
    if options.output == STDOUT or is_device:
        if options.must_continue:
            raise click.UsageError("--continue needs a file")
        destination = Stream(None if options.output == STDOUT else Path(options.output))
    else:
        destination = _file(served, options)
    first = _store(source, destination, options)
    runs = [first]
    _repeat([source], [runs], options)
    return Result(key, [runs], stored=destination if isinstance(destination, PartFile) else None)


def _compare(key: str, sources: list[Source], served: ServedObject, options: Options) -> Result:
    """Download both ways, and compare."""
    keeps_file = bool(options.output) and not is_stream(Path(options.output))
    destination = _file(served, options) if keeps_file else Temporary()
    first = _store(sources[0], destination, options)
    bar = progress.make(options.quiet)
    is_equal = difference = None
    if first.failure is not None:
        second = run(sources[1], options.range_header, Discarded(), bar)
    else:
        with destination.read() as stored:
            compared = Compared(stored)
            second = run(sources[1], options.range_header, compared, bar)
            if second.failure is None:
                compared.finish()
                difference = None if compared.difference is None else first.first + compared.difference
                is_equal = difference is None
    runs = [[first], [second]]
    _repeat(sources, runs, options)
    headers = report.compare_headers(first, second) if first.headers and second.headers else []
    stored_file = destination if isinstance(destination, PartFile) else None
    return Result(key, runs, stored_file, is_equal, difference, headers)


def _store(source: Source, destination: PartFile | Stream | Temporary, options: Options) -> Download:
    """Download to the destination, which is complete afterwards, or has no other name than before."""
    try:
        download = run(source, options.range_header, destination, progress.make(options.quiet))
        if download.failure is None:
            destination.complete()
        elif any(check.is_different for check in download.checks):
            destination.give_up()
        else:
            destination.close()
    except BaseException as error:
        with suppress(OSError):
            destination.close()
        is_interruption = isinstance(error, (KeyboardInterrupt, OSError))
        if isinstance(destination, PartFile) and destination.has_begun and is_interruption:
            _say_what_is_left(destination)
        raise
    return download


def _say_what_is_left(file: PartFile) -> None:
    """Say how an interrupted download can be continued."""
    size = f"{file.part.stat().st_size:,} bytes are in {file.part}"
    if file.can_be_continued:
        click.echo(f"usp-s3: {size}: the same command with --continue gets the rest", err=True)
    else:
        click.echo(f"usp-s3: {size}, which cannot be continued", err=True)


def _repeat(sources: list[Source], runs: list[list[Download]], options: Options) -> None:
    """Download again, for the times: both ways in turn, until one fails."""
    bar = progress.make(options.quiet)
    for _ in range(options.repeat - 1):
        for source, downloads in zip(sources, runs, strict=True):
            if downloads[-1].failure is not None:
                return
            again = run(source, options.range_header, Discarded(), bar)
            if again.failure is None and again.sha256 != downloads[0].sha256:
                again.failure = DownloadError("a repeated download has other bytes than the first one")
            downloads.append(again)
