"""Checks all buckets of a configuration: a report for each of them, and what is wrong with the configuration itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from usp_s3_wsgi.cli.check import bucket_checks, signed_requests, through_httpd
from usp_s3_wsgi.cli.check.bucket_checks import Options
from usp_s3_wsgi.cli.check.result import BucketReport, Result, Verdict, fine, look, not_tested, wrong
from usp_s3_wsgi.cli.server import objects
from usp_s3_wsgi.config.settings import Settings
from usp_s3_wsgi.configtest.bucket_use import BucketUse, Place
from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.configtest.findings import Finding, Findings
from usp_s3_wsgi.configtest.urls import is_path_below, without_secrets
from usp_s3_wsgi.errors import describe_internal_error
from usp_s3_wsgi.status.explanations import Explanations

#: Buckets that are checked at the same time.
_THREADS = 8
#: The name of a check that has failed itself.
INTERNAL_ERROR = "internal error"
#: Warnings of configtest, because a rule may explain them, with which requests fail all the same.
_WRONG_CODES = frozenset({FindingCode.SECTION_NOT_USED_SIMILAR_URL, FindingCode.SECTION_URL_MISMATCH})
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
    chosen, location = use.settings, f"{use.directive.file}:{use.directive.line}"
    results = _check_settings(use, findings, options)
    name, way = without_secrets(use.place.path or use.place.name), use.place.way
    if not isinstance(chosen, Settings):
        paths = [path for path in options.paths if use.place.path and is_path_below(path, use.place.path)]
        results += [through_httpd.check_path(options.configuration, use.place, path) for path in paths]
        yield BucketReport(way, name, location, "", False, tuple(results))
        return
    are_files_wrong = any(one.check == "files" and one.verdict is Verdict.WRONG for one in results)
    found = _check_bucket(use, chosen, options, is_fallback=False)
    # The same file again says nothing new.
    results += [one for one in found if not (are_files_wrong and one.check == "identity")]
    yield BucketReport(way, name, location, _url(use.place, chosen), False, tuple(results))
    if (fallback := chosen.fallback) is not None:
        yield BucketReport(
            way, name, location, _url(None, fallback), True, _check_bucket(use, fallback, options, is_fallback=True)
        )


def _check_bucket(use: BucketUse, settings: Settings, options: Options, is_fallback: bool) -> tuple[Result, ...]:
    results: list[Result] = []
    try:
        results.extend(bucket_checks.check(use.place, settings, options, is_fallback))
    except Exception as error:  # one bucket's fault must not hide the others' results
        results.append(look(INTERNAL_ERROR, describe_internal_error(error), "report it: this bucket is not checked"))
    return tuple(results)


def _check_settings(use: BucketUse, findings: Findings, options: Options) -> list[Result]:
    """Return the results of "settings" and "files"."""
    explanations = options.explanations
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
        if use.place.way == "proxy" and objects.is_mapped_by_prefix(use.place) and _has_slash_on_one_side(use.place):
            text = f'ProxyPass "{use.place.path}" "{without_secrets(use.place.url)}" has a slash at one end only'
            results.append(wrong("settings", text, "write it at both ends or at neither: the key becomes another one"))
        if options.configuration.may_lack_permission and _names_files(use):
            results = [one for one in results if one.check != "files"]
            results.append(not_tested("files", "only root can become the user of httpd's children: run it as root"))
        elif not use.reads_files:
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
    location = f"{finding.file}:{finding.line}: " if finding.file else ""
    verdict = Verdict.WRONG if finding.is_error or finding.code in _WRONG_CODES else Verdict.LOOK
    action = explanations.of(str(finding.code), "").what_to_do
    return Result(check, verdict, f"{location}{finding.text}", action, (f"usp-s3 explain {finding.code}",))


def _has_slash_on_one_side(place: Place) -> bool:
    """Whether mod_proxy inserts a slash before each key, or removes one."""
    return (place.path or "").endswith("/") != place.url.endswith("/")


def _url(place: Place | None, settings: Settings) -> str:
    if place is not None and place.url:
        return without_secrets(place.url)
    url = settings.bucket_url
    return f"{url.scheme}://{url.authority}{url.prefix}"
