"""Apache's configuration text in pieces: lines, directives, sections. Joined they are the text again, byte for byte.

The rules are httpd's own (``ap_cfg_getline`` and ``ap_getword_conf``), so there is no comment at the end of a line, and
a comment that ends in a backslash takes the next line with it. Of a file read with ``newline=""`` CRLF stays too.
https://httpd.apache.org/docs/2.4/configuring.html#syntax
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

# Only LF ends a line, and only these are spaces: str.splitlines and str.split know more of both than httpd does.
_PHYSICAL = re.compile(r"[^\n]*\n|[^\n]+")
_CONTINUED = re.compile(r"\\\r?\n")
_WORD = re.compile(r""" "(?P<double>(?:\\["\\]|[^"])*)"? | '(?P<single>(?:\\['\\]|[^'])*)'? | [^ \t\n\v\f\r]+ """, re.X)


class ApacheConfigError(ValueError):
    """Sections that do not close as they open. The message is the line's number and never a text of the file."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"line {number}: {message}")


class Word(NamedTuple):
    """The name of a directive or an argument: what httpd takes it for, and where in the line's text it stands."""

    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line as httpd counts it, with those that continue it. ``number`` is that of the first, from 1.

    ``text`` is exact, with the end of line if there is one. A blank line and a comment have no ``words``; of a tag
    the first is ``<Name`` or ``</Name``, without the ``>``. Neither is in the repr: they may hold secrets.
    """

    number: int
    text: str = field(repr=False)
    words: tuple[Word, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The name in lowercase: ``proxypass``, ``<proxy``, ``</proxy``; of blank lines and comments empty."""
        return self.words[0].value.lower() if self.words else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments without quotes and escapes."""
        return tuple(word.value for word in self.words[1:])

    @property
    def indent(self) -> str:
        """The space before the first word, as it stands: a continuation is possible in it."""
        return self.text[: self.words[0].start] if self.words else ""

    def with_word(self, index: int, text: str) -> str:
        """Return the line's text with another text where this word stood, quotes included."""
        word = self.words[index]
        return self.text[: word.start] + text + self.text[word.end :]


@dataclass(frozen=True, slots=True)
class Section:
    """``<Name arguments>`` to ``</Name>``."""

    opening: Line
    body: tuple[Node, ...]
    closing: Line

    @property
    def name(self) -> str:
        """The name in lowercase: ``proxy``."""
        return self.opening.name[1:]


Node: TypeAlias = "Line | Section"
Around: TypeAlias = tuple[Section, ...]


def parse(text: str) -> tuple[Node, ...]:
    """Return the pieces of a configuration.

    Raises:
        ApacheConfigError: a section is not closed, or closed by another tag, or a tag has no ``>``.
    """
    body: list[Node] = []
    opened: list[tuple[Line, list[Node]]] = []
    for line in _lines(text):
        if line.name.startswith("</"):
            opening, outer = opened.pop() if opened else (None, body)
            if opening is None:
                raise ApacheConfigError(line.number, "this tag closes a section that is not open")
            if line.name[2:] != opening.name[1:]:
                raise ApacheConfigError(line.number, f"this tag does not close the section of line {opening.number}")
            outer.append(Section(opening, tuple(body), line))
            body = outer
        elif line.name.startswith("<"):
            opened.append((line, body))
            body = []
        else:
            body.append(line)
    if opened:
        raise ApacheConfigError(opened[-1][0].number, "this section is not closed")
    return tuple(body)


def walk(nodes: Iterable[Node], around: Around = ()) -> Iterator[tuple[Line, Around]]:
    """Every line in the file's order, with the sections around it, outermost first. A section's tags are in it."""
    for node in nodes:
        if isinstance(node, Line):
            yield node, around
        else:
            inner = (*around, node)
            yield node.opening, inner
            yield from walk(node.body, inner)
            yield node.closing, inner


def render(nodes: Iterable[Node]) -> str:
    """Return the text that :func:`parse` was given."""
    return "".join(line.text for line, _ in walk(nodes))


def split(arguments: str) -> tuple[str, ...]:
    """Return the words of a directive's arguments, without continuations, as httpd takes one after the other."""
    return tuple(_value(match) for match in _WORD.finditer(arguments))


def quoted(value: str) -> str:
    """Return the value as an argument: as it is, or in double quotes where httpd would take it for something else."""
    if value and not re.search(r"""[ \t\n\v\f\r"'\\<>]""", value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _lines(text: str) -> Iterator[Line]:
    held, number, first = "", 0, 1
    for piece in _PHYSICAL.findall(text):
        held, number = held + piece, number + 1
        if not piece.endswith(("\\\n", "\\\r\n")):
            yield Line(first, held, _words(held, first))
            held, first = "", number + 1
    if held:
        yield Line(first, held, _words(held, first))


def _words(text: str, number: int) -> tuple[Word, ...]:
    logical, places = _joined(text)
    if (start := logical.lstrip(" \t\n\v\f\r")).startswith("#"):
        return ()
    if start.startswith("<"):
        # httpd looks for the last one, and at nothing behind it.
        logical, closed, _ = logical.rpartition(">")
        if not closed:
            raise ApacheConfigError(number, "this tag has no >")
    return tuple(
        # The place of the last character, plus one: a continuation may follow the word.
        Word(_value(match), places[match.start()], places[match.end() - 1] + 1)
        for match in _WORD.finditer(logical)
    )


def _joined(text: str) -> tuple[str, list[int]]:
    """Return the text without continuations, and where in it each character stood."""
    skipped = {place for match in _CONTINUED.finditer(text) for place in range(*match.span())}
    places = [place for place in range(len(text)) if place not in skipped]
    return "".join(text[place] for place in places), places


def _value(match: re.Match[str]) -> str:
    """A backslash escapes itself and the quote around the word, nothing else."""
    if (text := match["double"]) is not None:
        return re.sub(r"""\\(["\\])""", r"\1", text)
    if (text := match["single"]) is not None:
        return re.sub(r"""\\(['\\])""", r"\1", text)
    return match[0].replace("\\\\", "\\")
