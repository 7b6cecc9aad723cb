"""What is to be told, and which files are to be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from usp_s3_wsgi.configtest.parsed_config import Directive

#: More lines help nobody, where one mistake is in thousands of sections.
_MOST = 100


class Finding(NamedTuple):
    """One line. An error: every request of a place fails. Without a file it is about the whole configuration."""

    is_error: bool
    file: str
    line: int
    text: str

    def fields(self) -> tuple[str, str, str, str]:
        """As httpd reads it."""
        return ("error" if self.is_error else "warning", self.file, str(self.line), self.text.replace("\0", ""))


class SecretFile(NamedTuple):
    """A file that a setting names. ``is_needed``: without it every request of a place fails."""

    setting: str
    path: str
    directive: Directive
    is_needed: bool


@dataclass
class Findings:
    """The findings of all checks: each once."""

    found: dict[Finding, None] = field(default_factory=dict)
    files: dict[tuple[str, str, int], SecretFile] = field(default_factory=dict)

    def error(self, directive: Directive, text: str) -> None:
        """Every request of a place fails."""
        self.found.setdefault(Finding(True, directive.file, directive.line, text))

    def warning(self, directive: Directive, text: str) -> None:
        """Something is probably not meant so, or could not be checked."""
        self.found.setdefault(Finding(False, directive.file, directive.line, text))

    def note(self, text: str) -> None:
        """A warning about no line of the configuration."""
        self.found.setdefault(Finding(False, "", 0, text))

    def read(self, setting: str, path: str, directive: Directive, is_needed: bool) -> None:
        """Note a file that is to be read when all else is done."""
        self.files[setting, directive.file, directive.line] = SecretFile(setting, path, directive, is_needed)

    def sorted(self) -> list[Finding]:
        """By place in the configuration's files, those of a kind not without end."""
        lines = sorted(self.found, key=lambda finding: (finding.file, finding.line, finding.text))
        if len(lines) <= _MOST:
            return lines
        # The errors first, for "httpd -t" must fail if there is one.
        lines.sort(key=lambda finding: not finding.is_error)
        left_out = len(lines) - _MOST
        return [*lines[:_MOST], Finding(False, "", 0, f"{left_out} more lines like these are left out")]
