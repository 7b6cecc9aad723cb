"""One place's settings, by the settings' own parser: what is wrong with them, and in which line."""

from __future__ import annotations

from usp_s3_wsgi.config import settings
from usp_s3_wsgi.configtest.findings import Findings
from usp_s3_wsgi.configtest.parsed_config import Directive
from usp_s3_wsgi.configtest.server_config import Value, Variables
from usp_s3_wsgi.errors import SettingError
from usp_s3_wsgi.proxy import callbacks

_BY_LOWERCASE = {name.lower(): name for name in settings.NAMES}


def of_settings(variables: Variables) -> list[Value]:
    """Return what the parser is told of variables: those that may be settings."""
    return [value for name, value in variables.items() if name.startswith("s3")]


def judge_values(findings: Findings, variables: Variables, reads_files: bool = True) -> bool:
    """Tell which values are not allowed, each by itself, and have the files read; whether there is none such.

    ``reads_files``: it is the user of httpd's children that reads them.
    """
    is_right = True
    for value in of_settings(variables):
        try:
            settings.check_value(value.name, value.value)
        except SettingError as error:
            findings.error(value.directive, str(error))
            is_right = False
    if is_right and reads_files:
        _read_files(findings, variables)
    return is_right


def warn_of_misspelt(findings: Findings, variables: Variables) -> None:
    """Tell which names are nearly those of settings, where no setting shows that they are meant for us."""
    for value in of_settings(variables):
        try:
            if not value.name.isupper():  # another program's
                settings.check_value(value.name, value.value)
        except SettingError as error:
            findings.warning(value.directive, str(error))


def judge(
    findings: Findings, variables: Variables, proxied: str | None, where: Directive, reads_files: bool = True
) -> settings.Settings | None:
    """Tell what is wrong with all the settings of a place; ``where``: the line to name for what is missing.

    ``proxied``: the URL of the ``<Proxy>`` section, or else of the ProxyPass; None for the gateway.
    """
    if not judge_values(findings, variables, reads_files):
        return None
    given = of_settings(variables)
    pairs = tuple((value.name, value.value) for value in given)
    try:
        return settings.parse(pairs) if proxied is None else callbacks.parse_settings(pairs, proxied)
    except SettingError as error:
        text = str(error)
        named = [value for value in given if value.value and text.startswith(f"{value.name} ")]
        findings.error(named[0].directive if named else where, text)
        return None


def _read_files(findings: Findings, variables: Variables) -> None:
    for name, value in variables.items():
        known = _BY_LOWERCASE.get(name, "")
        if known.endswith("File") and value.value:
            findings.read(known, value.value, value.directive, not known.startswith("S3Fallback"))
