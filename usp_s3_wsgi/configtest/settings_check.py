"""Checks the settings that apply to a request with the parser of settings, and finds the line of each error."""

from __future__ import annotations

from usp_s3_wsgi.config import settings
from usp_s3_wsgi.configtest.bucket_use import BucketUse, Place
from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.server_config import Value, Variables
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.proxy import section_settings

_BY_LOWERCASE = {name.lower(): name for name in settings.NAMES}


def is_gateway_only(name: str) -> bool:
    """Whether only the gateway has this setting, so that it is not allowed where mod_proxy sends the requests."""
    return name in section_settings.GATEWAY_ONLY


def s3_variables(variables: Variables) -> list[Value]:
    """Return the variables that may be settings: those that the parser of settings gets."""
    return [value for name, value in variables.items() if name.startswith("s3")]


def check_values(findings: Findings, variables: Variables, reads_files: bool = True) -> bool:
    """Report each value that is not allowed and each misspelled name; return whether there is none.

    ``reads_files``: the files are read by the user of httpd's children, so that they can be checked.
    """
    is_valid = True
    for value in s3_variables(variables):
        try:
            settings.check_value(value.name, value.value)
        except SettingError as error:
            is_known = value.name in settings.NAMES
            code = FindingCode.INVALID_VALUE if is_known else FindingCode.MISSPELLED_SETTING
            findings.error(code, value.directive, str(error))
            is_valid = False
    if is_valid and reads_files:
        _add_files(findings, variables)
    return is_valid


def warn_of_misspelled(findings: Findings, variables: Variables) -> None:
    """Report names that are similar to those of settings, in a section where no setting shows that S3 is meant."""
    for value in s3_variables(variables):
        try:
            if not value.name.isupper():  # another program's variable
                settings.check_value(value.name, value.value)
        except SettingError as error:
            findings.warning(FindingCode.MISSPELLED_SETTING, value.directive, str(error))


def check_settings(
    findings: Findings,
    variables: Variables,
    proxied_url: str | None,
    default: Directive,
    reads_files: bool = True,
    place: Place | None = None,
) -> settings.Settings | None:
    """Check all settings of a request together; return them, or None if there is an error.

    ``proxied_url``: the URL of the ``<Proxy>`` section, or else of the ProxyPass; None for the gateway. ``default``:
    the directive whose line is reported for a missing setting. ``place``: where the bucket is used, to list it; None
    for a part of the requests of a mount.
    """
    given = s3_variables(variables)

    def list_bucket(chosen: settings.Settings | str) -> None:
        if place is not None:
            findings.buckets.append(BucketUse(place, default, tuple(given), chosen, reads_files))

    if not check_values(findings, variables, reads_files):
        list_bucket("a setting is not valid: see the error log, or run apachectl configtest")
        return None
    pairs = tuple((value.name, value.value) for value in given)
    try:
        chosen = settings.parse(pairs) if proxied_url is None else section_settings.parse(pairs, proxied_url)
    except SettingError as error:
        text = str(error)
        list_bucket(text)
        named = [value for value in given if value.value and text.startswith(f"{value.name} ")]
        is_forbidden = proxied_url is not None and any(is_gateway_only(value.name) for value in given if value.value)
        code = FindingCode.GATEWAY_ONLY_SETTING if is_forbidden else FindingCode.INCONSISTENT_SETTINGS
        findings.error(code, named[0].directive if named else default, text)
        return None
    list_bucket(chosen)
    return chosen


def _add_files(findings: Findings, variables: Variables) -> None:
    for name, value in variables.items():
        setting = _BY_LOWERCASE.get(name, "")
        if setting.endswith("File") and value.value:
            findings.add_file(setting, value.value, value.directive, not setting.startswith("S3Fallback"))
