"""The sections that contain S3 directives: those of mod_unified_s3_auth."""

from __future__ import annotations

from typing import NamedTuple

from usp_s3_wsgi.cli.convert.line_edits import LineEdits
from usp_s3_wsgi.cli.convert.mod_unified_s3_auth import S3_DIRECTIVES, is_mod_unified_s3_auth_line
from usp_s3_wsgi.cli.convert.nested_lines import CONFIGURATION_TIME_TESTS, NestedLines, owning_section, virtual_host
from usp_s3_wsgi.configtest.apache_syntax import Enclosing, Line, Section, walk


class S3Section(NamedTuple):
    """A ``<Proxy>``, ``<Location>`` or the like with S3 directives, also within IfModule and the like."""

    section: Section
    enclosing: Enclosing
    directives: tuple[Line, ...]

    @property
    def path(self) -> str | None:
        """The path of a ``<Location>`` that has one, not a pattern."""
        return location_path(self.section)


def location_path(section: Section) -> str | None:
    """Return the path of a ``<Location>`` that has one, not a pattern."""
    words = section.opening.arguments
    is_path = section.name == "location" and len(words) == 1 and words[0].startswith("/")
    return words[0] if is_path else None


def find_s3_sections(lines: NestedLines) -> list[S3Section]:
    """Return the sections in the order of their first S3 directive."""
    found: dict[int, tuple[Section, Enclosing, list[Line]]] = {}
    for line, enclosing in lines:
        if line.name in S3_DIRECTIVES and (section := owning_section(enclosing)):
            outer = enclosing[: enclosing.index(section)]
            found.setdefault(section.opening.number, (section, outer, []))[2].append(line)
    return [S3Section(section, outer, tuple(directives)) for section, outer, directives in found.values()]


def tests_by_directive(s3_section: S3Section) -> dict[int, list[Section]]:
    """Return the configuration-time tests around each directive, by line number; not those for mod_unified_s3_auth."""
    numbers = {directive.number for directive in s3_section.directives}
    return {
        line.number: [
            section
            for section in enclosing
            if section.name in CONFIGURATION_TIME_TESTS and not is_mod_unified_s3_auth_line(section.opening)
        ]
        for line, enclosing in walk(s3_section.section.body)
        if line.number in numbers
    }


def warn_of_directives_outside(lines: NestedLines, edits: LineEdits) -> None:
    """Warn that directives outside of sections are defaults; configtest reports those that nothing uses."""
    checked: set[int] = set()
    hosts = {virtual_host(s3_section.enclosing) for s3_section in find_s3_sections(lines)}
    for line, enclosing in lines:
        host = virtual_host(enclosing)
        if line.name in S3_DIRECTIVES and not owning_section(enclosing) and host not in checked:
            checked.add(host)
            if hosts and (host == 0 or host in hosts):
                edits.warn(
                    line,
                    "S3 directives outside of <Proxy> and <Location> are only defaults for sections with S3 directives "
                    "of their own: other requests are not signed",
                )
