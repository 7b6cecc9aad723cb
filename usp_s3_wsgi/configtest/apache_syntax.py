"""A lossless parser of Apache's configuration files: lines, directives, sections.

:func:`render` returns the parsed text byte for byte. The rules are httpd's own (``ap_cfg_getline`` and
``ap_getword_conf``): there are no comments at the end of a line, and a comment that ends in a backslash continues in
the next line. CRLF is kept if the file was read with ``newline=""``.
https://httpd.apache.org/docs/2.4/configuring.html#syntax
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

# Only LF ends a line, and only these characters are spaces: str.splitlines and str.split accept more than httpd does.
_SPACES = " \t\n\v\f\r"
_PHYSICAL_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_CONTINUATION = re.compile(r"\\\r?\n")
_WORD = re.compile(r""" "(?P<double>(?:\\["\\]|[^"])*)"? | '(?P<single>(?:\\['\\]|[^'])*)'? | [^ \t\n\v\f\r]+ """, re.X)
#: Sections in each other. Far deeper ones would exceed Python's limit of recursion.
_MAX_NESTING = 50


class ApacheConfigError(ValueError):
    """Sections are not nested correctly. The message contains the line number, and never text of the file."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"line {number}: {message}")


class Word(NamedTuple):
    """The name of a directive or an argument: its value for httpd, and its position in the text of the line."""

    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Line:
    """A logical line, with its continuations. ``number`` is that of the first physical line, from 1.

    ``text`` is exact, with the end of line if there is one. A blank line and a comment have no ``words``; the first
    word of a tag is ``<Name`` or ``</Name``, without the ``>``. The repr leaves both out: they may contain secrets.
    """

    number: int
    text: str = field(repr=False)
    words: tuple[Word, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The name in lowercase: ``proxypass``, ``<proxy``, ``</proxy``; empty for blank lines and comments."""
        return self.words[0].value.lower() if self.words else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments without quotes and escapes."""
        return tuple(word.value for word in self.words[1:])

    @property
    def indent(self) -> str:
        """The white space before the first word, exactly: it may contain a continuation."""
        return self.text[: self.words[0].start] if self.words else ""

    def with_word(self, index: int, text: str) -> str:
        """Return the text of the line with a word replaced, including its quotes."""
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
#: The sections around a line, outermost first.
Enclosing: TypeAlias = tuple[Section, ...]


def parse(text: str) -> tuple[Node, ...]:
    """Return the lines and sections of a configuration.

    Raises:
        ApacheConfigError: a section is not closed, or closed by a different tag, or a tag has no ``>``, or sections are
            nested more than 50 deep.
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
            if len(opened) == _MAX_NESTING:
                raise ApacheConfigError(line.number, f"sections are nested more than {_MAX_NESTING} deep")
            opened.append((line, body))
            body = []
        else:
            body.append(line)
    if opened:
        raise ApacheConfigError(opened[-1][0].number, "this section is not closed")
    return tuple(body)


def walk(nodes: Iterable[Node], enclosing: Enclosing = ()) -> Iterator[tuple[Line, Enclosing]]:
    """Yield every line in order, with the sections around it, outermost first. Tags count as lines of their section."""
    for node in nodes:
        if isinstance(node, Line):
            yield node, enclosing
        else:
            inner = (*enclosing, node)
            yield node.opening, inner
            yield from walk(node.body, inner)
            yield node.closing, inner


def render(nodes: Iterable[Node]) -> str:
    """Return the text that :func:`parse` got."""
    return "".join(line.text for line, _ in walk(nodes))


def split(arguments: str) -> tuple[str, ...]:
    """Return the words of a directive's arguments (without continuations), as httpd splits them."""
    return tuple(_value(match) for match in _WORD.finditer(arguments))


def quoted(value: str) -> str:
    """Return the value as an argument: in double quotes if httpd would read it differently without them."""
    return value if value and not re.search(r"""[ \t\n\v\f\r"'\\<>]""", value) else in_quotes(value)


def in_quotes(value: str) -> str:
    """Return the value as an argument in double quotes."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _lines(text: str) -> Iterator[Line]:
    logical, number, first = "", 0, 1
    for physical in _PHYSICAL_LINE.findall(text):
        logical, number = logical + physical, number + 1
        if not physical.endswith(("\\\n", "\\\r\n")):
            yield Line(first, logical, _words(logical, first))
            logical, first = "", number + 1
    if logical:
        yield Line(first, logical, _words(logical, first))


def _words(text: str, number: int) -> tuple[Word, ...]:
    logical, positions = _without_continuations(text)
    logical = logical.rstrip(_SPACES)  # as httpd does first: a quote that is not closed ends with the line
    if (start := logical.lstrip(_SPACES)).startswith("#"):
        return ()
    if start.startswith("<"):
        # httpd searches for the last one, and ignores what follows it.
        logical, closed, _ = logical.rpartition(">")
        if not closed:
            raise ApacheConfigError(number, "this tag has no >")
    return tuple(
        # The position of the last character, plus one: a continuation may follow the word.
        Word(_value(match), positions[match.start()], positions[match.end() - 1] + 1)
        for match in _WORD.finditer(logical)
    )


def _without_continuations(text: str) -> tuple[str, list[int]]:
    """Return the text without continuations, and the original position of each character."""
    skipped = {position for match in _CONTINUATION.finditer(text) for position in range(*match.span())}
    positions = [position for position in range(len(text)) if position not in skipped]
    return "".join(text[position] for position in positions), positions


def _value(match: re.Match[str]) -> str:
    """Return the value of a word: a backslash escapes itself and the quote around the word, nothing else."""
    if (text := match["double"]) is not None:
        return re.sub(r"""\\(["\\])""", r"\1", text)
    if (text := match["single"]) is not None:
        return re.sub(r"""\\(['\\])""", r"\1", text)
    return match[0].replace("\\\\", "\\")
