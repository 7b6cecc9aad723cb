"""Findings, which httpd prints or logs, and the files that are still to be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from usp_s3_wsgi.configtest.bucket_use import BucketUse
from usp_s3_wsgi.configtest.finding_codes import FindingCode
from usp_s3_wsgi.configtest.parsed_config import Directive

#: More lines do not help, when one mistake is repeated in thousands of sections.
_MAX_FINDINGS = 100


class Finding(NamedTuple):
    """One line. An error: every request of a section fails. Without a file, it is about the whole configuration."""

    is_error: bool
    file: str
    line: int
    code: FindingCode
    text: str

    def fields(self) -> tuple[str, str, str, str, str]:
        """Return the fields as ``mod_usp_s3/configtest.c`` reads them."""
        level = "error" if self.is_error else "warning"
        return (level, self.file, str(self.line), str(self.code), self.text.replace("\0", ""))


class ReferencedFile(NamedTuple):
    """A file that a setting names. ``is_required``: every request of a section fails without it."""

    setting: str
    path: str
    directive: Directive
    is_required: bool


@dataclass
class Findings:
    """The findings of all checks, without duplicates; and where buckets are used."""

    found: dict[Finding, None] = field(default_factory=dict)
    files: dict[tuple[str, str, int], ReferencedFile] = field(default_factory=dict)
    buckets: list[BucketUse] = field(default_factory=list)

    def error(self, code: FindingCode, directive: Directive, text: str) -> None:
        """Every request of a section fails."""
        self.found.setdefault(Finding(True, directive.file, directive.line, code, text))

    def warning(self, code: FindingCode, directive: Directive, text: str) -> None:
        """Something is probably a mistake, or could not be checked."""
        self.found.setdefault(Finding(False, directive.file, directive.line, code, text))

    def note(self, code: FindingCode, text: str) -> None:
        """A warning that is not about a line of the configuration."""
        self.found.setdefault(Finding(False, "", 0, code, text))

    def add_file(self, setting: str, path: str, directive: Directive, is_required: bool) -> None:
        """Add a file that is read after all other checks."""
        self.files[setting, directive.file, directive.line] = ReferencedFile(setting, path, directive, is_required)

    def sorted(self) -> list[Finding]:
        """Return the findings in the order of the configuration's files, with a limit on their number."""
        findings = sorted(self.found, key=lambda finding: (finding.file, finding.line, finding.text))
        if len(findings) <= _MAX_FINDINGS:
            return findings
        # Errors first: "httpd -t" must fail if there is one.
        findings.sort(key=lambda finding: not finding.is_error)
        suppressed = len(findings) - _MAX_FINDINGS
        note = Finding(False, "", 0, FindingCode.FINDINGS_SUPPRESSED, f"{suppressed} more findings are not shown")
        return [*findings[:_MAX_FINDINGS], note]
