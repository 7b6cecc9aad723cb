"""Checks all buckets of a configuration: a report for each of them, and what is wrong with the configuration itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from usp_s3_wsgi.cli.check import bucket_checks, signed_requests, through_httpd
from usp_s3_wsgi.cli.check.bucket_checks import Options
from usp_s3_wsgi.cli.check.result import BucketReport, Result, Verdict, fine, look, not_tested
from usp_s3_wsgi.cli.server.httpd_text import to_shown
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest.bucket_use import BucketUse
from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.configtest.findings import Finding, Findings
from usp_s3_wsgi.configtest.urls import is_path_below, without_secrets
from usp_s3_wsgi.errors import describe_internal_error
from usp_s3_wsgi.status.explanations import Explanations

#: Buckets that are checked at the same time.
_THREADS = 8
#: The name of a check that has failed itself.
INTERNAL_ERROR = "internal error"
_FILE_CODES = frozenset({
    FindingCode.FILE_NOT_READABLE, FindingCode.FILE_WITHOUT_CERTIFICATE, FindingCode.FILE_WITHOUT_KEY,
})  # fmt: skip


def check(uses: Sequence[BucketUse], findings: Findings, options: Options) -> Iterator[BucketReport]:
    """Yield the reports in the order of the configuration. ``findings``: of the whole configuration."""
    with ThreadPoolExecutor(_THREADS) as executor:
        for reports in executor.map(lambda use: list(_reports(use, findings, options)), uses):
            yield from reports


def of_configuration(uses: Sequence[BucketUse], findings: Findings, explanations: Explanations) -> list[Result]:
    """Return the findings that are not about the settings of one of these buckets."""
    known = {location for use in uses for location in _locations(use)}
    return [_result(one, explanations) for one in findings.sorted() if (one.file, one.line) not in known]


def _reports(use: BucketUse, findings: Findings, options: Options) -> Iterator[BucketReport]:
    """Yield the report of a bucket and that of its fallback bucket."""
    chosen, location = use.settings, to_shown(f"{use.directive.file}:{use.directive.line}")
    results = _check_settings(use, findings, options.explanations)
    name, way = to_shown(without_secrets(use.place.name)), use.place.way
    if not isinstance(chosen, Settings):
        paths = [path for path in options.paths if use.place.path and is_path_below(path, use.place.path)]
        results += [through_httpd.check_path(options.configuration, use.place, path) for path in paths]
        yield BucketReport(way, name, location, "", False, tuple(results))
        return
    yield BucketReport(
        way, name, location, _url(chosen), False, (*results, *_check_bucket(use, chosen, options, is_fallback=False))
    )
    if (fallback := chosen.fallback) is not None:
        yield BucketReport(
            way, name, location, _url(fallback), True, _check_bucket(use, fallback, options, is_fallback=True)
        )


def _check_bucket(use: BucketUse, settings: Settings, options: Options, is_fallback: bool) -> tuple[Result, ...]:
    results: list[Result] = []
    try:
        results.extend(bucket_checks.check(use.place, settings, options, is_fallback))
    except Exception as error:  # one bucket's fault must not hide the others' results
        results.append(look(INTERNAL_ERROR, describe_internal_error(error), "report it: this bucket is not checked"))
    return tuple(results)


def _check_settings(use: BucketUse, findings: Findings, explanations: Explanations) -> list[Result]:
    """Return the results of "settings" and "files"."""
    about_this = [one for one in findings.sorted() if (one.file, one.line) in _locations(use)]
    results = [_result(one, explanations) for one in about_this]
    if use.settings is None:
        results.append(not_tested("settings", "rules compute them for each request: name a path with --path"))
    elif isinstance(use.settings, str):
        if not any(one.verdict is Verdict.WRONG for one in results):
            results.append(Result("settings", Verdict.WRONG, use.settings))
    else:
        if not any(one.check == "settings" for one in results):
            results.insert(0, fine("settings", signed_requests.how_signed(use.settings)))
        if not use.reads_files:
            text = "read by the processes of WSGIDaemonProcess, whose user may be another one"
            results.append(not_tested("files", text))
        elif not any(one.check == "files" for one in results) and _names_files(use):
            results.append(fine("files", "the user of httpd's children can read them"))
    return results


def _names_files(use: BucketUse) -> bool:
    return any(value.name.endswith("File") and value.value for value in use.given)


def _locations(use: BucketUse) -> set[tuple[str, int]]:
    directives = (use.directive, *(value.directive for value in use.given))
    return {(directive.file, directive.line) for directive in directives}


def _result(finding: Finding, explanations: Explanations) -> Result:
    check = "files" if finding.code in _FILE_CODES else "settings"
    location = to_shown(f"{finding.file}:{finding.line}: ") if finding.file else ""
    verdict = Verdict.WRONG if finding.is_error else Verdict.LOOK
    action = explanations.of(str(finding.code), "").what_to_do
    return Result(check, verdict, f"{location}{finding.text}", action, (f"usp-s3 explain {finding.code}",))


def _url(settings: Settings) -> str:
    url = settings.bucket_url
    return f"{url.scheme}://{url.authority}{url.prefix}"
