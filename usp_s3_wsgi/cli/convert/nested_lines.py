"""The lines of a configuration with the sections around them, and indexes of them.

A configuration may have thousands of virtual hosts and buckets: what is looked up for each of them is indexed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from usp_s3_wsgi.configtest.apache_syntax import Enclosing, Line, Section, quoted

T = TypeVar("T")

#: Sections that httpd evaluates when it reads the configuration: they only decide whether it reads the lines within.
CONFIGURATION_TIME_TESTS = {"ifmodule", "ifdefine", "ifversion", "iffile", "ifdirective", "ifsection"}


class NestedLine(NamedTuple):
    """A line and the sections around it, outermost first."""

    line: Line
    enclosing: Enclosing


NestedLines: TypeAlias = Sequence[NestedLine]


def owning_section(enclosing: Enclosing) -> Section | None:
    """Return the section that a line configures; None for a virtual host or the main server."""
    inner = [
        section for section in enclosing if section.name not in {*CONFIGURATION_TIME_TESTS, "limit", "limitexcept"}
    ]
    return inner[-1] if inner and inner[-1].name != "virtualhost" else None


def virtual_host(enclosing: Enclosing) -> int:
    """Return the line number of the virtual host, 0 for the main server."""
    return next((section.opening.number for section in enclosing if section.name == "virtualhost"), 0)


def section_tags(section: Section) -> tuple[str, str]:
    """Return the opening and the closing tag of a section, each without continuations."""
    name = section.opening.words[0].value
    return f"{' '.join((name, *map(quoted, section.opening.arguments)))}>", f"</{name[1:]}>"


def defined_variables(lines: Iterable[NestedLine]) -> dict[str, str]:
    """Return the variables that the file itself defines."""
    defines = (line.arguments for line, _ in lines if line.name == "define")
    return {words[0]: words[1] for words in defines if len(words) == 2}


def _outer_paths(path: str) -> Iterator[str]:
    """Yield each path that a path is at or below, without a slash at the end."""
    whole = f"{path.rstrip('/')}/"
    return (whole[:end] for end, character in enumerate(whole) if character == "/")


class PathIndex(Generic[T]):
    """Values by path and virtual host, in the order in which they were added."""

    def __init__(self, entries: Iterable[tuple[Enclosing, str, T]]) -> None:
        self._at: dict[tuple[int | None, str], list[tuple[int, T]]] = defaultdict(list)
        self._at_or_below: dict[tuple[int | None, str], list[tuple[int, T]]] = defaultdict(list)
        for number, (enclosing, path, value) in enumerate(entries):
            for host in (virtual_host(enclosing), None):
                self._at[host, path.rstrip("/")].append((number, value))
                for outer in _outer_paths(path):
                    self._at_or_below[host, outer].append((number, value))

    def at_or_above(self, path: str, hosts: Iterable[int | None]) -> list[T]:
        """Return the values whose path is the same or above, in these virtual hosts; None stands for all of them."""
        found = [entry for host in hosts for outer in _outer_paths(path) for entry in self._at.get((host, outer), ())]
        return [value for _, value in sorted(found, key=lambda entry: entry[0])]

    def at_or_below(self, path: str, hosts: Iterable[int | None]) -> list[T]:
        """Return the values whose path is the same or below, in these virtual hosts."""
        found = [entry for host in hosts for entry in self._at_or_below.get((host, path.rstrip("/")), ())]
        return [value for _, value in sorted(found, key=lambda entry: entry[0])]


def scope(enclosing: Enclosing) -> tuple[int | None]:
    """Return the virtual hosts that a section is for: its own, or all of them (None) if it is in the main server."""
    return (virtual_host(enclosing) or None,)


class ScopeIndex:
    """Lines by the sections that they are directly in, apart from configuration-time tests."""

    def __init__(self, lines: Iterable[NestedLine]) -> None:
        self._lines: dict[tuple[int, ...], list[NestedLine]] = defaultdict(list)
        for nested in lines:
            self._lines[_section_numbers(nested.enclosing)].append(nested)

    def applying_in(self, enclosing: Enclosing) -> list[NestedLine]:
        """Return the lines that apply in these sections: those in the same sections, or in outer ones."""
        numbers = _section_numbers(enclosing)
        found = [nested for end in range(len(numbers) + 1) for nested in self._lines.get(numbers[:end], ())]
        return sorted(found, key=lambda nested: nested.line.number)


def _section_numbers(enclosing: Enclosing) -> tuple[int, ...]:
    return tuple(section.opening.number for section in enclosing if section.name not in CONFIGURATION_TIME_TESTS)
